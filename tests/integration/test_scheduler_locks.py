"""别的会话（一个忘了提交的 psql）锁着调度要写的行：别的作业照常启动，健康检查说是谁，锁放开了它也启动。"""

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until
from test_node_steps import ended_step, launch
from test_scheduler import scheduler, submitted

from scns_conductor.core.async_database import async_engine
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings
from scns_conductor.services.health import readiness
from scns_conductor.statements.leadership import LEADER_LOCK

pytestmark = pytest.mark.faults

LEASE_S = 2.0
BLOCKER = "forgotten-psql"
# 机器忙时，光是起进程就要十几秒。
WAIT_S = 60.0


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@contextmanager
def locked(yard: NodeYard, statement: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """另一条会话开着事务，锁着 statement 选中的行；离开时撤销。"""
    url = re.sub(r"^postgresql\+?\w*:", "postgresql:", yard.urls["SCNS_DATABASE_URL"])
    with psycopg.connect(url, application_name=BLOCKER) as connection:
        cursor = connection.execute(statement.encode())
        assert cursor.description is None or cursor.rowcount > 0, "没有锁住什么"
        yield connection
        connection.rollback()


def health(yard: NodeYard) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        settings = Settings(database_url=yard.urls["SCNS_DATABASE_URL"], scheduler_lease_s=LEASE_S, node_timeout_s=60)
        engine = async_engine(settings)
        try:
            return await readiness(engine, settings, wanted_version())
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def blockers(yard: NodeYard) -> set[tuple[str, str, tuple[str, ...]]]:
    found = health(yard)["checks"]["scheduler"].get("blocked_by", ())
    return {(block["table"], block["application_name"], tuple(block["rows"])) for block in found}


def state(yard: NodeYard, job_id: int) -> str:
    return str(yard.job(job_id)["state"])


def completes(yard: NodeYard, *job_ids: int) -> None:
    for job_id in job_ids:
        wait_until(lambda job_id=job_id: state(yard, job_id) == "COMPLETED", f"作业 {job_id} 做完", WAIT_S)


def epochs(yard: NodeYard) -> int:
    return int(yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"])


def running(yard: NodeYard) -> None:
    """两个调度器之一在任。"""
    wait_until(lambda: epochs(yard) > 0, "选出领导者", WAIT_S)


@pytest.mark.parametrize("mode", ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE"])
def test_a_locked_due_job_is_left_out_and_told(yard: NodeYard, mode: str) -> None:
    yard.start_agent()
    stuck = yard.submit("#!/bin/sh\n")
    # 锁着之后才有调度器：它上任就会启动这个作业。
    with ExitStack() as lock:
        lock.enter_context(locked(yard, f"SELECT 1 FROM jobs WHERE job_id = {stuck} {mode}"))
        with scheduler(yard), scheduler(yard):
            running(yard)
            submitted(yard, "#!/bin/sh\n")
            others = [submitted(yard, "#!/bin/sh\n") for _ in range(5)]
            completes(yard, *others)
            wait_until(lambda: blockers(yard) == {("jobs", BLOCKER, (str(stuck),))}, "健康检查说是谁锁着")
            assert health(yard)["status"] == "ok", "别的照常，仍然就绪"
            assert state(yard, stuck) == "PENDING"
            lock.close()
            completes(yard, stuck)
            wait_until(lambda: not blockers(yard), "放开之后不再说")
            assert epochs(yard) == 1, "没有换过领导者"
    log = (yard.work / "scheduler.log").read_text()
    assert BLOCKER in log
    assert "rows_released" in log


def test_a_locked_array_and_its_singles(yard: NodeYard) -> None:
    """锁着的是数组行：任务一个也不拆，别的照常；放开之后全部都跑。"""
    yard.start_agent()
    array = yard.submit("#!/bin/sh\n", array_remaining="{[0,3)}")
    with ExitStack() as lock:
        lock.enter_context(locked(yard, f"SELECT 1 FROM jobs WHERE job_id = {array} FOR UPDATE"))
        with scheduler(yard):
            running(yard)
            completes(yard, submitted(yard, "#!/bin/sh\n"))
            wait_until(lambda: blockers(yard), "说是谁锁着")
            assert len(yard.query("SELECT 1 FROM jobs WHERE array_job_id = :id OR job_id = :id", id=array)) == 1
            lock.close()
            told = "SELECT 1 FROM jobs WHERE (array_job_id = :id OR job_id = :id) AND state = 'COMPLETED'"
            wait_until(lambda: len(yard.query(told, id=array)) == 3, "三个任务都做完")


def test_starts_on_a_locked_node_are_left_out(yard: NodeYard) -> None:
    yard.start_agent("n1")
    yard.start_agent("n2")
    with scheduler(yard), scheduler(yard):
        running(yard)
        with locked(yard, "SELECT 1 FROM nodes WHERE name = 'n2' FOR UPDATE"):
            there = submitted(yard, "#!/bin/sh\n", required_nodes="n2")
            here = [submitted(yard, "#!/bin/sh\n", cpus_per_task=4) for _ in range(6)]
            completes(yard, *here)
            wait_until(lambda: ("nodes", BLOCKER, ("n2",)) in blockers(yard), "健康检查说是谁锁着")
            assert {yard.job(job_id)["node_list"] for job_id in here} == {"n1"}
            assert state(yard, there) == "PENDING"
        completes(yard, there)
        assert epochs(yard) == 1


def test_a_node_whose_row_is_locked_is_not_declared_silent(yard: NodeYard) -> None:
    """心跳写不进去是因为行被锁着：不判失联，作业照跑；别的失联的节点照判。"""
    yard.start_agent("n1")
    yard.start_agent("n2")
    with scheduler(yard, SCNS_NODE_TIMEOUT_S="2"):
        job_id = submitted(yard, "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.1; done\n", required_nodes="n1")
        wait_until(lambda: state(yard, job_id) == "RUNNING", "运行")
        with locked(yard, "SELECT 1 FROM nodes WHERE name = 'n1' FOR UPDATE"):
            yard.kill_agent("n2")
            wait_until(lambda: yard.node("n2")["state"] == "DOWN", "n2 失联")
            wait_until(lambda: ("nodes", BLOCKER, ("n1",)) in blockers(yard), "说 n1 被锁着")
        (yard.output / "go").touch()
        completes(yard, job_id)
    assert yard.job(job_id)["restart_count"] == 0
    assert yard.node("n1")["state"] == "UP"


@pytest.mark.parametrize("table", ["jobs", "resource_allocations"])
def test_a_dead_node_frees_what_is_not_locked(yard: NodeYard, table: str) -> None:
    """节点失联：一个作业的行（或分配）被锁着，别的作业照样换个节点重来；放开之后它也是。"""
    yard.start_agent("n1")
    with scheduler(yard, SCNS_NODE_TIMEOUT_S="2"):
        script = "#!/bin/sh\n[ $SLURMD_NODENAME != n1 ] || sleep 300\n"
        stuck, free = (submitted(yard, script) for _ in range(2))
        for job_id in (stuck, free):
            wait_until(lambda job_id=job_id: state(yard, job_id) == "RUNNING", "运行")
        with locked(yard, f"SELECT 1 FROM {table} WHERE job_id = {stuck} FOR UPDATE"):
            yard.kill_agent("n1")
            yard.start_agent("n2")
            completes(yard, free)
            wait_until(lambda: (table, BLOCKER, (str(stuck),)) in blockers(yard), "说是谁锁着")
            assert state(yard, stuck) == "RUNNING"
        completes(yard, stuck)
    assert yard.job(stuck)["restart_count"] == 1
    assert yard.node("n1")["allocated_cpus"] == 0


@pytest.mark.parametrize("table", ["jobs", "resource_allocations"])
def test_a_locked_running_job_holds_back_nobody_else_on_its_node(yard: NodeYard, table: str) -> None:
    # 心跳慢：锁住的时候，它的进程号多半还没有写。
    yard.start_agent(SCNS_HEARTBEAT_INTERVAL_S="3")
    stuck = yard.run("touch up; while [ ! -e go ]; do sleep 0.1; done\n")
    yard.exists("up")
    with locked(yard, f"SELECT 1 FROM {table} WHERE job_id = {stuck} FOR UPDATE"):
        other = yard.run("while [ ! -e go_too ]; do sleep 0.1; done\n")
        wait_until(lambda: yard.job(other)["process_id"], "别的作业的进程号写下了", WAIT_S)
        (yard.output / "go").touch()
        # 锁着的那个先结束：收尾等锁等到头，放下它。
        wait_until(lambda: "ends_locked" in yard.log(), "说了锁着", WAIT_S)
        (yard.output / "go_too").touch()
        completes(yard, other, yard.run("true\n"))
        assert state(yard, stuck) == "RUNNING"
    completes(yard, stuck)


def test_a_locked_step_holds_back_nobody_else_on_its_node(yard: NodeYard) -> None:
    yard.start_agent()
    stuck = yard.run("touch up; while [ ! -e go ]; do sleep 0.1; done\n")
    yard.exists("up")
    # 步的行写下、步做完之间锁上它：步等着一个文件。
    launch(yard, stuck, {"n1": [0]}, ["bash", "-c", "touch in; while [ ! -e step_go ]; do sleep 0.1; done; exit 4"])
    yard.exists("in")
    with locked(yard, f"SELECT 1 FROM job_steps WHERE job_id = {stuck} FOR UPDATE"):
        (yard.output / "step_go").touch()
        wait_until(lambda: "ends_locked" in yard.log(), "说了锁着", WAIT_S)
        other = yard.run("true\n")
        launch(yard, yard.run("sleep 300\n"), {"n1": [0]}, ["true"])
        completes(yard, other)
        assert ended_step(yard, other + 1)["state"] == "COMPLETED"
    assert ended_step(yard, stuck)["exit_status"] == 4
    (yard.output / "go").touch()
    completes(yard, stuck)
    assert yard.job(stuck)["derived_exit_status"] == 4


def test_a_locked_allocation_holds_back_no_other_launch_on_its_node(yard: NodeYard) -> None:
    yard.start_agent()
    stuck, *others = [yard.submit("true\n") for _ in range(3)]
    # 代理停着：锁住时一定还没有认领。
    yard.agents["n1"].send_signal(signal.SIGSTOP)
    yard.start(stuck, send=False)
    with locked(yard, f"SELECT 1 FROM resource_allocations WHERE job_id = {stuck} FOR UPDATE"):
        for job_id in others:
            yard.start(job_id, send=False)
        yard.send("launch", job_ids=[stuck, *others])
        yard.agents["n1"].send_signal(signal.SIGCONT)
        completes(yard, *others)
        late = yard.run("true\n")
        completes(yard, late)
        assert state(yard, stuck) == "RUNNING"
    completes(yard, stuck)


def test_a_locked_leader_row_stops_nothing_and_health_says_so(yard: NodeYard) -> None:
    yard.start_agent()
    with scheduler(yard), scheduler(yard):
        running(yard)
        with locked(yard, "SELECT 1 FROM scheduler_leader FOR UPDATE"):
            wait_until(lambda: health(yard)["checks"]["scheduler"]["status"] == "blocked", "租约过期，说出来")
            assert health(yard)["status"] == "unavailable"
            assert blockers(yard) == {("scheduler_leader", BLOCKER, ())}
            completes(yard, *(submitted(yard, "#!/bin/sh\n") for _ in range(3)))
        wait_until(lambda: health(yard)["checks"]["scheduler"]["status"] == "ok", "放开之后续上了租")
        completes(yard, submitted(yard, "#!/bin/sh\n"))
        assert epochs(yard) == 1, "没有来回换领导者"


def test_a_locked_reservation_version_stops_nothing_for_long(yard: NodeYard) -> None:
    """启动要核对预留的版本；改预留的事务很短，锁得久的是不相干的会话。"""
    yard.start_agent()
    with scheduler(yard):
        running(yard)
        with locked(yard, "SELECT 1 FROM reservation_version FOR UPDATE"):
            job_id = submitted(yard, "#!/bin/sh\n")
            wait_until(lambda: ("reservation_version", BLOCKER, ("",)) in blockers(yard), "健康检查说是谁锁着")
            completes(yard, job_id)
        completes(yard, submitted(yard, "#!/bin/sh\n"))
        wait_until(lambda: not blockers(yard), "放开之后不再说")
        assert epochs(yard) == 1


def test_no_leader_is_elected_while_its_row_is_locked_but_then_one_is(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.submit("#!/bin/sh\n")
    with locked(yard, "SELECT 1 FROM scheduler_leader FOR UPDATE") as session, scheduler(yard), scheduler(yard):
        log = yard.work / "scheduler.log"
        wait_until(lambda: log.exists() and "leader_row_locked" in log.read_text(), "日志里说锁着")
        assert blockers(yard) == {("scheduler_leader", BLOCKER, ())}
        assert health(yard)["status"] == "unavailable"
        session.rollback()
        completes(yard, job_id)


@pytest.mark.parametrize(
    "table",
    ["partitions", "accounts", "associations", "qos", "job_events", "request_answers", "idempotency_keys"],
)
def test_rows_that_the_scheduler_only_reads_or_adds_to_do_not_matter(yard: NodeYard, table: str) -> None:
    yard.start_agent()
    old = submitted(yard, "#!/bin/sh\n")
    with scheduler(yard):
        completes(yard, old)
        with locked(yard, f"LOCK TABLE {table} IN ROW SHARE MODE") as session:
            session.execute(f"SELECT 1 FROM {table} FOR UPDATE".encode())
            completes(yard, submitted(yard, "#!/bin/sh\n"))


def test_a_locked_inbox_row_waits_and_the_others_are_taken(yard: NodeYard) -> None:
    yard.start_agent()
    signalled = submitted(yard, "#!/bin/sh\n", hold="user")
    row = yard.query("SELECT max(inbox_id) AS n FROM scheduler_inbox")[0]["n"]
    with ExitStack() as lock:
        lock.enter_context(locked(yard, f"SELECT 1 FROM scheduler_inbox WHERE inbox_id = {row} FOR UPDATE"))
        with scheduler(yard):
            running(yard)
            completes(yard, *(submitted(yard, "#!/bin/sh\n") for _ in range(3)))
            wait_until(lambda: blockers(yard) == {("scheduler_inbox", BLOCKER, (str(row),))}, "说是谁锁着")
            yard.execute("UPDATE jobs SET hold = NULL, revision = revision + 1 WHERE job_id = :id", id=signalled)
            completes(yard, signalled)
            lock.close()
            wait_until(lambda: not yard.query("SELECT 1 FROM scheduler_inbox"), "放开之后取走")
            wait_until(lambda: not blockers(yard), "不再说")


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
@pytest.mark.parametrize("table", ["jobs", "scheduler_inbox"])
def test_a_locked_table_is_told_and_the_leader_stays(yard: NodeYard, table: str, mode: str) -> None:
    """整张表被锁着（别人的 DDL）：没有什么能启动，健康检查说没有就绪、是谁；放开之后接着来，领导者不换。"""
    yard.start_agent()
    with scheduler(yard), scheduler(yard):
        completes(yard, submitted(yard, "#!/bin/sh\n"))
        due = yard.submit("#!/bin/sh\n")
        later = "UPDATE jobs SET begin_time = clock_timestamp() + interval '2 seconds' WHERE job_id = :id"
        yard.execute(later, id=due)
        yard.execute("INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', ARRAY[:id]::bigint[])", id=due)
        yard.execute("NOTIFY scns_inbox")
        with locked(yard, f"LOCK TABLE {table} IN {mode} MODE"):
            wait_until(lambda: (table, BLOCKER, ()) in blockers(yard), "健康检查说是谁锁着整张表")
            assert health(yard)["status"] == "unavailable"
        completes(yard, due, submitted(yard, "#!/bin/sh\n"))
        wait_until(lambda: health(yard)["status"] == "ok", "又就绪了")
        assert epochs(yard) == 1


def test_the_election_lock_held_by_someone_else_is_told(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = yard.submit("#!/bin/sh\n")
    with locked(yard, f"SELECT pg_advisory_lock({LEADER_LOCK})") as session, scheduler(yard):
        wait_until(lambda: blockers(yard) == {("advisory", BLOCKER, ())}, "健康检查说是谁占着")
        assert health(yard)["status"] == "unavailable"
        assert state(yard, job_id) == "PENDING"
        session.execute("SELECT pg_advisory_unlock_all()")
        completes(yard, job_id)
