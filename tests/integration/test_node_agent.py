"""节点代理：登记、认领、核对、恢复、停下。每个测试自己的代理；作业的一生在 test_node_jobs.py。"""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from node_yard import NodeYard, assert_released
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings


@pytest.fixture
def yard(settings: Settings, walkable: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, walkable)
    yield running
    running.close()


def test_registration_tells_what_the_node_has(yard: NodeYard) -> None:
    yard.start_agent(SCNS_NODE_MEMORY="64G", SCNS_NODE_GRES="gpu:a100:2", SCNS_NODE_FEATURES="ssd,ib")
    node = yard.node()
    assert (node["cpus"], node["memory"], node["gres"]) == (8, 65536, {"gpu:a100": 2})
    assert node["features"] == ["ssd", "ib"]
    assert node["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert node["containment"]["kill_all"] in ("cgroup", "subreaper")
    # 做到的与没有做到的说得一致（scns health 照此告诉管理员）。
    sampled = node["containment"]["memory"] == "sampled"
    assert sampled == any("内存" in text for text in node["containment"]["not_enforced"])
    first = node["last_heartbeat"]
    wait_until(lambda: yard.node()["last_heartbeat"] > first, "心跳")


def test_environment_of_the_job(yard: NodeYard) -> None:
    yard.start_agent(SCNS_NODE_GRES="gpu:a100:4")
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
    (row,) = yard.query("SELECT gres_ids FROM resource_allocations")
    assert row["gres_ids"] == {"gpu:a100": [0, 1]}


def test_two_jobs_never_share_a_gpu(yard: NodeYard) -> None:
    yard.start_agent(SCNS_NODE_GPUS="3")
    script = "echo $CUDA_VISIBLE_DEVICES > gpu.$SLURM_JOB_ID; while [ ! -e go ]; do sleep 0.02; done\n"
    jobs = [yard.submit(script) for _ in range(3)]
    yard.start(jobs[0], gres={"gpu": 2})
    yard.start(jobs[1], gres={"gpu": 1})
    yard.start(jobs[2])
    seen = []
    for job_id in jobs:
        yard.exists(f"gpu.{job_id}")
        wait_until((yard.output / f"gpu.{job_id}").read_text, "写好了")
        seen.append((yard.output / f"gpu.{job_id}").read_text().strip())
    assert sorted(",".join(seen[:2]).split(",")) == ["0", "1", "2"]
    assert seen[2] == ""
    (yard.output / "go").touch()
    assert all(yard.ended(job_id)["state"] == "COMPLETED" for job_id in jobs)
    again = yard.submit("echo $CUDA_VISIBLE_DEVICES\n")
    yard.start(again, gres={"gpu": 3})
    yard.ended(again)
    assert yard.output_of(again) == b"0,1,2\n"


@pytest.mark.faults
def test_cancel_before_the_launch_never_starts_it(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.submit("touch ran\n")
    with yard.engine.begin():
        pass
    yard.kill_agent(number=signal.SIGTERM)
    yard.start(job_id)
    yard.request_end(job_id, "CANCELLED")
    yard.start_agent()
    assert yard.ended(job_id)["state"] == "CANCELLED"
    assert not (yard.output / "ran").exists()
    assert_released(yard)


def test_unknown_user_and_root_are_refused(yard: NodeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    yard.start_agent(SCNS_SINGLE_USER="false")
    stranger = yard.run("true\n", user_name="no-such-user")
    root = yard.run("true\n")
    assert "no-such-user" in yard.ended(stranger)["error_msg"]
    assert "root" in yard.ended(root)["error_msg"]
    assert {yard.job(job_id)["state"] for job_id in (stranger, root)} == {"FAILED"}


def test_job_runs_as_the_submitting_user(yard: NodeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    yard.output.chmod(0o777)
    yard.start_agent(SCNS_SINGLE_USER="false")
    job_id = yard.run("id -un; echo $HOME $USER; cat $0 | head -1\n", user_name="nobody")
    assert yard.ended(job_id)["state"] == "COMPLETED", yard.job(job_id)
    output = yard.output_of(job_id) or b""
    assert output.decode().splitlines()[0] == "nobody"
    assert output.decode().splitlines()[2].startswith("id -un")
    assert (yard.output / f"slurm-{job_id}.out").owner() == "nobody"


@pytest.mark.faults
def test_agent_killed_while_jobs_run_loses_nothing(yard: NodeYard) -> None:
    yard.start_agent()
    waiting = yard.run("echo a >> runs; while [ ! -e go ]; do sleep 0.02; done; exit 5\n")
    ending = yard.run("touch ready; while [ ! -e soon ]; do sleep 0.02; done; date +%s.%N > when; exit 6\n")
    yard.exists("runs")
    yard.exists("ready")
    shepherd = yard.shepherd_pid()
    yard.kill_agent()
    (yard.output / "soon").touch()
    when = yard.exists("when")
    unclaimed = yard.submit("true\n")
    yard.start(unclaimed)
    yard.start_agent()
    assert yard.shepherd_pid() == shepherd
    job = yard.ended(ending)
    assert (job["state"], job["exit_status"]) == ("FAILED", 6)
    assert abs(job["end_time"].timestamp() - float(when.read_text())) < 0.5
    assert yard.job(waiting)["state"] == "RUNNING"
    assert yard.ended(unclaimed)["state"] == "COMPLETED"
    (yard.output / "go").touch()
    assert yard.ended(waiting)["exit_status"] == 5
    assert (yard.output / "runs").read_text() == "a\n"
    assert_released(yard)


@pytest.mark.faults
def test_shepherd_killed_alone_loses_no_exit_code(yard: NodeYard) -> None:
    """作业过继给代理，代理不回收：死后才结束的、新的牧守进程来之前就结束的，退出码都还在。"""
    yard.start_agent(SCNS_HEARTBEAT_INTERVAL_S="5")
    lives = yard.run("while [ ! -e go ]; do sleep 0.02; done; exit 5\n", requeue=False)
    killed = yard.run("while [ ! -e go ]; do sleep 0.02; done; kill -SEGV $$\n")
    meanwhile = yard.run("while [ ! -e soon ]; do sleep 0.02; done; exit 6\n", requeue=False)
    for job_id in (lives, killed, meanwhile):
        wait_until(lambda job_id=job_id: yard.job(job_id)["process_id"], "进程号")  # type: ignore[misc]
    pid = yard.job(meanwhile)["process_id"]
    old = yard.shepherd_pid()
    agent = yard.agents["n1"].pid
    os.kill(agent, signal.SIGSTOP)
    os.kill(old, signal.SIGKILL)
    (yard.output / "soon").touch()
    wait_until(lambda: not alive(pid), "没有牧守进程时结束")
    os.kill(agent, signal.SIGCONT)
    wait_until(lambda: yard.shepherd_pid() != old, "新的牧守进程")
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
    (yard.output / "go").touch()
    ends = [
        (job["state"], job["exit_status"], job["exit_signal"]) for job in map(yard.ended, (lives, killed, meanwhile))
    ]
    assert ends == [("FAILED", 5, 0), ("FAILED", 0, signal.SIGSEGV), ("FAILED", 6, 0)]
    assert_released(yard)


@pytest.mark.faults
def test_agent_and_shepherd_killed_requeues_what_ended_unseen(yard: NodeYard) -> None:
    """两个都没了的时候结束的：没有人看得见退出码，NODE_FAIL 或重新排队。"""
    yard.start_agent()
    once = yard.run("while [ ! -e go ]; do sleep 0.02; done\n", requeue=False)
    again = yard.run("while [ ! -e go ]; do sleep 0.02; done\n")
    for job_id in (once, again):
        wait_until(lambda job_id=job_id: yard.job(job_id)["process_id"], "进程号")  # type: ignore[misc]
    pids = [yard.job(job_id)["process_id"] for job_id in (once, again)]
    shepherd = yard.shepherd_pid()
    yard.kill_agent()
    os.kill(shepherd, signal.SIGKILL)
    (yard.output / "go").touch()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "结束并被 1 号进程回收")
    yard.start_agent()
    job = yard.ended(once)
    assert (job["state"], job["reason"]) == ("NODE_FAIL", "NodeDown")
    wait_until(lambda: yard.job(again)["state"] == "PENDING", "重新排队")
    assert yard.job(again)["restart_count"] == 1
    assert_released(yard)


@pytest.mark.faults
def test_adopted_strays_do_not_pile_up_as_zombies(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.run("sleep 1000 & echo $! > child; while [ ! -e go ]; do sleep 0.02; done\n")
    wait_until(lambda: yard.job(job_id)["process_id"], "进程号")
    child = int(yard.written("child"))
    old = yard.shepherd_pid()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: yard.shepherd_pid() != old, "新的牧守进程")
    (yard.output / "go").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "孤儿被回收")


@pytest.mark.faults
def test_a_leader_that_ended_unrecorded_is_not_mistaken_for_its_escaped_child(yard: NodeYard) -> None:
    """牧守进程死在创建进程与记下进程号之间，首进程随即结束，只剩另立会话的后代：作业结束，后代被杀。"""
    yard.start_agent()
    job_id = yard.run(
        "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > child\n"
        "while [ ! -e go ]; do sleep 0.02; done; exit 3\n"
    )
    leader = wait_until(lambda: yard.job(job_id)["process_id"], "进程号")
    child = int(yard.written("child"))
    agent = yard.agents["n1"]
    agent.send_signal(signal.SIGSTOP)
    try:
        os.kill(yard.shepherd_pid(), signal.SIGKILL)
        (yard.output / "go").touch()
        wait_until(lambda: not alive(leader), "首进程结束")
        journal = yard.spool("n1") / "shepherd.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if b'"t":"update"' not in line or b'"pid"' not in line]
        assert len(kept) == len(lines) - 1
        journal.write_bytes(b"".join(kept))
    finally:
        agent.send_signal(signal.SIGCONT)
    job = yard.ended(job_id)
    assert (job["state"], job["exit_status"]) == ("FAILED", 3)
    wait_until(lambda: not alive(child), "另立会话的后代被杀")


@pytest.mark.faults
def test_claimed_job_without_a_process_is_a_node_failure(yard: NodeYard) -> None:
    yard.start_agent()
    yard.kill_agent(number=signal.SIGTERM)
    job_id = yard.submit("touch ran\n", requeue=False)
    yard.start(job_id, send=False)
    yard.execute("UPDATE resource_allocations SET claimed_at = clock_timestamp()")
    yard.start_agent()
    job = yard.ended(job_id)
    assert job["state"] == "NODE_FAIL"
    assert not (yard.output / "ran").exists()


@pytest.mark.faults
def test_returning_node_kills_what_is_no_longer_its_own(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.run("touch ready; exec sleep 1000\n")
    yard.exists("ready")
    pid = wait_until(lambda: yard.job(job_id)["process_id"], "进程号")
    yard.kill_agent()
    # 调度器判它失联：作业回到队列，分配释放。
    yard.execute("UPDATE jobs SET state = 'PENDING', restart_count = 1 WHERE job_id = :job_id", job_id=job_id)
    yard.execute("UPDATE resource_allocations SET released_at = clock_timestamp()")
    yard.execute("UPDATE nodes SET allocated_cpus = 0, state = 'DOWN', reason_user = 'scheduler'")
    assert alive(pid)
    yard.start_agent()
    assert not alive(pid)
    assert yard.job(job_id)["state"] == "PENDING"


@pytest.mark.faults
def test_node_declared_down_comes_back_by_itself(yard: NodeYard) -> None:
    yard.start_agent()
    yard.execute("UPDATE nodes SET state = 'DOWN', reason = '没有心跳', reason_user = 'scheduler'")
    wait_until(lambda: yard.node()["state"] == "UP", "自己回来")
    yard.execute("UPDATE nodes SET state = 'DOWN', reason = '检修', reason_user = 'admin'")
    before = yard.node()["last_heartbeat"]
    wait_until(lambda: yard.node()["last_heartbeat"] > before + timedelta(seconds=0.5), "又跳了几次")
    assert yard.node()["state"] == "DOWN"


def test_failing_prolog_drains_and_requeues(yard: NodeYard) -> None:
    prolog = yard.work / "prolog"
    prolog.write_text(
        f"#!/bin/bash\necho $SLURM_JOB_ID $SLURM_JOB_USER >> {yard.work}/prologs; [ ! -e {yard.work}/bad ]\n"
    )
    prolog.chmod(0o755)
    epilog = yard.work / "epilog"
    epilog.write_text(f"#!/bin/bash\necho $SLURM_JOB_ID >> {yard.work}/epilogs\n")
    epilog.chmod(0o755)
    yard.start_agent(SCNS_TASK_PROLOG=str(prolog), SCNS_TASK_EPILOG=str(epilog))
    good = yard.run("true\n")
    assert yard.ended(good)["state"] == "COMPLETED"
    assert (yard.work / "prologs").read_text() == f"{good} root\n"
    assert (yard.work / "epilogs").read_text() == f"{good}\n"
    (yard.work / "bad").touch()
    bad = yard.run("touch ran\n")
    wait_until(lambda: yard.job(bad)["state"] == "PENDING", "重新排队")
    wait_until(lambda: yard.node()["drain"], "排空")
    assert "prolog" in yard.node()["reason"]
    assert not (yard.output / "ran").exists()
    assert_released(yard)


def test_stopping_with_jobs_requeues_or_cancels_them(yard: NodeYard) -> None:
    yard.start_agent()
    again = yard.run("touch a; exec sleep 1000\n")
    never = yard.run("touch b; exec sleep 1000\n", requeue=False)
    yard.exists("a"), yard.exists("b")
    shepherd = yard.shepherd_pid()
    yard.kill_agent(number=signal.SIGUSR1)
    assert yard.job(again)["state"] == "PENDING"
    assert yard.job(never)["state"] == "CANCELLED"
    assert "停止" in yard.job(never)["error_msg"]
    assert yard.node()["state"] == "DOWN"
    wait_until(lambda: not alive(shepherd), "牧守进程退出")
    assert_released(yard)
    yard.start_agent()
    assert yard.node()["state"] == "UP"


def test_job_on_two_nodes_frees_both(yard: NodeYard) -> None:
    yard.start_agent("n1")
    yard.start_agent("n2")
    job_id = yard.submit("echo $SLURM_JOB_NUM_NODES $SLURM_TASKS_PER_NODE $SLURM_JOB_CPUS_PER_NODE\n", tasks=4)
    yard.start(job_id, ("n1", "n2"), cpus=2, tasks=2)
    assert yard.ended(job_id)["state"] == "COMPLETED"
    assert yard.output_of(job_id) == b"2 2(x2) 2(x2)\n"
    assert_released(yard, "n1")
    assert_released(yard, "n2")


def test_many_jobs_each_run_once(yard: NodeYard) -> None:
    yard.start_agent(SCNS_NODE_CPUS="1000")
    jobs = [yard.submit("echo $SLURM_JOB_ID >> runs\n", standard_output="/dev/null") for _ in range(200)]
    for job_id in jobs:
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=jobs)
    for job_id in jobs:
        assert yard.ended(job_id)["state"] == "COMPLETED"
    assert sorted(map(int, (yard.output / "runs").read_text().split())) == jobs
    assert_released(yard)


def test_second_agent_on_the_same_node_refuses(yard: NodeYard) -> None:
    yard.start_agent()
    first = yard.agents.pop("n1")
    yard.start_agent(wait=False)
    assert yard.agents["n1"].wait(timeout=30) == 2
    assert f"进程 {first.pid}" in yard.log()
    yard.agents["n1"] = first
