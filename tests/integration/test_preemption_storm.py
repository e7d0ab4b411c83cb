"""一阵抢占：两个节点上随机的作业互相挂起、挤掉，中途杀掉调度进程与代理；一个也不丢、不重，资源一点不漏。"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_limits_live import admin

from running_system import RunningSystem, start_system, wait_until

pytestmark = pytest.mark.faults

JOBS = 24


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    environment = {"SCNS_PREEMPT_TYPE": "qos", "SCNS_KILL_WAIT_S": "1", "SCNS_RECONCILE_INTERVAL_S": "1"}
    with start_system(scratch / "s", "--nodes", "2", "--cpus", "4", "--memory", "4G", environment=environment) as found:
        admin(found, "add", "qos", "lent", "preemptmode=suspend", "priority=1")
        admin(found, "add", "qos", "soft", "preemptmode=requeue", "priority=2")
        admin(found, "add", "qos", "middle", "preempt=lent,soft", "preemptmode=suspend", "priority=50")
        admin(found, "add", "qos", "urgent", "preempt=lent,soft,middle", "priority=100")
        yield found
    shutil.rmtree(scratch)


def test_a_storm_of_preemptions_loses_and_doubles_nothing(system: RunningSystem, tmp_path: Path) -> None:
    generator = random.Random(20261125)
    # 先有几个占着，来的才挤得掉它们。
    script = f"sleep 4\necho done >> {tmp_path}/$SLURM_JOB_ID\n"
    jobs = [system.submit(script, qos=qos, tasks=2) for qos in ("soft", "lent", "soft", "lent")]
    for job in jobs:
        wait_until(lambda job=job: system.call("GET", f"/jobs/{job}")[1]["state"] == "RUNNING", 60)
    for number in range(JOBS - len(jobs)):
        wide = generator.random() < 0.2
        tasks = generator.randint(2, 6) if wide else generator.randint(1, 4)
        seconds = generator.choice([0.2, 0.5, 1.0])
        jobs.append(
            system.submit(
                f"sleep {seconds}\necho done >> {tmp_path}/$SLURM_JOB_ID\n",
                qos=generator.choice(["lent", "lent", "soft", "middle", "urgent"]),
                tasks=tasks,
                minimum_nodes=2 if wide else 1,
                memory_per_node=generator.choice(["64M", "512M"]),
                time_limit="5",
            )
        )
        if number == JOBS // 3:
            system.kill("worker.scheduler.process")
        if number == 2 * JOBS // 3:
            system.kill("worker.agent.process")

    def states() -> Counter[str]:
        rows = system.call("GET", "/jobs?limit=1000&fields=job_id,state")[1]["jobs"]
        return Counter(row["state"] for row in rows)

    def over() -> bool:
        for node in system.call("GET", "/nodes")[1]["nodes"]:
            assert 0 <= node["allocated_cpus"] <= node["cpus"]
            assert 0 <= node["allocated_memory"] <= node["memory"]
        return states() == Counter({"COMPLETED": JOBS})

    wait_until(over, 180, f"全部做完：{states()}")
    rows = {job: system.call("GET", f"/jobs/{job}")[1] for job in jobs}
    for job, row in rows.items():
        # 被挤掉的可能正好写完了那一行：至多每次尝试一行。挂起的接着跑，只有一次尝试。
        written = len((tmp_path / job).read_text().split())
        assert 1 <= written <= row["restart_count"] + 1, row
        assert row["restart_count"] == 0 or row["qos"] == "soft", row
        # 挤掉一次，就有一个抢占者先启动：不会没完没了。
        assert row["restart_count"] < JOBS, row
    assert any(row["restart_count"] for row in rows.values())
    histories = {
        job: [event["cause"] for event in system.call("GET", f"/jobs/{job}/events")[1]["events"]] for job in jobs
    }
    # 真的有过抢占；挂起的都恢复了，除非它正好做完。
    after = Counter(
        causes[index + 1] for causes in histories.values() for index, cause in enumerate(causes) if cause == "preempt"
    )
    assert after["resume"] > 0
    assert after.keys() <= {"resume", "exit"}, histories
    for node in system.call("GET", "/nodes")[1]["nodes"]:
        assert (node["allocated_cpus"], node["allocated_memory"], node["jobs"]) == (0, 0, [])
