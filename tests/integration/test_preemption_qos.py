"""按 QOS 抢占对着真的系统：挂起的进程真的停了、CPU 真的借出去又还回来，宽限与豁免时间真的管用。"""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from test_limits_live import admin, until

from lent_systems import set_up
from running_system import RunningSystem, alive, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    found = set_up(lent_system, preempt_type="qos")
    admin(found, "add", "qos", "lent", "preemptmode=suspend", "priority=1")
    admin(found, "add", "qos", "soft", "preemptmode=requeue", "gracetime=30", "priority=2")
    admin(found, "add", "qos", "young", "preemptmode=cancel", "preemptexempttime=00:00:04", "priority=3")
    admin(found, "add", "qos", "urgent", "preempt=lent,soft,young", "priority=100")
    return found


def ticking(tmp_path: Path, name: str) -> str:
    """每 20 毫秒写一行，直到有 go 文件。"""
    return f"while [ ! -e {tmp_path}/go ]; do echo $$ >> {tmp_path}/{name}; sleep 0.02; done\n"


def lines(tmp_path: Path, name: str) -> int:
    path = tmp_path / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def node(system: RunningSystem) -> dict[str, Any]:
    return dict(system.call("GET", "/nodes/node1")[1])


def test_a_suspended_job_lends_its_cpus_and_runs_on_afterwards(system: RunningSystem, tmp_path: Path) -> None:
    low = system.submit(ticking(tmp_path, "low"), qos="lent", tasks=4, memory_per_node="1G")
    wait_until(lambda: lines(tmp_path, "low") > 3, 60, "low 在跑")
    high = system.submit(until(tmp_path, "high-go"), qos="urgent", tasks=3, memory_per_node="1G")
    system.wait_state(high, "RUNNING")
    assert system.query(low)["state"] == "SUSPENDED"
    # 内存留给它自己，CPU 借出去了：节点的计数正好是两者之和，没有超过。
    shown = node(system)
    assert (shown["allocated_cpus"], shown["allocated_memory"]) == (3, 2048)
    pid = int((tmp_path / "low").read_text().split()[0])
    assert alive(pid)
    wait_until(lambda: still(tmp_path, "low"), 60, "low 真的停了")
    # 借着的时候本人不能恢复；要得比剩下的内存多的也等着：它的内存借不出去。
    status, answer = system.call("POST", f"/jobs/{low}/resume")
    assert (status, answer["code"]) == (409, "job_preempted")
    greedy = system.submit("true\n", qos="urgent", memory_per_node="3500M")
    # 比它不要紧的作业抢不走空出来的那个 CPU：攒着给它恢复。
    (tmp_path / "high-go").touch()
    system.wait_state(high, "COMPLETED")
    system.wait_state(low, "RUNNING")
    before = lines(tmp_path, "low")
    wait_until(lambda: lines(tmp_path, "low") > before + 3, 60, "low 接着跑")
    assert node(system)["allocated_cpus"] == 4
    assert system.query(greedy)["state"] == "PENDING"
    (tmp_path / "go").touch()
    for job in (low, greedy):
        system.wait_state(job, "COMPLETED")
    assert system.call("GET", f"/jobs/{low}")[1]["restart_count"] == 0
    assert (node(system)["allocated_cpus"], node(system)["allocated_memory"]) == (0, 0)
    events = [event["cause"] for event in system.call("GET", f"/jobs/{low}/events")[1]["events"]]
    assert events == ["submit", "start", "preempt", "resume", "exit"]


def still(tmp_path: Path, name: str) -> bool:
    before = lines(tmp_path, name)
    time.sleep(0.2)
    return lines(tmp_path, name) == before


def test_lower_jobs_do_not_starve_a_suspended_one(system: RunningSystem, tmp_path: Path) -> None:
    low = system.submit(ticking(tmp_path, "low"), qos="lent", tasks=4)
    wait_until(lambda: lines(tmp_path, "low") > 3, 60, "low 在跑")
    first = system.submit(until(tmp_path, "first"), qos="urgent", tasks=2)
    second = system.submit(until(tmp_path, "second"), qos="urgent", tasks=2)
    for job in (first, second):
        system.wait_state(job, "RUNNING")
    filler = system.submit("true\n", qos="normal", tasks=1)
    (tmp_path / "first").touch()
    system.wait_state(first, "COMPLETED")
    # 空出了两个 CPU，low 要四个：filler 也不许趁机进去。
    wait_until(lambda: system.call("GET", f"/jobs/{filler}")[1]["reason"] != "None", 60, "filler 有了原因")
    assert system.query(filler)["state"] == "PENDING"
    assert system.query(low)["state"] == "SUSPENDED"
    (tmp_path / "second").touch()
    system.wait_state(low, "RUNNING")
    (tmp_path / "go").touch()
    for job in (low, filler):
        system.wait_state(job, "COMPLETED")


def test_a_lent_job_can_be_cancelled_and_a_killed_scheduler_forgets_nothing(
    system: RunningSystem, tmp_path: Path
) -> None:
    low = [system.submit(ticking(tmp_path, f"low{index}"), qos="lent", tasks=2) for index in range(2)]
    for index in range(2):
        wait_until(lambda index=index: lines(tmp_path, f"low{index}") > 3, 60, "在跑")  # type: ignore[misc]
    high = system.submit(until(tmp_path, "high-go"), qos="urgent", tasks=4)
    system.wait_state(high, "RUNNING")
    system.kill("worker.scheduler.process")
    system.call("POST", f"/jobs/cancel/{low[0]}")
    assert system.wait_state(low[0])["state"] == "CANCELLED"
    # 借出的 CPU 不再还一次：计数只剩抢占者的。
    assert node(system)["allocated_cpus"] == 4
    (tmp_path / "high-go").touch()
    system.wait_state(high, "COMPLETED")
    system.wait_state(low[1], "RUNNING")
    (tmp_path / "go").touch()
    system.wait_state(low[1], "COMPLETED")
    assert node(system)["allocated_cpus"] == 0


def test_grace_time_lets_the_victim_finish_its_work(system: RunningSystem, tmp_path: Path) -> None:
    script = (
        f"trap 'echo term >> {tmp_path}/soft; sleep 3; echo saved >> {tmp_path}/soft; exit 0' TERM\n"
        f"echo up >> {tmp_path}/soft\n"
        "while :; do sleep 0.1; done\n"
    )
    soft = system.submit(script, qos="soft", tasks=4, requeue=False)
    wait_until(lambda: lines(tmp_path, "soft") == 1, 60, "soft 在跑")
    high = system.submit("true\n", qos="urgent", tasks=4)
    # KillWait 只有 2 秒，宽限 30 秒：它有时间收尾。
    assert system.wait_state(soft)["state"] == "PREEMPTED"
    assert (tmp_path / "soft").read_text().split() == ["up", "term", "saved"]
    system.wait_state(high, "COMPLETED")


def test_exempt_time_protects_the_young(system: RunningSystem, tmp_path: Path) -> None:
    young = system.submit(until(tmp_path), qos="young", tasks=4)
    system.wait_state(young, "RUNNING")
    high = system.submit("true\n", qos="urgent", tasks=4)

    def told() -> dict[str, Any] | None:
        status, answer = system.call("GET", f"/jobs/{high}/why")
        return answer if status == 200 and ("豁免" in answer["text"] or answer["state"] != "PENDING") else None

    answer = wait_until(told, 60, "说出在等豁免时间过去")
    assert f"可以抢占 {young}（root）" in answer["text"]
    assert answer["preempts"] == [young]
    assert system.wait_state(young, wait_s=60)["state"] == "PREEMPTED"
    started = system.wait_state(high, "COMPLETED")["time"]["start_time"]
    # 说的是至迟。
    assert datetime.fromisoformat(answer["preempts_from"]) <= datetime.fromisoformat(started)
    assert answer["expected_kind"] == "latest"
    row = system.call("GET", f"/jobs/{young}")[1]
    system.wait_state(high, "COMPLETED")
    ran = datetime.fromisoformat(row["end_time"]) - datetime.fromisoformat(row["start_time"])
    assert ran.total_seconds() >= 4
    # 抢占只看 preempt 列表：normal 的谁也不抢、也没人抢它。
    plain = system.submit(until(tmp_path), tasks=4, qos="normal")
    system.wait_state(plain, "RUNNING")
    other = system.submit("true\n", qos="urgent", tasks=1)
    wait_until(lambda: system.call("GET", f"/jobs/{other}")[1]["reason"] == "Resources", 60, "等资源")
    (tmp_path / "go").touch()
    for job in (plain, other):
        system.wait_state(job, "COMPLETED")
