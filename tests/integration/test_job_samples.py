"""作业的用量随时间怎样变化：真的系统，采得很勤；短作业不留下，长的有 CPU 与内存，跟着作业走，只给本人。"""

import os
import signal
from typing import Any

import psycopg
import pytest

from running_system import RunningSystem, as_user, database_url, wait_until
from scns_conductor.client import Client

INTERVAL_S = 0.5
BUSY = "#!/bin/bash\nhead -c 60M /dev/zero | tail -c 60M | (sleep 300; wc -c) &\nwhile :; do :; done\n"


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    """采样的间隔（INTERVAL_S）在 lent_systems.py 里。"""
    return lent_system


def samples(system: RunningSystem, job_id: str, query: str = "") -> dict[str, Any]:
    status, answer = system.call("GET", f"/jobs/{job_id}/samples{query}")
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def database(system: RunningSystem) -> "psycopg.Connection[tuple[Any, ...]]":
    return psycopg.connect(database_url(system))


def rows(system: RunningSystem) -> set[int]:
    with database(system) as connection:
        return {int(job_id) for (job_id,) in connection.execute("SELECT job_id FROM job_samples").fetchall()}


def test_running_job_is_watched_live_and_kept_afterwards(system: RunningSystem) -> None:
    job_id = system.submit(BUSY)
    system.wait_state(job_id, "RUNNING")
    seen: dict[str, Any] = {}

    def shown() -> bool:
        seen.update(samples(system, job_id, "?live=true"))
        total = seen["total"]
        # 一个死循环（机器再忙也轮得到它），一个攥着 60M 的 tail。
        return bool(
            total
            and len(total["cpus"]) >= 4
            and max(total["cpus"]) > 0.05
            and max(value or 0 for value in total["memory_mb"]) >= 55
        )

    wait_until(shown)
    found = seen
    assert found["running"]
    total = found["total"]
    assert found["nodes"][0]["cpus"] == total["cpus"]
    assert max(total["cpus"]) < 2.5
    assert total["gpus"] is None
    system.call("POST", f"/jobs/cancel/{job_id}")
    system.wait_state(job_id)
    after = samples(system, job_id)
    assert not after["running"]
    assert after["total"]["elapsed_s"] >= total["elapsed_s"]
    assert after["total"]["since"] == total["since"]
    with Client(system.url, system.token) as client:
        assert list(client.samples(job_id).total.cpus) == after["total"]["cpus"]


def test_nodes_add_up_to_one_curve(system: RunningSystem) -> None:
    job_id = system.submit("#!/bin/bash\ntrue\n")
    system.wait_state(job_id)
    with database(system) as connection:
        # 第二个节点晚开始 15 秒，格子宽一倍，采到的短一些。
        connection.execute(
            """INSERT INTO job_samples (job_id, restart_count, node_name, since, width_s, elapsed_s, cpu_s, memory_mb)
            SELECT %(job)s, 0, name, '2026-01-01T00:00:00Z'::timestamptz + late * interval '1 second', width, elapsed,
              cpu::real[], memory::integer[]
            FROM (VALUES ('a', 0, 10, 40, '{10,10,20,20}', '{100,NULL,300,200}'),
                         ('b', 15, 20, 30, '{40,5}', '{7,9}'))
              AS v(name, late, width, elapsed, cpu, memory)""",
            {"job": job_id},
        )
    found = samples(system, job_id)
    assert [each["node_name"] for each in found["nodes"]] == ["a", "b"]
    assert found["nodes"][1]["cpus"] == [2, 0.5]
    total = found["total"]
    assert (total["width_s"], total["elapsed_s"]) == (20, 45)
    # b 的头一格 15–35 秒：5 秒在第一格，15 秒在第二格；第二格 35–45 秒。
    assert total["cpus"] == [(20 + 10) / 20, (40 + 30 + 2.5) / 20, 2.5 / 5]
    assert total["memory_mb"] == [107, 309, None]


def test_short_jobs_leave_nothing(system: RunningSystem) -> None:
    array = system.submit("#!/bin/bash\ntrue\n", array="0-49")
    wait_until(lambda: system.call("GET", f"/jobs/arrays?job_id={array}")[1]["arrays"][0]["done"] == 50)
    # 一个跑得够久的写下了，前面的短作业若要写也早写了。
    marker = system.submit("#!/bin/bash\nsleep 60\n")
    wait_until(lambda: samples(system, marker, "?live=true")["total"])
    system.call("POST", f"/jobs/cancel/{marker}")
    kept = rows(system)
    assert int(marker) in kept
    assert not kept & set(range(int(array), int(array) + 50))
    assert samples(system, array)["total"] is None


def test_a_job_says_how_often_it_is_sampled_or_not_at_all(system: RunningSystem) -> None:
    """sbatch 的 --acctg-freq、--profile（写在环境里）。"""
    asked = {
        "often": {"SLURM_ACCTG_FREQ": "task=3"},
        "off": {"SLURM_ACCTG_FREQ": "0"},
        "none": {"SLURM_PROFILE": "None"},
    }
    jobs = {name: system.submit("#!/bin/bash\nsleep 60\n", environment=said) for name, said in asked.items()}
    try:
        total = wait_until(lambda: samples(system, jobs["often"], "?live=true")["total"])
        # 宽 3 秒的格，或者并过的。
        assert total["width_s"] in {3.0 * 2**times for times in range(6)}
        for name in ("off", "none"):
            system.wait_state(jobs[name], "RUNNING")
            assert samples(system, jobs[name], "?live=true")["total"] is None
    finally:
        for job_id in jobs.values():
            system.call("POST", f"/jobs/cancel/{job_id}")


def test_samples_are_private_and_go_with_the_job(system: RunningSystem) -> None:
    job_id = system.submit("#!/bin/bash\nsleep 60\n")
    wait_until(lambda: system.query(job_id)["state"] == "RUNNING" and samples(system, job_id, "?live=true")["total"])
    other = as_user(system, "somebody-else")
    status, answer = other.call("GET", f"/jobs/{job_id}/samples")
    assert (status, answer["code"]) == (403, "not_job_owner")
    assert system.call("GET", f"/jobs/{job_id}/samples?attempt=7")[1]["total"] is None
    assert system.call("GET", "/jobs/999999/samples")[0] == 404
    assert system.call("GET", f"/jobs/{job_id}/samples?attempt=-1")[0] == 422
    system.call("POST", f"/jobs/cancel/{job_id}")
    system.wait_state(job_id)
    with database(system) as connection:
        connection.execute("DELETE FROM jobs WHERE job_id = %s", (job_id,))
    assert int(job_id) not in rows(system)


@pytest.mark.faults
def test_agent_restart_goes_on_where_it_was(system: RunningSystem) -> None:
    job_id = system.submit("#!/bin/bash\nwhile :; do :; done\n")
    before = wait_until(
        lambda: system.query(job_id)["state"] == "RUNNING" and samples(system, job_id, "?live=true")["total"]
    )
    node = system.query(job_id)["detail"]["node_list"]
    silent = system.submit("#!/bin/bash\nsleep 300\n", required_nodes=node, environment={"SLURM_PROFILE": "None"})
    system.wait_state(silent, "RUNNING")
    os.kill(_agent(system, node), signal.SIGKILL)
    after = wait_until(
        lambda: (
            (total := samples(system, job_id, "?live=true")["total"])["elapsed_s"] > before["elapsed_s"] + 2 and total
        )
    )
    assert after["since"] == before["since"]
    assert after["cpus"][0] == pytest.approx(before["cpus"][0], abs=0.01) or after["width_s"] != before["width_s"]
    # 不要采样的，重新起来的代理也知道。
    assert samples(system, silent, "?live=true")["total"] is None
    for each in (job_id, silent):
        system.call("POST", f"/jobs/cancel/{each}")
        system.wait_state(each)


def _agent(system: RunningSystem, node: str) -> int:
    """这个节点的代理：输出写到它的日志的。"""
    (found,) = (
        pid
        for pid in system.services("worker.agent.process")
        if os.readlink(f"/proc/{pid}/fd/1").endswith(f"agent-{node}.log")
    )
    return found
