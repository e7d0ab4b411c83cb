"""simulate --live：照线上的分区、许可证、层级、权重、上限、预留重放没有改动的系统，与实际相差不多。"""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
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
    options = ("--nodes", "2", "--cpus", "4", "--memory", "8G", "--gpus", "2")
    with start_system(scratch / "s", *options, environment=environment) as running:
        yield running
    shutil.rmtree(scratch)


def near(replayed: float, actual: float) -> bool:
    return abs(replayed - actual) <= TOLERANCE_S + TOLERANCE_SHARE * actual


def acting(system: RunningSystem, *names: str) -> dict[str, RunningSystem]:
    """以这些用户的令牌问它。"""
    settings = Settings(data_dir=system.data_dir)
    return {
        name: RunningSystem(system.data_dir, system.process, system.url, issue_token(settings, name)) for name in names
    }


def finish(system: RunningSystem) -> None:
    """等到都做完。"""
    live = "/jobs?state=PENDING,RUNNING,SUSPENDED&limit=100"
    wait_until(lambda: not system.call("GET", live)[1]["jobs"], 150, "都做完")


def test_the_unchanged_system_replays_as_it_really_went(system: RunningSystem) -> None:
    """两个分区各用一个节点、一个许可证、依赖、三个用户：实际与重放逐用户相近；关掉一样就不像了。"""
    for name, node in (("left", "node1"), ("right", "node2")):
        assert system.call("POST", "/partitions", {"name": name, "nodes": node})[0] == 201
    rng = random.Random(3)
    users = acting(system, "alice", "bob", "carol")
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
    finish(system)
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


def test_limits_reservations_exclusive_users_and_holds_replay_as_well(system: RunningSystem) -> None:
    """QOS 每人同时一个、一个预留（里面的等它开始，外面的等它结束）、独占给一个用户的节点、保留过的：逐用户相近。"""
    names = ("dave", "erin", "frank", "gail", "helen", "ivan")
    assert system.call("POST", "/accounts", {"name": "lab"})[0] == 201
    assert system.call("POST", "/qos", {"name": "one", "max_jobs_per_user": 1})[0] == 201
    for name in names:
        body = {"account": "lab", "user": name, "qos": ["normal", "one"]}
        assert system.call("POST", "/associations", body)[0] == 201
    enforced = {"settings": {"accounting_storage_enforce": ["limits"]}}
    assert system.call("POST", "/cluster/apply", enforced)[0] == 200
    users, began = acting(system, *names), time.time()
    start = int(began) + 18
    window = {"name": "demo", "start_time": start, "end_time": start + 10, "nodes": "node1", "users": ["erin"]}
    assert system.call("POST", "/reservations", window)[0] == 201

    def submit(user: str, seconds: int, node: str, limit: str, **job: Any) -> str:
        values = {"memory_per_node": "64M", "required_nodes": node, "account": "lab", "time_limit": limit, **job}
        return users[user].submit(f"sleep {seconds}", **values)

    jobs = [submit("dave", 3, "node1", "0:04", qos="one") for _ in range(3)]
    jobs.append(submit("erin", 2, "node1", "0:05", reservation="demo"))
    jobs.append(submit("frank", 1, "node1", "1"))
    jobs.append(submit("gail", 5, "node2", "1", exclusive="user"))
    jobs.append(submit("helen", 1, "node2", "1"))
    jobs.append(submit("ivan", 1, "node1", "0:02", hold=True))
    wait_until(lambda: time.time() >= began + 4, what="保留了一会儿")
    assert system.call("POST", f"/jobs/{jobs[-1]}/release")[0] == 200
    finish(system)
    since = datetime.fromtimestamp(began, UTC).isoformat()
    found = json.loads(simulate("--live", "--since", since, "--json", **system.environment).stdout)["policies"]
    actual, live = found["actual"], found["live"]
    assert (actual["jobs"], live["jobs"], live["never_started"]) == (len(jobs), len(jobs), {})
    for name in names:
        replayed, really = (each["users"][name]["avg_wait_s"] for each in (live, actual))
        assert near(replayed, really), (name, replayed, really)
    # 真的等了才算数：第二、三个各等前一个，预留里的等开始，外面的等结束，隔开的等它走，保留的等放行。
    waited = {name: actual["users"][name]["avg_wait_s"] for name in names}
    assert waited["dave"] >= 2.8, waited
    assert waited["erin"] >= 10, waited
    assert waited["frank"] >= 20, waited
    assert min(waited["helen"], waited["ivan"]) >= 3, waited
    assert system.call("DELETE", "/reservations/demo")[0] == 204
    assert system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200


def test_a_preempted_job_replays_as_it_really_went(system: RunningSystem) -> None:
    """层级高的抢占，被抢占的重新排队、从头再跑：等到的是最后一次开始。"""
    assert system.call("POST", "/partitions", {"name": "urgent", "nodes": "node2", "priority_tier": 9})[0] == 201
    assert system.call("POST", "/cluster/apply", {"settings": {"preempt_type": "partition_prio"}})[0] == 200
    users, began = acting(system, "jack", "kim"), time.time()
    whole = {"memory_per_node": "64M", "cpus_per_task": 4, "time_limit": "1", "required_nodes": "node2"}
    pushed = users["jack"].submit("sleep 3", **whole)
    system.wait_state(pushed, "RUNNING")
    first = users["kim"].submit("sleep 4", partition="urgent", **whole)
    finish(system)
    since = datetime.fromtimestamp(began, UTC).isoformat()
    found = json.loads(simulate("--live", "--since", since, "--json", **system.environment).stdout)["policies"]
    waits = {name: {user: each["users"][user]["avg_wait_s"] for user in users} for name, each in found.items()}
    assert waits["actual"]["jack"] >= 3.5 > waits["actual"]["kim"], waits
    for name in users:
        assert near(waits["live"][name], waits["actual"][name]), waits
    assert [system.query(job_id)["state"] for job_id in (pushed, first)] == ["COMPLETED", "COMPLETED"]
    assert system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200


def test_time_slices_and_what_ran_before_replay_as_they_really_went(system: RunningSystem) -> None:
    """开始时占着 GPU 的、排着队的、轮流用着 CPU 的都在；之后的照样轮流：逐用户相近，不轮流就不像了。"""
    assert system.call("POST", "/partitions", {"name": "turns", "nodes": "node2", "oversubscribe": "force:2"})[0] == 201
    gang = {"preempt_gang": True, "scheduler_time_slice_s": 2}
    assert system.call("POST", "/cluster/apply", {"settings": gang})[0] == 200
    users = acting(system, "lea", "mia", "nora", "olga", "pete")

    def submit(user: str, seconds: int, **job: Any) -> str:
        # 停着的时候不走：一小段一小段地睡。
        script = f"#!/bin/sh\nfor i in $(seq {seconds * 10}); do sleep 0.1; done"
        values = {"memory_per_node": "64M", "time_limit": "1", "required_nodes": "node1", **job}
        return users[user].submit(script, **values)

    shared = {"partition": "turns", "required_nodes": "node2", "cpus_per_task": 4}
    before = [submit("lea", 10, tres_per_node="gpu:2"), submit("mia", 6, **shared)]
    for job in before:
        system.wait_state(job, "RUNNING")
    before.append(submit("lea", 5, tres_per_node="gpu:2"))
    began = time.time()
    # 第一个与开始时在跑的轮流，第二个等其中一个做完；GPU 的等开始时占着的，再等排在前面的。
    jobs = [submit("nora", 6, **shared), submit("olga", 2, **shared), submit("pete", 2, tres_per_node="gpu:1")]
    finish(system)
    since = datetime.fromtimestamp(began, UTC).isoformat()
    drawn = ("--plots", str(system.data_dir / "plots"))
    found = json.loads(simulate("--live", "--since", since, "--json", *drawn, **system.environment).stdout)["policies"]
    assert {each.name for each in (system.data_dir / "plots").iterdir()} >= {"gantt-actual.svg", "gantt-live.svg"}
    waits = {name: {user: each["users"][user]["avg_wait_s"] for user in ("nora", "olga", "pete")}
             for name, each in found.items()}  # fmt: skip
    assert (found["live"]["jobs"], found["live"]["never_started"]) == (len(jobs), {})
    for name in ("nora", "olga", "pete"):
        assert near(waits["live"][name], waits["actual"][name]), waits
    # 真的轮流过、等过才算数。
    assert waits["actual"]["nora"] <= 4, waits
    assert min(waits["actual"]["olga"], waits["actual"]["pete"]) >= 7, waits
    assert system.query(before[1])["state"] == "COMPLETED"
    assert system.call("GET", f"/jobs/{before[1]}")[1]["suspended_s"] >= 2
    assert system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200
