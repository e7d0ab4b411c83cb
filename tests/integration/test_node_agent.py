"""节点代理：认领、核对、恢复、停下。每个测试自己的代理；弄不坏代理的在 test_node_jobs.py，那里合用一个。"""

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


@pytest.mark.faults
def test_agent_killed_while_jobs_run_loses_nothing(yard: NodeYard) -> None:
    yard.start_agent()
    waiting = yard.run("echo a >> runs; while [ ! -e go ]; do sleep 0.1; done; exit 5\n")
    ending = yard.run("touch ready; while [ ! -e soon ]; do sleep 0.1; done; date +%s.%N > when; exit 6\n")
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
    lives = yard.run("while [ ! -e go ]; do sleep 0.1; done; exit 5\n", requeue=False)
    killed = yard.run("while [ ! -e go ]; do sleep 0.1; done; kill -SEGV $$\n")
    meanwhile = yard.run("while [ ! -e soon ]; do sleep 0.1; done; exit 6\n", requeue=False)
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
    once = yard.run("while [ ! -e go ]; do sleep 0.1; done\n", requeue=False)
    again = yard.run("while [ ! -e go ]; do sleep 0.1; done\n")
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
    job_id = yard.run("sleep 1000 & echo $! > child; while [ ! -e go ]; do sleep 0.1; done\n")
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
        "while [ ! -e go ]; do sleep 0.1; done; exit 3\n"
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
