"""root 的作业：节点不会运行的，提交时就拒绝。"""

import pytest

from scns_conductor.client.problems import RootJobsDisabled
from scns_conductor.core.errors import Forbidden
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.cluster_limits import ClusterLimits, PartitionLimits
from scns_conductor.services.new_job import Submitter, new_job
from scns_conductor.slurm.session import refusal_details


def submitted_by(user_name: str, settings: Settings) -> str:
    main = PartitionLimits("main", True, None, None, 1, None, None, None, None)
    limits = ClusterLimits({"main": main})
    row = new_job({}, "true\n", Submitter(Identity(user_name, admin=True)), limits, settings)
    return str(row["user_name"])


def test_root_is_refused_where_the_nodes_would_refuse_it() -> None:
    with pytest.raises(Forbidden) as refused:
        submitted_by("root", Settings(single_user=False, allow_root_jobs=False))
    assert refused.value.code == "root_jobs_disabled"
    assert "SCNS_ALLOW_ROOT_JOBS" in refused.value.detail
    assert submitted_by("alice", Settings(single_user=False, allow_root_jobs=False)) == "alice"


@pytest.mark.parametrize("setting", ["single_user", "allow_root_jobs"])
def test_root_is_accepted_where_the_nodes_run_it(setting: str) -> None:
    assert submitted_by("root", Settings(**{setting: True})) == "root"


def test_the_slurm_commands_say_why() -> None:
    """“Access/permission denied”之前另有一行：root 看不出那说的是什么。"""
    refused = RootJobsDisabled(403, "root_jobs_disabled", "不允许")
    assert ["SCNS_ALLOW_ROOT_JOBS" in line for line in refusal_details(refused)] == [True]
