"""代理不能悄悄地死，一个作业的麻烦不能成为整个节点的麻烦：线程死亡、收不下的结束、慢的 epilog、挂住的文件系统。

每一样都真的让它发生：真的约束拒绝一行，真的锁住一行，真的挂住一个文件系统，真的把描述符用光。
"""

import json
import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hung_folder import StallingFolder, hung_folder
from node_yard import NodeYard
from old_version import start_old_shepherd
from shepherd_yard import alive, wait_until
from test_node_steps import ended_step, launch

from running_system import start_system
from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.shepherd_client import ShepherdClient
from scns_conductor.worker.host.process_table import boot_id
from scns_conductor.worker.shepherd.journal import encode_line

pytestmark = pytest.mark.faults

EXIT_THREAD_DIED = 70


@pytest.fixture
def yard(settings: Settings, walkable: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, walkable)
    yield running
    running.close()


def letters(yard: NodeYard) -> list[dict[str, Any]]:
    path = yard.spool() / "dead-letters.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# ---- 核与卡 ----


def gpus(yard: NodeYard, job_id: int) -> list[int]:
    """作业绑定的卡；还没有启动的是空的。"""
    rows = yard.query("SELECT gres_ids FROM resource_allocations WHERE job_id = :id", id=job_id)
    return [index for row in rows for ids in (row["gres_ids"] or {}).values() for index in ids]


def test_a_card_is_given_back_only_after_the_commit(yard: NodeYard) -> None:
    """A 的结束卡在提交上：它的卡不能给 B，核对不能因此弄错，A 结束之后 C 得到的才是 A 的那一块。"""
    yard.start_agent(SCNS_NODE_GPUS="2")
    script = "while [ ! -e stop.$SLURM_JOB_ID ]; do sleep 0.1; done\n"
    first, second, third = (yard.submit(script) for _ in range(3))
    yard.start(first, gres={"gpu": 1})
    wait_until(lambda: gpus(yard, first), "A 启动")
    with yard.engine.connect() as blocker:
        blocker.execute(sa.text("SELECT 1 FROM jobs WHERE job_id = :id FOR UPDATE"), {"id": first})
        (yard.output / f"stop.{first}").touch()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE '%agent%'"
        wait_until(lambda: yard.query(waiting), "A 的结束在等提交")
        yard.start(second, gres={"gpu": 1})
        wait_until(lambda: gpus(yard, second), "B 启动")
        assert set(gpus(yard, first)) | set(gpus(yard, second)) == {0, 1}
        yard.send("sync", job_ids=[first])
    assert yard.ended(first)["state"] == "COMPLETED"
    yard.start(third, gres={"gpu": 1})
    wait_until(lambda: gpus(yard, third), "C 启动")
    assert gpus(yard, third) != gpus(yard, second)
    for job_id in (second, third):
        (yard.output / f"stop.{job_id}").touch()
        assert yard.ended(job_id)["state"] == "COMPLETED"


def test_a_launch_that_finds_no_free_card_waits_for_it(yard: NodeYard) -> None:
    """多节点作业在别处结束、数据库里已经释放，本节点还没有听说：新的作业等卡空出来，不失败，也不少给它卡。"""
    yard.start_agent(SCNS_NODE_GPUS="1", SCNS_RECONCILE_INTERVAL_S="3600")
    holder = yard.submit("touch ready; sleep 300\n")
    yard.start(holder, gres={"gpu": 1})
    yard.exists("ready")
    yard.execute("UPDATE resource_allocations SET released_at = clock_timestamp() WHERE job_id = :id", id=holder)
    yard.execute("UPDATE nodes SET allocated_cpus = 0, allocated_gres = '{}'")
    yard.execute("UPDATE jobs SET state = 'CANCELLED', end_time = clock_timestamp() WHERE job_id = :id", id=holder)
    waiting = yard.submit("echo $CUDA_VISIBLE_DEVICES\n")
    yard.start(waiting, gres={"gpu": 1})
    assert yard.ended(waiting)["state"] == "COMPLETED"
    assert yard.output_of(waiting) == b"0\n"
    assert "launch_waits_for_room" in yard.log()


def test_two_jobs_that_both_claim_a_card_are_told(yard: NodeYard) -> None:
    """数据库里两个作业记着同一块卡（旧版本留下的）：重启之后说出来，不再接新的，两个都照跑。"""
    yard.start_agent(SCNS_NODE_GPUS="2")
    script = "touch started.$SLURM_JOB_ID; while [ ! -e go ]; do sleep 0.1; done\n"
    jobs = [yard.submit(script) for _ in range(2)]
    for job_id in jobs:
        yard.start(job_id, gres={"gpu": 1})
        # 认领了还没有起进程就杀代理，作业会（正确地）退回去排队。
        yard.exists(f"started.{job_id}")
    yard.kill_agent()
    yard.execute("UPDATE resource_allocations SET gres_ids = '{\"gpu\": [0]}'")
    yard.start_agent(SCNS_NODE_GPUS="2")
    wait_until(lambda: yard.node()["drain"], "排空")
    assert str(jobs[0]) in yard.node()["reason"]
    assert str(jobs[1]) in yard.node()["reason"]
    assert "binding_conflict" in yard.log()
    (yard.output / "go").touch()
    assert [yard.ended(job_id)["state"] for job_id in jobs] == ["COMPLETED"] * 2


# ---- 收不下的结束 ----


def test_a_rejected_end_is_parked_and_blocks_nothing(yard: NodeYard) -> None:
    yard.start_agent()
    rejected = yard.submit("exit 3\n")
    yard.execute(f"ALTER TABLE jobs ADD CONSTRAINT refused CHECK (NOT (job_id = {rejected} AND state = 'FAILED'))")
    others = [yard.submit("true\n") for _ in range(5)]
    for job_id in (rejected, *others):
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=[rejected, *others])
    assert [yard.ended(job_id)["state"] for job_id in others] == ["COMPLETED"] * 5
    wait_until(lambda: letters(yard), "停放")
    path = yard.spool() / "dead-letters.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (letter,) = letters(yard)
    assert letter["key"].startswith(f"{rejected}.0.batch.")
    assert "refused" in str(letter["reason"])
    wait_until(lambda: yard.node()["drain"], "排空")
    assert f"{rejected}.0.batch" in yard.node()["reason"]
    # 几轮核对之后也不当成丢失：结局还在牧守进程那里。
    before = yard.node()["last_heartbeat"]
    wait_until(lambda: (yard.node()["last_heartbeat"] - before).total_seconds() > 1, "几轮核对")
    assert yard.job(rejected)["state"] == "RUNNING"
    assert "job_lost" not in yard.log()
    # 管理员排除了原因，重启代理：再送一遍，这次写成，死信划掉。
    yard.execute("ALTER TABLE jobs DROP CONSTRAINT refused")
    yard.kill_agent()
    yard.start_agent()
    job = yard.ended(rejected)
    assert (job["state"], job["exit_status"]) == ("FAILED", 3)
    wait_until(lambda: not path.exists(), "死信划掉")
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []


def test_a_connection_that_is_cut_is_retried_not_parked(yard: NodeYard) -> None:
    """管理员断开连接、语句超时、等锁超时、只读：都是一时的。"""
    yard.start_agent()
    job_id = yard.run("while [ ! -e go ]; do sleep 0.1; done; exit 5\n")
    wait_until(lambda: yard.job(job_id)["process_id"], "进程号")
    (database,) = yard.query("SELECT current_database() AS name")
    yard.execute(f"ALTER DATABASE {database['name']} SET default_transaction_read_only = on")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%agent@n1'"
    yard.query(cut)
    (yard.output / "go").touch()
    wait_until(lambda: "ends_commit_retry" in yard.log(), "在重试")
    with yard.engine.connect() as connection:
        connection.execute(sa.text("SET default_transaction_read_only = off"))
        connection.commit()
        connection.execute(sa.text(f"ALTER DATABASE {database['name']} RESET default_transaction_read_only"))
        connection.commit()
    yard.engine.dispose()
    yard.query(cut)
    assert yard.ended(job_id)["exit_status"] == 5
    assert letters(yard) == []
    assert not yard.node()["drain"]


def test_a_malformed_record_from_another_version_is_parked(yard: NodeYard) -> None:
    """旧的牧守进程送来一条缺项的结束：停放它，别的照常，代理不因此反复死去。"""
    spool = yard.spool()
    spool.mkdir(parents=True, mode=0o700)
    bad = {"t": "end", "id": 77, "key": "9.0.batch", "cause": "exit"}
    header = {"t": "header", "boot_id": boot_id(), "next_end_id": 78}
    (spool / "shepherd.journal").write_bytes(encode_line(header) + encode_line(bad))
    old = start_old_shepherd(spool, "n1")
    yard.start_agent()
    job_id = yard.run("true\n")
    assert yard.ended(job_id)["state"] == "COMPLETED"
    (letter,) = letters(yard)
    assert letter["key"] == "9.0.batch"
    assert old.poll() is None, "没有确认，它还留着"
    yard.close()
    old.wait(timeout=30)


# ---- 线程 ----


def test_a_thread_that_dies_ends_the_process_and_nothing_is_lost(yard: NodeYard) -> None:
    """收尾线程碰到谁也没有想到的（数据库里节点列表写坏了）：进程以非零退出，重启之后一个作业也不丢。"""
    yard.start_agent()
    waiting = yard.run("while [ ! -e go ]; do sleep 0.1; done; exit 4\n")
    broken = yard.run("touch ready; while [ ! -e end ]; do sleep 0.1; done\n")
    yard.exists("ready")
    yard.execute("UPDATE jobs SET allocated_nodes = 2, node_list = 'n[' WHERE job_id = :id", id=broken)
    (yard.output / "end").touch()
    assert yard.agents.pop("n1").wait(timeout=30) == EXIT_THREAD_DIED
    log = yard.log()
    assert "thread_died" in log
    assert "finisher" in log
    assert "方括号" in log
    yard.start_agent()
    (yard.output / "go").touch()
    assert yard.ended(waiting)["exit_status"] == 4
    assert yard.ended(broken)["state"] == "COMPLETED"
    after = yard.run("true\n")
    assert yard.ended(after)["state"] == "COMPLETED"


def test_the_heartbeat_cannot_stop_quietly(yard: NodeYard) -> None:
    """描述符用光了，心跳读不了 /proc：不是悄悄停下、等着被判失联，而是进程退出。"""
    yard.start_agent(SCNS_RECONCILE_INTERVAL_S="3600")
    process = yard.agents.pop("n1")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, 3))
    assert process.wait(timeout=30) == EXIT_THREAD_DIED
    yard.start_agent()
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"


def test_the_shepherd_has_one_thread(yard: NodeYard) -> None:
    """只有一个线程的进程，线程死了就是进程死了：不会少了谁而没有人知道。"""
    yard.start_agent()
    yard.ended(yard.run("true\n"))
    assert len(os.listdir(f"/proc/{yard.shepherd_pid()}/task")) == 1


def test_the_scheduler_dies_loudly(yard: NodeYard) -> None:
    """收件箱里有一行谁也没有想到的：调度进程以非零退出，再启动时照常当选。"""
    for crash in (True, False):
        process = yard.start_scheduler("n1")
        try:
            epoch = yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"]
            wait_until(lambda: yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"] > epoch, "当选", 60)  # noqa: B023
            if crash:
                yard.execute("INSERT INTO scheduler_inbox (kind) VALUES ('diag')")
                yard.execute("SELECT pg_notify('scns_inbox', '')")
                assert process.wait(timeout=30) == EXIT_THREAD_DIED
                assert "thread_died" in (yard.work / "scheduler.log").read_text()
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_scns_up_restarts_an_agent_whose_thread_died(tmp_path: Path) -> None:
    with start_system(tmp_path / "s", "--cpus", "4", "--memory", "4G") as system:
        job_id = system.submit("#!/bin/bash\nwhile [ ! -e go ]; do sleep 0.1; done; exit 6\n")
        system.wait_state(job_id, "RUNNING")
        (agent,) = system.services("worker.agent.process")
        resource.prlimit(agent, resource.RLIMIT_NOFILE, (3, 3))
        wait_until(lambda: not alive(agent), "代理退出", 60)
        assert system.wait_state(system.submit("#!/bin/bash\ntrue\n"))["state"] == "COMPLETED"
        (system.data_dir / "go").touch()
        assert system.wait_state(job_id)["detail"]["exit_code"] == "6:0"
        logs = "".join(path.read_text() for path in (system.data_dir / "logs").glob("agent-*.log"))
        assert "thread_died" in logs


# ---- 慢的 epilog，挂住的文件系统 ----


def test_a_slow_epilog_delays_only_its_own_job(yard: NodeYard) -> None:
    epilog = yard.work / "epilog"
    ran = yard.work / "epilogs"
    epilog.write_text(
        f"#!/bin/bash\necho $SLURM_JOB_ID >> {ran}; while [ -e {yard.work}/slow.$SLURM_JOB_ID ]; do sleep 0.1; done\n"
    )
    epilog.chmod(0o755)
    yard.start_agent(SCNS_TASK_EPILOG=str(epilog))
    slow = [yard.submit("touch done.$SLURM_JOB_ID\n") for _ in range(7)]
    for job_id in slow:
        (yard.work / f"slow.{job_id}").touch()
        yard.start(job_id)
    for job_id in slow:
        yard.exists(f"done.{job_id}")
    others = [yard.run("true\n") for _ in range(1)]
    assert [yard.ended(job_id)["state"] for job_id in others] == ["COMPLETED"]
    assert {yard.job(job_id)["state"] for job_id in slow} == {"RUNNING"}
    # 牧守进程换了一个，没有确认的又送一遍：手里正有的不再跑一遍 epilog。
    old = yard.shepherd_pid()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: yard.shepherd_pid() != old, "新的牧守进程")
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
    for job_id in slow:
        (yard.work / f"slow.{job_id}").unlink()
    assert {yard.ended(job_id)["state"] for job_id in slow} == {"COMPLETED"}
    assert sorted(int(line) for line in ran.read_text().split() if int(line) in slow) == slow


@pytest.mark.parametrize("which", ["prolog", "epilog"])
def test_a_killed_agents_program_does_not_run_beside_the_next_one(yard: NodeYard, which: str) -> None:
    """代理被 kill -9，它的 prolog（epilog）连同后代由下一个代理结束，然后才重来一遍；留在后台的不动。"""
    program, ran = yard.work / which, yard.work / "ran"
    # 第一遍不会自己结束；再来的写下第一遍还在不在。
    program.write_text(
        "#!/bin/bash\n"
        f"cd {yard.work}\n"
        "left() { grep -q '^State:.[RSDT]' /proc/$(< child.pid)/status; }\n"
        "[ -e first ] && { left && touch overlap; echo $SLURM_JOB_ID >> ran; exit 0; }\n"
        "setsid bash -c 'echo $$ > daemon.pid; exec sleep 300' < /dev/null &> /dev/null &\n"
        "(echo $BASHPID > child.new; mv child.new child.pid; exec sleep 300) &\n"
        "touch first; sleep 300\n"
    )
    program.chmod(0o755)
    settings = {f"SCNS_TASK_{which.upper()}": str(program)}
    yard.start_agent(**settings)
    job_id = yard.run("true\n")
    for name in ("first", "child.pid", "daemon.pid"):
        wait_until((yard.work / name).exists, name)
    child = int((yard.work / "child.pid").read_text())
    daemon = int(wait_until((yard.work / "daemon.pid").read_text, "后台的进程号"))
    yard.kill_agent()
    assert alive(child)
    yard.start_agent(**settings)
    assert not alive(child)
    if which == "prolog":
        # 从来没有启动过脚本：这一次算节点故障，再来的一遍有自己的 prolog。
        wait_until(lambda: yard.job(job_id)["state"] in ("PENDING", "NODE_FAIL"), "回到队列")
        job_id = yard.run("true\n")
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: str(job_id) in ran.read_text().split() if ran.exists() else False, "重来的一遍")
    assert alive(daemon), "留在后台的不是它的一部分"
    os.kill(daemon, signal.SIGKILL)
    assert not (yard.work / "overlap").exists()
    assert list(yard.spool().glob("program_*")) == []


def test_output_on_a_hung_file_system_delays_only_its_own_end(yard: NodeYard) -> None:
    """输出写好之后文件系统挂住：别的作业的结束照常送出；它自己的等一会儿，不带尾部也送出。"""
    yard.start_agent()
    far = yard.work / "far"
    far.mkdir()
    script = "touch ready.$SLURM_JOB_ID; while [ ! -e go ]; do sleep 0.1; done; exit 2\n"
    stuck = yard.submit(script, standard_output=str(far / "out"))
    yard.start(stuck)
    yard.exists(f"ready.{stuck}")
    with hung_folder(far):
        (yard.output / "go").touch()
        wait_until(lambda: not yard_running(yard, stuck), "脚本结束")
        assert yard.ended(yard.run("echo hi\n"))["state"] == "COMPLETED"
        job = yard.ended(stuck)
        assert (job["state"], job["exit_status"]) == ("FAILED", 2)
        # 还挂着的时候，代理停得下来。
        yard.kill_agent(number=signal.SIGTERM)
        yard.start_agent()
        assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"


def yard_running(yard: NodeYard, job_id: int) -> bool:
    client = ShepherdClient.connect(yard.spool(), "n1", start=False)
    try:
        return any(task.key.startswith(f"{job_id}.") for task in client.hello(attach=False).running)
    finally:
        client.close()


def test_a_hung_output_folder_delays_only_its_own_launch(yard: NodeYard) -> None:
    """输出目录、工作目录在挂住的文件系统上：别的作业照常启动；它自己的进程挂着，可以取消。"""
    yard.start_agent()
    far = yard.work / "far"
    with hung_folder(far):
        stuck = [yard.run("true\n", standard_output=str(far / f"{index}/out")) for index in range(3)]
        stuck.append(yard.run("true\n", current_working_directory=str(far)))
        for _ in range(3):
            assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
        # 等够了就交给它们自己的进程：牧守进程照样答话，别的照样启动。
        wait_until(lambda: all(yard_running(yard, job_id) for job_id in stuck), "送去启动")
        assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
        for job_id in stuck:
            yard.request_end(job_id, "CANCELLED")
        assert {yard.ended(job_id)["state"] for job_id in stuck} == {"CANCELLED"}


def test_a_hung_script_folder_does_not_stop_the_heartbeat(yard: NodeYard) -> None:
    """脚本目录（也许在 NFS 上）不答话：心跳照跳，节点排空并说明，运行中的照跑；答话了自己恢复。"""
    yard.start_agent()
    holder = yard.run("touch ready; while [ ! -e go ]; do sleep 0.1; done\n")
    yard.exists("ready")
    with hung_folder(yard.work / "n1/scripts"):
        drained = wait_until(lambda: yard.node()["drain"] and yard.node(), "排空")
        assert str(yard.work / "n1/scripts") in drained["reason"]
        beat = yard.node()["beat"]
        wait_until(lambda: yard.node()["beat"] > beat + 3, "还在跳")
        assert yard.node()["state"] == "UP"
    wait_until(lambda: not yard.node()["drain"], "答话了自己恢复")
    (yard.output / "go").touch()
    assert yard.ended(holder)["state"] == "COMPLETED"
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"


def test_a_hung_script_folder_stops_only_the_scripts_in_it(yard: NodeYard) -> None:
    """脚本目录不答话：结束、时限、没有脚本的分配与它们的步照常；新的脚本自己挂着，取消得了；代理、牧守进程重启得了。"""
    yard.start_agent()
    going = yard.run("touch going; while [ ! -e go ]; do sleep 0.1; done; exit 3\n")
    timed = yard.run("touch timed; exec sleep 300\n", time_limit=20)
    for name in ("going", "timed"):
        yard.exists(name)
    with hung_folder(yard.work / "n1/scripts"):
        wait_until(lambda: yard.node()["drain"], "看出来了")
        stuck = [yard.run("true\n") for _ in range(2)]
        wait_until(lambda: all(yard_running(yard, job_id) for job_id in stuck), "送去启动")
        (yard.output / "go").touch()
        job = yard.ended(going)
        assert (job["state"], job["exit_status"]) == ("FAILED", 3)
        assert yard.ended(timed)["state"] == "TIMEOUT"
        held = yard.run(None)
        wait_until(lambda: yard_running(yard, held), "分配")
        launch(yard, held, {"n1": [0]}, ["/bin/sh", "-c", "exit 5"])
        assert ended_step(yard, held)["exit_status"] == 5
        # 挂着的不占着牧守进程的锁，代理也不等它的目录。
        old = yard.shepherd_pid()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: yard.shepherd_pid() != old, "新的牧守进程")
        yard.kill_agent()
        yard.start_agent()
        for job_id in (*stuck, held):
            yard.request_end(job_id, "CANCELLED")
            assert yard.ended(job_id)["state"] == "CANCELLED"
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"


def test_a_hung_spool_stops_the_node_but_loses_nothing(yard: NodeYard) -> None:
    """工作目录的盘不答话，开着的文件也写不动：心跳照跳，节点不算失联，排空并说明；答话之后结束、取消、启动都接着办。"""
    disk = StallingFolder(yard.work / "n1/spool", yard.work / "backing")
    try:
        yard.start_agent()
        script = "touch ready.$SLURM_JOB_ID; while [ ! -e go ]; do sleep 0.1; done; touch over.$SLURM_JOB_ID; exit 3\n"
        ending, cancelled = yard.run(script), yard.run("touch ready.$SLURM_JOB_ID; exec sleep 300\n")
        for job_id in (ending, cancelled):
            yard.exists(f"ready.{job_id}")
        disk.stall()
        late = yard.run("echo late\n")
        (yard.output / "go").touch()
        yard.exists(f"over.{ending}")
        yard.request_end(cancelled, "CANCELLED")
        drained = wait_until(lambda: yard.node()["drain"] and yard.node(), "排空")
        assert str(yard.spool()) in drained["reason"]
        beat = yard.node()["beat"]
        wait_until(lambda: yard.node()["beat"] > beat + 5, "还在跳")
        assert yard.node()["state"] == "UP"
        assert {yard.job(job_id)["state"] for job_id in (ending, cancelled, late)} == {"RUNNING"}
        disk.release()
        wait_until(lambda: not yard.node()["drain"], "答话了自己恢复")
        job = yard.ended(ending)
        assert (job["state"], job["exit_status"]) == ("FAILED", 3)
        assert yard.ended(cancelled)["state"] == "CANCELLED"
        assert yard.ended(late)["state"] == "COMPLETED"
        assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
        # 停着的时候记的，过后也记下了。
        seen = yard.spool() / "database.seen"
        wait_until(lambda: int(seen.read_text().split()[1]) >= yard.node()["beat"] - 1, "记下了心跳")
    finally:
        disk.release()
        yard.close()
        disk.close()


def test_a_missing_output_folder_is_awaited_without_delaying_others(yard: NodeYard) -> None:
    yard.start_agent()
    late = yard.run("echo late\n", standard_output="later/out")
    other = yard.run("touch ran\n")
    assert yard.ended(other)["state"] == "COMPLETED"
    (yard.output / "later").mkdir()
    assert yard.ended(late)["state"] == "COMPLETED"
    assert (yard.output / "later/out").read_text() == "late\n"


def test_output_folders_are_looked_at_as_the_user(yard: NodeYard) -> None:
    """别人 0700 的目录里有没有某个路径，从等了多久看不出来：两种都同样地不等。"""
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    yard.output.chmod(0o777)
    secret = yard.output / "secret"
    (secret / "there").mkdir(parents=True)
    secret.chmod(0o700)
    yard.start_agent(SCNS_SINGLE_USER="false")
    present = yard.submit("true\n", user_name="nobody", standard_output=str(secret / "there/out"))
    absent = yard.submit("true\n", user_name="nobody", standard_output=str(secret / "absent/out"))
    took = []
    for job_id in (present, absent):
        yard.start(job_id)
        job = yard.ended(job_id)
        assert job["state"] == "FAILED"
        took.append((job["end_time"] - job["start_time"]).total_seconds())
    assert max(took) < 3.0, took
