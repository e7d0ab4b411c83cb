"""一个代理上作业的一生：登记、环境、启动、时限、取消、重新排队、挂起、信号、日志。各测试合用一个一直在跑的代理。"""

import base64
import os
import signal
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from node_yard import NodeYard, assert_released
from shepherd_yard import wait_until

from own_database import own_database
from scns_conductor.local.engines import Engines


@pytest.fixture(scope="module")
def node(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeYard]:
    work = tmp_path_factory.mktemp("node")
    with own_database(engines, f"t_{uuid.uuid4().hex[:12]}", work) as settings:
        running = NodeYard(settings, work)
        running.start_agent(
            SCNS_NODE_CPUS="1000", SCNS_NODE_MEMORY="64G", SCNS_NODE_GRES="gpu:a100:4", SCNS_NODE_FEATURES="ssd,ib"
        )
        yield running
        running.close()


@pytest.fixture
def yard(node: NodeYard, tmp_path: Path) -> Iterator[NodeYard]:
    """作业写的文件各在各的目录；一个测试完了，节点上什么也不剩。"""
    node.output = tmp_path
    yield node
    assert_released(node)


def test_registration_tells_what_the_node_has(yard: NodeYard) -> None:
    node = yard.node()
    assert (node["cpus"], node["memory"], node["gres"]) == (1000, 65536, {"gpu:a100": 4})
    assert node["features"] == ["ssd", "ib"]
    assert node["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert node["containment"]["kill_all"] in ("cgroup", "subreaper")
    # 做到的与没有做到的说得一致（scns health 照此告诉管理员）。
    sampled = node["containment"]["memory"] == "sampled"
    assert sampled == any("内存" in text for text in node["containment"]["not_enforced"])
    first = node["last_heartbeat"]
    wait_until(lambda: yard.node()["last_heartbeat"] > first, "心跳")


def test_environment_of_the_job(yard: NodeYard) -> None:
    job_id = yard.submit(
        "env\n",
        environment={"MINE": "值", "SLURM_JOB_ID": "lie"},
        tasks=3,
        cpus_per_task=2,
        account="lab",
        time_limit=60,
    )
    yard.start(job_id, cpus=6, tasks=3, gres={"gpu:a100": 2})
    assert yard.ended(job_id)["state"] == "COMPLETED"
    environment = dict(
        line.split("=", 1) for line in (yard.output_of(job_id) or b"").decode().splitlines() if "=" in line
    )
    expected = {
        "MINE": "值",
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_NAME": "测试",
        "SLURM_NTASKS": "3",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_CPUS_ON_NODE": "6",
        "SLURM_JOB_CPUS_PER_NODE": "6",
        "SLURM_TASKS_PER_NODE": "3",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_ACCOUNT": "lab",
        "SLURM_JOB_PARTITION": "main",
        "SLURM_SUBMIT_DIR": str(yard.output),
        "SLURMD_NODENAME": "n1",
        "SLURM_CLUSTER_NAME": "scns",
        "SCNS_JOB_ID": str(job_id),
        "CUDA_VISIBLE_DEVICES": "0,1",
        "SLURM_JOB_GPUS": "0,1",
        "HOME": os.path.expanduser("~"),
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert "SCNS_DATABASE_URL" not in environment
    assert "SCNS_REDIS_URL" not in environment
    (row,) = yard.query("SELECT gres_ids FROM resource_allocations WHERE job_id = :job_id", job_id=job_id)
    assert row["gres_ids"] == {"gpu:a100": [0, 1]}


def test_two_jobs_never_share_a_gpu(yard: NodeYard) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES > gpu.$SLURM_JOB_ID; while [ ! -e go ]; do sleep 0.1; done\n"
    jobs = [yard.submit(script) for _ in range(3)]
    yard.start(jobs[0], gres={"gpu:a100": 3})
    yard.start(jobs[1], gres={"gpu:a100": 1})
    yard.start(jobs[2])
    seen = []
    for job_id in jobs:
        yard.exists(f"gpu.{job_id}")
        wait_until((yard.output / f"gpu.{job_id}").read_text, "写好了")
        seen.append((yard.output / f"gpu.{job_id}").read_text().strip())
    assert sorted(",".join(seen[:2]).split(",")) == ["0", "1", "2", "3"]
    assert seen[2] == ""
    (yard.output / "go").touch()
    assert all(yard.ended(job_id)["state"] == "COMPLETED" for job_id in jobs)
    again = yard.submit("echo $CUDA_VISIBLE_DEVICES\n")
    yard.start(again, gres={"gpu:a100": 4})
    yard.ended(again)
    assert yard.output_of(again) == b"0,1,2,3\n"


def test_job_runs_and_its_truth_is_recorded(yard: NodeYard) -> None:
    job_id = yard.run("#!/bin/bash\necho 你好 $SLURM_JOB_ID; echo oops >&2; exit 3\n", standard_error="%j.err")
    job = yard.ended(job_id)
    assert (job["state"], job["exit_status"], job["exit_signal"]) == ("FAILED", 3, 0)
    assert job["reason"] == "NonZeroExitCode"
    assert timedelta(0) <= job["end_time"] - job["start_time"] < timedelta(seconds=10)
    assert job["max_rss_kb"] > 0
    assert yard.output_of(job_id) == f"你好 {job_id}\n".encode()
    assert yard.output_of(job_id, "stderr") == b"oops\n"
    assert (yard.output / f"slurm-{job_id}.out").read_bytes() == f"你好 {job_id}\n".encode()
    assert (yard.output / f"{job_id}.err").exists()
    assert yard.causes(job_id) == ["start", "exit"]
    assert_released(yard)
    wait_until(lambda: not list((yard.work / "n1" / "scripts").iterdir()), "脚本删除")


def test_shebang_and_arguments(yard: NodeYard) -> None:
    script = "#!/usr/bin/env python3\nimport sys\nprint(sum(map(int, sys.argv[1:])))\n"
    job_id = yard.run(script, argv=["2", "3", "4"])
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert yard.output_of(job_id) == b"9\n"


def test_lost_message_is_made_up_by_reconcile(yard: NodeYard) -> None:
    job_id = yard.submit("echo ran >> runs\n")
    yard.start(job_id, send=False)
    assert yard.ended(job_id)["state"] == "COMPLETED"


def test_duplicate_and_stale_messages_do_nothing(yard: NodeYard) -> None:
    job_id = yard.submit("echo ran >> runs; sleep 0.3\n")
    yard.start(job_id)
    for _ in range(5):
        yard.send("launch", job_ids=[job_id])
    yard.ended(job_id)
    yard.send("launch", job_ids=[job_id, 999_999])
    yard.send("dance", job_ids=[job_id])
    yard.send("launch", job_ids="x")
    second = yard.run("true\n")
    assert yard.ended(second)["state"] == "COMPLETED"
    assert (yard.output / "runs").read_text() == "ran\n"
    assert "bus_message_refused" in yard.log()


def test_time_limit_and_changed_time_limit(yard: NodeYard) -> None:
    first = yard.run("exec sleep 60\n", time_limit=1)
    second = yard.run("touch ready; exec sleep 60\n", time_limit=3600)
    yard.exists("ready")
    yard.execute("UPDATE jobs SET time_limit = 1 WHERE job_id = :job_id", job_id=second)
    for job_id in (first, second):
        job = yard.ended(job_id)
        assert (job["state"], job["exit_signal"], job["reason"]) == ("TIMEOUT", signal.SIGTERM, "TimeLimit")


@pytest.mark.parametrize("send", [True, False])
def test_cancel_ends_the_process_with_the_requested_state(yard: NodeYard, send: bool) -> None:
    job_id = yard.run("touch ready; exec sleep 60\n")
    yard.exists("ready")
    yard.request_end(job_id, "CANCELLED", send=send)
    job = yard.ended(job_id)
    assert (job["state"], job["error_msg"], job["exit_signal"]) == ("CANCELLED", "有人要求", signal.SIGTERM)
    (event,) = yard.query("SELECT * FROM job_events WHERE job_id = :id AND to_state = 'CANCELLED'", id=job_id)
    assert event["actor"] == "alice"
    assert_released(yard)


def test_requeue_runs_again_and_appends(yard: NodeYard) -> None:
    job_id = yard.run(
        'echo attempt ${SLURM_RESTART_COUNT:-0}; [ -n "$SLURM_RESTART_COUNT" ] || { touch ready; sleep 60; }\n'
    )
    yard.exists("ready")
    yard.request_end(job_id, "PENDING")
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "回到排队")
    assert yard.job(job_id)["restart_count"] == 1
    yard.start(job_id)
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert (yard.output / f"slurm-{job_id}.out").read_text() == "attempt 0\nattempt 1\n"


def test_suspend_and_resume_follow_the_database(yard: NodeYard) -> None:
    job_id = yard.run("while :; do echo x >> ticks; sleep 0.02; done\n")
    ticks = yard.exists("ticks")
    yard.execute("UPDATE jobs SET state = 'SUSPENDED', suspend_time = clock_timestamp() WHERE job_id = :id", id=job_id)
    yard.send("suspend", job_ids=[job_id])

    def still() -> bool:
        size = ticks.stat().st_size
        os.sched_yield()
        pid = yard.job(job_id)["process_id"]
        return (
            pid is not None
            and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "DT"
            and (ticks.stat().st_size == size)
        )

    wait_until(still, "停下")
    yard.execute("UPDATE jobs SET state = 'RUNNING' WHERE job_id = :id", id=job_id)
    yard.send("resume", job_ids=[job_id])
    size = ticks.stat().st_size
    wait_until(lambda: ticks.stat().st_size > size, "继续")
    yard.request_end(job_id, "CANCELLED")
    assert yard.ended(job_id)["state"] == "CANCELLED"


def test_signal_reaches_the_job(yard: NodeYard) -> None:
    job_id = yard.run("trap 'exit 9' USR1; touch ready; while :; do sleep 0.1; done\n")
    yard.exists("ready")
    yard.send("signal", job_ids=[job_id], signal="USR1", target="batch")
    assert yard.ended(job_id)["exit_status"] == 9


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"current_working_directory": "/nowhere"}, "/nowhere"),
        ({"standard_output": "/nowhere/out"}, "/nowhere/out"),
        ({"script": "#!/no/such/interpreter\n"}, "/no/such/interpreter"),
    ],
)
def test_impossible_jobs_fail_with_the_reason(yard: NodeYard, fields: dict[str, str], word: str) -> None:
    job_id = yard.run(fields.pop("script", "true\n"), **fields)
    job = yard.ended(job_id)
    assert job["state"] == "FAILED"
    assert word in job["error_msg"]
    assert job["restart_count"] == 0
    assert_released(yard)


def test_live_log_is_answered_through_the_database(yard: NodeYard) -> None:
    job_id = yard.run("echo 0123456789; touch ready; exec sleep 60\n")
    yard.exists("ready")
    yard.send("read_log", request_id="r1", job_id=job_id, stream="stdout", offset=2, length=3)
    yard.send("read_log", request_id="r2", job_id=job_id, stream="stdout", offset=-4, length=100)
    yard.send("read_log", request_id="r3", job_id=999)

    def answers() -> dict[str, dict[str, object]] | None:
        rows = {row["request_id"]: row["answer"] for row in yard.query("SELECT * FROM request_answers")}
        return rows if len(rows) == 3 else None

    found = wait_until(answers, "回答")
    assert (base64.b64decode(found["r1"]["data"]), found["r1"]["total"]) == (b"234", 11)
    assert (base64.b64decode(found["r2"]["data"]), found["r2"]["offset"]) == (b"789\n", 7)
    assert found["r3"]["code"] == "no_output"
    yard.request_end(job_id, "CANCELLED")
    yard.ended(job_id)


def test_allocation_without_a_script_is_held_until_ended(yard: NodeYard) -> None:
    job_id = yard.run(None, interactive=True)
    wait_until(lambda: yard.job(job_id)["process_id"], "占位进程")
    yard.request_end(job_id, "CANCELLED")
    assert yard.ended(job_id)["state"] == "CANCELLED"


def test_usage_of_a_running_job_is_sampled(yard: NodeYard) -> None:
    job_id = yard.run(
        "x=$(head -c 40000000 /dev/zero | tr '\\0' x)\ntouch ready; while [ ! -e go ]; do sleep 0.1; done\n"
    )
    yard.exists("ready")
    wait_until(lambda: (yard.job(job_id)["max_rss_kb"] or 0) > 39_000, "采样")
    assert yard.job(job_id)["cpu_user_s"] > 0
    (yard.output / "go").touch()
    job = yard.ended(job_id)
    assert job["max_rss_kb"] > 39_000
    assert job["read_bytes"] >= 40_000_000


def test_job_on_two_nodes_frees_both(yard: NodeYard) -> None:
    yard.start_agent("n2")
    job_id = yard.submit("echo $SLURM_JOB_NUM_NODES $SLURM_TASKS_PER_NODE $SLURM_JOB_CPUS_PER_NODE\n", tasks=4)
    yard.start(job_id, ("n1", "n2"), cpus=2, tasks=2)
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert yard.output_of(job_id) == b"2 2(x2) 2(x2)\n"
    assert_released(yard, "n2")
    yard.kill_agent("n2", signal.SIGTERM)


def test_many_jobs_each_run_once(yard: NodeYard) -> None:
    jobs = [yard.submit("echo $SLURM_JOB_ID >> runs\n", standard_output="/dev/null") for _ in range(200)]
    for job_id in jobs:
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=jobs)
    for job_id in jobs:
        assert yard.ended(job_id)["state"] == "COMPLETED"
    assert sorted(map(int, (yard.output / "runs").read_text().split())) == jobs


def test_second_agent_on_the_same_node_refuses(yard: NodeYard) -> None:
    first = yard.agents.pop("n1")
    yard.start_agent(wait=False)
    assert yard.agents["n1"].wait(timeout=30) == 2
    assert f"进程 {first.pid}" in yard.log()
    yard.agents["n1"] = first
