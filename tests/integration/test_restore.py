"""数据库被恢复到从前：作业号会再发一遍，节点上却还有旧的进程。新作业绝不能变成旧进程。"""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from node_yard import NodeYard
from restore_yard import Dump, a_heartbeat_passes, old_jobs, pid_of
from shepherd_yard import alive, wait_until
from test_mail import Mailbox

from own_database import own_database
from running_system import free_port
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scns_conductor.statements.incarnation import JOB_ID_MARGIN, change_incarnation
from scns_conductor.worker.bus import Message, Publisher

pytestmark = pytest.mark.faults

# 写下自己的进程号，等到有人放行，再以 7 结束。
WAITS = "echo $$ > old_$SLURM_JOB_ID\nuntil [ -e go ]; do sleep 0.1; done\nexit 7\n"


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def incarnation(yard: NodeYard) -> str:
    return str(yard.query("SELECT incarnation FROM system_incarnation")[0]["incarnation"])


def epoch(yard: NodeYard) -> int:
    return int(yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"])


def noticed(yard: NodeYard, before: str) -> None:
    """节点自己发现、自己核对完了。"""
    wait_until(lambda: incarnation(yard) != before, "换了化身")
    name = incarnation(yard)
    wait_until(lambda: (yard.spool() / "database.seen").read_text().startswith(name), "节点认了新的化身")


def foreign(yard: NodeYard) -> list[dict[str, Any]]:
    return yard.query("SELECT * FROM job_events WHERE cause = 'foreign_process' ORDER BY job_id")


def test_new_jobs_with_reused_ids_do_not_become_the_old_processes(
    yard: NodeYard, settings: Settings, tmp_path: Path
) -> None:
    yard.start_agent()
    dump = Dump(settings, tmp_path / "dump")
    old = old_jobs(yard)
    pids = [pid_of(yard, job_id) for job_id in old]
    dump.restore()
    new = [yard.submit("echo $SLURM_JOB_ID > new_$SLURM_JOB_ID\nexit 7\n") for _ in old]
    for job_id in new:
        yard.start(job_id)
    for job_id in new:
        yard.exists(f"new_{job_id}")
        job = yard.ended(job_id)
        assert (job["state"], job["exit_status"]) == ("FAILED", 7)
    wait_until(lambda: not any(map(alive, pids)), "旧进程都被结束")


@pytest.mark.parametrize("agent_up", [True, False], ids=["agent up", "agent down"])
def test_a_restore_is_noticed_and_every_job_is_told_apart(
    yard: NodeYard, settings: Settings, tmp_path: Path, agent_up: bool
) -> None:
    """跨过恢复的接着跑；备份时还在排队、之后启动过的，旧进程杀掉，再启动时只跑新的；备份里没有的，杀掉。"""
    yard.start_agent()
    across = yard.run(WAITS)
    yard.exists(f"old_{across}")
    pending = yard.submit("echo $$ >> run_$SLURM_JOB_ID\nexec sleep 600\n")
    before, fence = incarnation(yard), epoch(yard)
    dump = Dump(settings, tmp_path / "dump")
    yard.start(pending)
    old_pending = pid_of(yard, pending, "run")
    unknown = old_jobs(yard)
    pids = [pid_of(yard, job_id) for job_id in unknown]
    a_heartbeat_passes(yard)
    if not agent_up:
        yard.kill_agent()
    dump.restore()
    if not agent_up:
        yard.start_agent()
    noticed(yard, before)
    wait_until(lambda: not any(map(alive, [old_pending, *pids])), "旧进程都被结束")
    # 没有一个作业因此变了状态，同号的作业历史里有说明。
    assert [row["state"] for row in yard.query("SELECT state FROM jobs ORDER BY job_id")] == ["RUNNING", "PENDING"]
    assert [event["job_id"] for event in foreign(yard)] == [pending]
    assert "job_id=" + str(unknown[0]) in yard.log()
    # 作业号在任何节点见过的之后；在任的领导者作废。
    assert yard.submit("exit 0\n") > max(unknown) + JOB_ID_MARGIN - 1
    assert epoch(yard) > fence + 1000
    # 跨过恢复的还是那个进程，结局是真的。
    assert alive(pid_of(yard, across))
    (yard.output / "go").touch()
    assert yard.ended(across)["exit_status"] == 7
    # 排队的再启动一次，跑的是新的进程。
    yard.start(pending)
    runs = wait_until(lambda: len(both := (yard.output / f"run_{pending}").read_text().split()) > 0 and both, "再启动")
    new_pid = int(wait_until(lambda: yard.job(pending)["process_id"], "报上进程号"))
    assert (yard.output / f"run_{pending}").read_text().split()[-1] == str(new_pid)
    assert new_pid != old_pending
    assert len(runs) <= 2
    yard.request_end(pending, "CANCELLED")
    assert yard.ended(pending)["state"] == "CANCELLED"


def test_jobs_that_ended_after_the_backup_are_told_the_truth(
    yard: NodeYard, settings: Settings, tmp_path: Path
) -> None:
    yard.start_agent()
    job_id = yard.run(WAITS, requeue=False)
    yard.exists(f"old_{job_id}")
    dump = Dump(settings, tmp_path / "dump")
    (yard.output / "go").touch()
    assert yard.ended(job_id)["exit_status"] == 7
    a_heartbeat_passes(yard)
    dump.restore()
    job = yard.ended(job_id)
    assert job["state"] == "NODE_FAIL"
    assert "恢复" in job["error_msg"]


def test_an_end_that_waited_out_the_restore_ends_nobody_else(
    yard: NodeYard, settings: Settings, tmp_path: Path
) -> None:
    """旧的结束记录还没有送到，数据库就恢复了：它的作业号现在是另一个作业。"""
    yard.start_agent()
    dump = Dump(settings, tmp_path / "dump")
    old = yard.run(WAITS)
    yard.exists(f"old_{old}")
    a_heartbeat_passes(yard)
    yard.kill_agent()
    (yard.output / "go").touch()
    wait_until(lambda: not alive(pid_of(yard, old)), "旧作业结束")
    dump.restore()
    new = yard.submit("exec sleep 600\n")
    assert new == old
    yard.start(new, send=False)
    yard.start_agent()
    pid = int(wait_until(lambda: yard.job(new)["process_id"], "新作业的进程"))
    wait_until(lambda: "foreign" in yard.log() or "database_changed" in yard.log(), "节点发现恢复过")
    assert alive(pid)
    assert yard.job(new)["state"] == "RUNNING"
    assert yard.output_of(new) is None
    yard.request_end(new, "CANCELLED")
    assert yard.ended(new)["state"] == "CANCELLED"


def test_kept_strangers_drain_the_node_until_they_end(yard: NodeYard, settings: Settings, tmp_path: Path) -> None:
    yard.start_agent(SCNS_FOREIGN_JOBS="keep")
    before = incarnation(yard)
    job_id = yard.submit(WAITS)
    dump = Dump(settings, tmp_path / "dump")
    yard.start(job_id)
    yard.exists(f"old_{job_id}")
    old_pid = pid_of(yard, job_id)
    a_heartbeat_passes(yard)
    dump.restore()
    noticed(yard, before)
    wait_until(lambda: yard.node()["drain"], "节点排空")
    assert "foreign_jobs" in yard.node()["reason"]
    # 代理与牧守进程都重来一遍，也还认得它不是自己的。
    os.kill(yard.shepherd_pid(), signal.SIGKILL)
    yard.kill_agent()
    yard.start_agent(SCNS_FOREIGN_JOBS="keep")
    assert alive(old_pid)
    # 同号、同一次尝试的新进程与它各是各的：取消新的，旧的照跑。
    yard.start(job_id)
    pid = int(wait_until(lambda: yard.job(job_id)["process_id"], "新的进程"))
    assert pid != old_pid
    yard.request_end(job_id, "CANCELLED")
    assert yard.ended(job_id)["state"] == "CANCELLED"
    assert not alive(pid)
    assert alive(old_pid)
    assert yard.node()["drain"]
    (yard.output / "go").touch()
    wait_until(lambda: not yard.node()["drain"], "节点恢复")
    assert yard.job(job_id)["state"] == "CANCELLED"


def test_half_a_database_kills_nobody(yard: NodeYard) -> None:
    """正在装入的数据库：表在，内容不全。节点不能因此断定进程都不是自己的。"""
    yard.start_agent()
    job_id = yard.run(WAITS)
    yard.exists(f"old_{job_id}")
    with yard.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept AS SELECT * FROM resource_allocations"))
        connection.execute(sa.text("CREATE TABLE mark AS SELECT * FROM system_incarnation"))
        connection.execute(sa.text("DELETE FROM resource_allocations"))
        connection.execute(sa.text("DELETE FROM system_incarnation"))
    yard.send("sync", job_ids=[job_id])
    wait_until(lambda: "database_incomplete" in yard.log(), "节点看出内容不全")
    assert alive(pid_of(yard, job_id))
    with yard.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO system_incarnation SELECT * FROM mark"))
        connection.execute(sa.text("INSERT INTO resource_allocations OVERRIDING SYSTEM VALUE SELECT * FROM kept"))
    (yard.output / "go").touch()
    assert yard.ended(job_id)["exit_status"] == 7


def test_a_database_completed_between_two_reads_kills_nobody(yard: NodeYard) -> None:
    """读分配时还没有装进来，看是不是原来的数据库时已经装好了：不能照先前读到的断定进程是多余的。"""
    yard.start_agent()
    job_id = yard.run(WAITS)
    yard.exists(f"old_{job_id}")
    with yard.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept AS SELECT * FROM resource_allocations"))
        connection.execute(sa.text("DELETE FROM resource_allocations"))
    with yard.engine.begin() as loading:
        loading.execute(sa.text("LOCK TABLE system_incarnation IN ACCESS EXCLUSIVE MODE"))
        yard.send("sync", job_ids=[job_id])
        waiting = sa.text(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
            "WHERE NOT l.granted AND a.application_name LIKE '%agent@n1%' AND a.query NOT LIKE 'UPDATE%'"
        )
        wait_until(lambda: loading.scalar(waiting), "代理读过了分配，等着看是哪个数据库")
        loading.execute(sa.text("INSERT INTO resource_allocations OVERRIDING SYSTEM VALUE SELECT * FROM kept"))
    (yard.output / "go").touch()
    assert yard.ended(job_id)["exit_status"] == 7


def test_a_message_of_another_database_is_not_obeyed(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.run(WAITS)
    yard.exists(f"old_{job_id}")
    other = Publisher(yard.urls["SCNS_REDIS_URL"], lambda: "another")
    other.send({"n1": [Message("signal", {"jobs": [[job_id, 0]], "signal": "KILL"})]})
    other.close()
    wait_until(lambda: "bus_message_foreign" in yard.log(), "拒收别的数据库的消息")
    (yard.output / "go").touch()
    assert yard.ended(job_id)["exit_status"] == 7


def test_two_systems_with_one_node_name_share_a_valkey(yard: NodeYard, engines: Engines, tmp_path: Path) -> None:
    """两套都活着、节点同名、合用一个 Valkey：取到对方的消息就转过去，谁的启动也不丢、不慢到等核对。"""
    place = tmp_path / "other"
    place.mkdir()
    with own_database(engines, "t_other_system", place) as settings:
        other = NodeYard(settings, place)
        try:
            with other.engine.begin() as connection:
                change_incarnation(connection, old=None, reason="另一套系统")
            for each in (yard, other):
                each.publisher = Publisher(each.urls["SCNS_REDIS_URL"], functools.partial(str, incarnation(each)))
                # 核对很久才来一次：作业启动得了就是消息到了。
                each.start_agent(SCNS_RECONCILE_INTERVAL_S="3600")
            jobs = [(each, each.run("echo $SLURM_JOB_ID >> ran\n")) for _ in range(10) for each in (yard, other)]
            for each, job_id in jobs:
                assert each.ended(job_id)["state"] == "COMPLETED"
            for each in (yard, other):
                ran = sorted(map(int, (each.output / "ran").read_text().split()))
                assert ran == [job_id for owner, job_id in jobs if owner is each]
        finally:
            other.close()


def test_two_systems_do_not_take_each_others_mail(yard: NodeYard, engines: Engines, tmp_path: Path) -> None:
    """两套合用一个 Valkey，通知的号也一样：各自的邮件由各自的后台进程发，一封不少，一封不多。"""
    box, port = Mailbox(), free_port()
    place = tmp_path / "other"
    place.mkdir()
    with ExitStack() as stack:
        other = NodeYard(stack.enter_context(own_database(engines, "t_other_mail", place)), place)
        stack.callback(other.close)
        with other.engine.begin() as connection:
            change_incarnation(connection, old=None, reason="另一套系统")
        controller = Controller(box, hostname="127.0.0.1", port=port)
        controller.start()
        stack.callback(controller.stop)
        sent = []
        for each, domain in ((yard, "one.example"), (other, "two.example")):
            more = {"SCNS_SMTP_HOST": "127.0.0.1", "SCNS_SMTP_PORT": str(port), "SCNS_MAIL_FROM": f"scns@{domain}"}
            background = subprocess.Popen(
                [sys.executable, "-m", "scns_conductor.worker.background.process"],
                env=each.environment("n1", **more),
                cwd=each.work,
            )
            stack.callback(background.wait, 30)
            stack.callback(background.terminate)
        # 一次一个：一封一条消息，谁先取到就是谁的。
        for number in range(6):
            for each, domain in ((yard, "one.example"), (other, "two.example")):
                job_id = each.submit("true\n", name=f"信{number}", mail_type="BEGIN", mail_user=f"ada@{domain}")
                each.start(job_id, send=False)
                sent.append((f"ada@{domain}", str(job_id)))
            wait_until(lambda: len(box.letters) >= len(sent), "都发了")
        assert sorted((to[0], str(letter["X-SCNS-Job-ID"])) for to, letter in box.letters) == sorted(sent)
        assert all(str(letter["From"]).endswith(to[0].partition("@")[2]) for to, letter in box.letters)
