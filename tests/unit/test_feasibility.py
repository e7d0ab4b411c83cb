"""提交时的核对：永远不能启动的当场拒绝，此刻不能启动的接受。"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.models import JobSpec
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.services.cluster_limits import ClusterLimits, PartitionLimits
from scns_conductor.services.placement_check import require_feasible, require_possible_times

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def limits(**licenses: int) -> ClusterLimits:
    cluster = Cluster()
    for number in range(1, 4):
        cluster.upsert_node(NodeFacts(f"node{number}", 8, 16_000, features=frozenset({"fast"}), temporary_disk=1000))
    cluster.upsert_node(
        NodeFacts(
            "big1", 32, 64_000, {"gpu:a100": 4}, frozenset({"fast", "gpu"}), temporary_disk=1000, schedulable=False
        )
    )
    partitions = {"main": "ALL", "small": "node[1-2]", "later": "node[1-2],new[1-4]"}
    facts = {name: PartitionLimits(name, name == "main", None, None, 1, None, None, None, None, nodes=nodes)
             for name, nodes in partitions.items()}  # fmt: skip
    cluster.set_partitions(PartitionFacts(name, each.node_names) for name, each in facts.items())
    return ClusterLimits(facts, cluster=cluster, licenses=licenses)


def code(**job: Any) -> str | None:
    defaults = {name: field.get_default(call_default_factory=True) for name, field in JobSpec.model_fields.items()}
    row = {**defaults, "partition": "main", **job}
    try:
        require_feasible(row, limits(matlab=2), Defaults(), "job.")
    except InvalidRequest as refused:
        return refused.code
    return None


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({}, None),
        ({"memory_per_node": 64_000}, None),
        ({"memory_per_node": 64_001}, "memory_not_satisfiable"),
        ({"memory_per_node": 16_001, "partition": "small"}, "memory_not_satisfiable"),
        ({"memory_per_node": 16_001, "partition": "small,main"}, None),
        ({"memory_per_cpu": 2001, "cpus_per_task": 32}, "memory_not_satisfiable"),
        ({"cpus_per_task": 33}, "cpus_not_satisfiable"),
        ({"minimum_cpus_per_node": 33}, "cpus_not_satisfiable"),
        ({"cpus_per_task": 57}, "cpus_exceed_partition"),
        ({"tasks": 56}, None),
        ({"tasks": 57}, "cpus_exceed_partition"),
        ({"tasks": 33, "maximum_nodes": 1}, "cpus_not_satisfiable"),
        ({"minimum_nodes": 4, "tasks": 4}, None),
        ({"minimum_nodes": 5, "tasks": 5}, "node_count_invalid"),
        ({"minimum_nodes": 3, "tasks": 3, "partition": "small"}, "node_count_invalid"),
        ({"minimum_nodes": 6, "tasks": 6, "partition": "later"}, None),
        ({"required_nodes": "nosuch"}, "node_unknown"),
        ({"excluded_nodes": "node1,nosuch"}, "node_unknown"),
        ({"required_nodes": "new3"}, "node_limits_exceeded"),
        ({"required_nodes": "new3", "partition": "later"}, None),
        ({"required_nodes": "node3", "partition": "small"}, "node_limits_exceeded"),
        ({"required_nodes": "node1,node2", "maximum_nodes": 1}, "node_count_invalid"),
        ({"required_nodes": "big1"}, None),
        ({"constraints": "nosuch"}, "feature_unknown"),
        ({"constraints": "fast|nosuch"}, "feature_unknown"),
        ({"constraints": "fast&gpu"}, None),
        ({"constraints": "gpu", "partition": "small"}, "node_limits_exceeded"),
        ({"tres_per_node": "gpu:a100:4"}, None),
        ({"tres_per_node": "gpu:5"}, "node_limits_exceeded"),
        ({"tres_per_node": "gpu:v100:1"}, "node_limits_exceeded"),
        ({"tres_per_node": "fpga:1"}, "gres_unknown"),
        ({"tres_per_node": "gpu:1", "partition": "small"}, "node_limits_exceeded"),
        ({"temporary_disk_per_node": 1001}, "disk_not_satisfiable"),
        ({"licenses": "matlab:2"}, None),
        ({"licenses": "matlab:3"}, "license_exceeded"),
        ({"licenses": "nosuch"}, "license_unknown"),
    ],
)
def test_only_what_can_never_start_is_refused(job: dict[str, Any], expected: str | None) -> None:
    assert code(**job) == expected


def test_an_empty_cluster_accepts_what_it_cannot_judge() -> None:
    defaults = {name: field.get_default(call_default_factory=True) for name, field in JobSpec.model_fields.items()}
    empty = ClusterLimits({"main": PartitionLimits("main", True, None, None, 1, None, None, None, None)})
    row = {**defaults, "partition": "main", "memory_per_node": 10**6, "required_nodes": "n9", "constraints": "x"}
    require_feasible(row, empty, Defaults(), "")
    with pytest.raises(InvalidRequest):
        require_feasible({**row, "licenses": "matlab"}, empty, Defaults(), "")


def test_the_verdict_is_remembered_per_requirement() -> None:
    known = limits()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in JobSpec.model_fields.items()}
    for _ in range(3):
        require_feasible({**defaults, "partition": "main"}, known, Defaults(), "")
        with pytest.raises(InvalidRequest):
            require_feasible({**defaults, "partition": "main", "tasks": 99}, known, Defaults(), "")
    assert len(known.verdicts) == 2


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"deadline": NOW - timedelta(seconds=1)}, "deadline_past"),
        ({"deadline": NOW + timedelta(minutes=10), "time_limit": 600}, None),
        ({"deadline": NOW + timedelta(minutes=10), "time_limit": 601}, "deadline_unreachable"),
        ({"deadline": NOW + timedelta(minutes=10), "time_limit": 3600, "time_minimum": 300}, None),
        ({"deadline": NOW + timedelta(minutes=10)}, None),
        (
            {"deadline": NOW + timedelta(minutes=10), "begin_time": NOW + timedelta(minutes=9), "time_limit": 120},
            "deadline_unreachable",
        ),
        ({"deadline": NOW + timedelta(minutes=9), "begin_time": NOW + timedelta(minutes=10)}, "deadline_unreachable"),
        ({"time_limit": 300, "time_minimum": 301}, "time_minimum_exceeds_limit"),
        ({"time_limit": 300, "time_minimum": 300}, None),
        ({"time_minimum": 300}, None),
    ],
)
def test_times_that_can_never_be_met_are_refused(times: dict[str, Any], expected: str | None) -> None:
    row = {"time_limit": None, "time_minimum": None, "begin_time": None, "deadline": None, **times}
    if expected is None:
        require_possible_times(row, NOW, "")
        return
    with pytest.raises(InvalidRequest) as caught:
        require_possible_times(row, NOW, "")
    assert caught.value.code == expected
