"""simulate --live：照线上的分区、许可证、层级与权重重放没有改动的系统，与实际相差不多。"""

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_simulate import simulate

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token

pytestmark = pytest.mark.faults

# 时刻按整秒记，启动与收尾也要一点时间：平均等待相差不超过这么多。
TOLERANCE_S, TOLERANCE_SHARE = 2.0, 0.2


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    environment = {
        "SCNS_LICENSES": "matlab:1",
        "SCNS_PRIORITY_TYPE": "multifactor",
        "SCNS_PRIORITY_WEIGHTS": json.dumps({"fairshare": 100000, "age": 10}),
        "SCNS_PRIORITY_CALC_PERIOD_S": "1",
    }
    options = ("--nodes", "2", "--cpus", "4", "--memory", "8G")
    with start_system(scratch / "s", *options, environment=environment) as running:
        yield running
    shutil.rmtree(scratch)


def near(replayed: float, actual: float) -> bool:
    return abs(replayed - actual) <= TOLERANCE_S + TOLERANCE_SHARE * actual


def test_the_unchanged_system_replays_as_it_really_went(system: RunningSystem) -> None:
    """两个分区各用一个节点、一个许可证、依赖、三个用户：实际与重放逐用户相近；关掉一样就不像了。"""
    for name, node in (("left", "node1"), ("right", "node2")):
        assert system.call("POST", "/partitions", {"name": name, "nodes": node})[0] == 201
    rng = random.Random(3)
    users = {
        name: RunningSystem(
            system.data_dir, system.process, system.url, issue_token(Settings(data_dir=system.data_dir), name)
        )
        for name in ("alice", "bob", "carol")
    }
    jobs: list[str] = []

    def submit(user: str, seconds: int, **job: Any) -> str:
        job.setdefault("partition", rng.choice(("left", "right")))
        job_id = users[user].submit(f"sleep {seconds}", time_limit="1", memory_per_node="64M", account=user, **job)
        jobs.append(job_id)
        return job_id

    first = submit("alice", 3, partition="left", cpus_per_task=4)
    for _ in range(10):
        submit("alice", rng.randint(1, 3), cpus_per_task=rng.randint(2, 4))
    for _ in range(4):
        submit("bob", rng.randint(1, 3), cpus_per_task=rng.randint(2, 4))
    for _ in range(3):
        submit("carol", 2, licenses="matlab")
    submit("carol", 1, dependency=f"afterok:{first}")

    def done() -> bool:
        return not system.call("GET", "/jobs?state=PENDING,RUNNING&limit=100")[1]["jobs"]

    wait_until(done, 150, "都做完")
    found = json.loads(simulate("--live", "--json", **system.environment).stdout)["policies"]
    assert list(found) == ["actual", "live"]
    actual, live = found["actual"], found["live"]
    assert (actual["jobs"], live["jobs"]) == (len(jobs), len(jobs))
    assert live["never_started"] == {}
    assert near(live["avg_wait_s"], actual["avg_wait_s"]), (live, actual)
    for name in users:
        replayed, really = (each["users"][name]["avg_wait_s"] for each in (live, actual))
        assert near(replayed, really), (name, replayed, really)
    table = simulate("--live", "--policy", "live,conservative", **system.environment).stdout
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["actual", "live", "conservative"]
