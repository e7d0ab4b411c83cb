"""抢占对着真的系统：高层级的分区挤掉低层级的；被挤掉的进程真的没了、作业没有丢。"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lent_systems import set_up
from running_system import RunningSystem, alive, as_user, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    found = set_up(lent_system, preempt_type="partition_prio")
    for name, tier, mode in (("high", 10, None), ("low", 1, "requeue"), ("scrap", 1, "cancel"), ("safe", 1, "OFF")):
        body = {"name": name, "priority_tier": tier, "preempt_mode": mode}
        status, answer = found.call("POST", "/partitions", body)
        assert status == 201, answer
    return found


def looping(tmp_path: Path, name: str) -> str:
    """记下每次尝试的进程号，直到有 go 文件。"""
    return f"echo $$ >> {tmp_path}/{name}; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n"


def pids(tmp_path: Path, name: str, count: int = 1) -> list[int]:
    path = tmp_path / name
    return wait_until(lambda: path.exists() and len(path.read_text().split()) >= count, 60, name) and [
        int(word) for word in path.read_text().split()
    ]


def test_a_lower_tier_is_requeued_and_runs_again_later(system: RunningSystem, tmp_path: Path) -> None:
    low = [system.submit(looping(tmp_path, f"low{index}"), partition="low", tasks=2) for index in range(2)]
    first = [pids(tmp_path, f"low{index}")[0] for index in range(2)]
    high = system.submit("sleep 0.5\n", partition="high", tasks=2)
    system.wait_state(high, "COMPLETED")
    # 只挤掉一个，而且是年轻的那个；它随后又跑起来。
    again = pids(tmp_path, "low1", 2)
    assert not alive(first[1])
    assert alive(again[1])
    assert alive(first[0])
    assert len(pids(tmp_path, "low0")) == 1
    events = system.call("GET", f"/jobs/{low[1]}/events")[1]["events"]
    preempted = next(event for event in events if event["to_state"] == "PENDING" and event["from_state"] == "RUNNING")
    assert (preempted["actor"], preempted["message"]) == ("scheduler", f"被作业 {high} 抢占（分区 high）")
    (tmp_path / "go").touch()
    for job in low:
        assert system.wait_state(job)["state"] == "COMPLETED"
    assert [system.call("GET", f"/jobs/{job}")[1]["restart_count"] for job in low] == [0, 1]


def test_a_job_for_one_user_alone_preempts_everybody_elses_on_its_node(system: RunningSystem, tmp_path: Path) -> None:
    """--exclusive=user：CPU 够用，也要别人让出节点；同一个用户的不必走。"""
    nobody = as_user(system, "nobody")
    here = {"required_nodes": "node1", "tasks": 1}
    other = system.submit("echo $$ >> " + str(tmp_path / "other") + "; exec sleep 300\n", partition="low", **here)
    elsewhere = system.submit("exec sleep 300\n", partition="low", required_nodes="node2", tasks=1)
    victim = pids(tmp_path, "other")[0]
    alone = nobody.submit("exec sleep 300\n", partition="high", exclusive="user", **here)
    nobody.wait_state(alone, "RUNNING")
    assert not alive(victim)
    assert system.query(other)["state"] == "PENDING"
    assert system.wait_state(elsewhere, "RUNNING")["detail"]["node_list"] == "node2"
    events = system.call("GET", f"/jobs/{other}/events")[1]["events"]
    assert f"被作业 {alone} 抢占（分区 high）" in [event["message"] for event in events]
    # 同一个用户的同在一个节点上，谁也不用走；它还隔着别人的。
    mate = nobody.submit("exec sleep 300\n", partition="low", **here)
    nobody.wait_state(mate, "RUNNING")
    assert nobody.query(alone)["state"] == "RUNNING"
    assert system.query(other)["state"] == "PENDING"
    for job in (alone, mate):
        nobody.call("POST", f"/jobs/cancel/{job}")
    # 隔着它的走了，被抢占的接着跑。
    assert alive(pids(tmp_path, "other", 2)[1])
    for job in (other, elsewhere):
        system.call("POST", f"/jobs/cancel/{job}")
        system.wait_state(job, "CANCELLED")


def test_a_plan_knows_whom_it_would_preempt(system: RunningSystem, tmp_path: Path) -> None:
    low = [system.submit(looping(tmp_path, f"p{index}"), partition="low", tasks=2) for index in range(2)]
    for index in range(2):
        pids(tmp_path, f"p{index}")
    wanted = {"partition": "high", "tasks": 2, "time_limit": "5", "current_working_directory": "/tmp"}
    plan = system.call("POST", "/jobs/plan", {"job": wanted, "script": "true"})[1]
    assert plan["preempts"] == [low[1]]
    assert (datetime.fromisoformat(plan["start_time"]) - datetime.now(UTC)).total_seconds() < 30
    assert low[1] in plan["text"]
    behind = system.call("POST", "/jobs/plan", {"job": {**wanted, "partition": "low"}, "script": "true"})[1]
    assert (behind["preempts"], behind["start_time"]) == ([], None)
    # 依赖：所依赖的没有时限，说不准。
    after = {**wanted, "dependency": f"afterany:{low[0]}"}
    depending = system.call("POST", "/jobs/plan", {"job": after, "script": "true"})[1]
    assert (depending["reason"], depending["start_time"]) == ("Dependency", None)
    (tmp_path / "go").touch()
    for job in low:
        assert system.wait_state(job)["state"] == "COMPLETED"


def test_cancel_mode_ends_the_victim_and_off_protects(system: RunningSystem, tmp_path: Path) -> None:
    safe = system.submit(looping(tmp_path, "safe"), partition="safe", tasks=2)
    scrap = system.submit(looping(tmp_path, "scrap"), partition="scrap", tasks=2)
    for name in ("safe", "scrap"):
        pids(tmp_path, name)
    wide = system.submit("true\n", partition="high", minimum_nodes=2, tasks=2, exclusive=True)
    narrow = system.submit(looping(tmp_path, "narrow"), partition="high", tasks=2)
    assert system.wait_state(scrap)["state"] == "PREEMPTED"
    pids(tmp_path, "narrow")
    # wide 要两个节点，有一个护着：谁也不为它白白结束。
    assert system.query(wide)["state"] == "PENDING"
    assert system.query(safe)["state"] == "RUNNING"
    (tmp_path / "go").touch()
    for job in (safe, narrow, wide):
        assert system.wait_state(job)["state"] == "COMPLETED"


@pytest.mark.faults
def test_equal_tiers_never_preempt_and_a_killed_scheduler_loses_nothing(system: RunningSystem, tmp_path: Path) -> None:
    low = [system.submit(looping(tmp_path, f"low{index}"), partition="low", tasks=2) for index in range(2)]
    for index in range(2):
        pids(tmp_path, f"low{index}")
    other = system.submit("true\n", partition="low", tasks=2)
    high = system.submit(looping(tmp_path, "high"), partition="high", tasks=4, minimum_nodes=2)
    system.kill("worker.scheduler.process")
    pids(tmp_path, "high")
    assert system.query(other)["state"] == "PENDING"
    (tmp_path / "go").touch()
    for job in (*low, other, high):
        assert system.wait_state(job)["state"] == "COMPLETED"
