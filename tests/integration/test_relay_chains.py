"""接力的链：份额只算一份，哪一种结束的次序都不多不少；整个系统跑起来，同一个槽上的作业一个接一个，不重叠。"""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from node_yard import NodeYard
from psycopg.rows import dict_row
from shepherd_yard import wait_until

from running_system import RunningSystem, database_url
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import JobState
from scns_conductor.statements.ends import JobEnd, commit_ends
from scns_conductor.statements.relay import Offer, Successor, hand_over

CPUS, MEMORY = 1, 16


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    running.execute(
        "INSERT INTO nodes (name, address, cpus, memory, state, last_heartbeat) "
        "VALUES ('n1', 'localhost', 3, 4096, 'UP', now())"
    )
    yield running
    running.close()


def end_of(job_id: int, state: JobState = JobState.COMPLETED) -> JobEnd:
    return JobEnd(job_id, 0, state, "give_back" if state == JobState.PENDING else "exit", "agent@n1", exit_status=0)


def offer_of(yard: NodeYard, depth: int, most: int) -> Offer:
    leader = yard.query("SELECT epoch, extract(epoch FROM now())::float8 AS now FROM scheduler_leader")[0]
    jobs = yard.query(
        "SELECT job_id, revision FROM jobs WHERE state = 'PENDING' AND restart_count = 0 ORDER BY job_id LIMIT :most",
        most=most,
    )
    listed = tuple((job["job_id"], None, job["revision"]) for job in jobs)
    return Offer(leader["epoch"], leader["now"] + 600, CPUS, MEMORY, 1, listed, depth)


def relay(yard: NodeYard, ends: list[JobEnd], depth: int, most: int = 100) -> list[Successor]:
    offer = offer_of(yard, depth, most)
    with yard.engine.begin() as connection:
        _, successors = hand_over(connection, "n1", ends, [end.job_id for end in ends], offer)
    return successors


def held(yard: NodeYard) -> dict[int, int | None]:
    """没有释放的，各在哪条链上。"""
    rows = yard.query("SELECT job_id, relay_chain FROM resource_allocations WHERE released_at IS NULL")
    return {row["job_id"]: row["relay_chain"] for row in rows}


def check(yard: NodeYard) -> None:
    """节点的计数恰好是各份份额之和：一条链一份。"""
    shares = {-job_id if chain is None else chain for job_id, chain in held(yard).items()}
    node = yard.node()
    assert (node["allocated_cpus"], node["allocated_memory"]) == (CPUS * len(shares), MEMORY * len(shares))
    running = {row["job_id"] for row in yard.query("SELECT job_id FROM jobs WHERE state = 'RUNNING'")}
    assert running == held(yard).keys()


def test_a_chain_holds_one_share_and_is_lengthened_as_it_is_used_up(yard: NodeYard) -> None:
    first = yard.submit("true")
    yard.start(first, memory=MEMORY, send=False)
    waiting = [yard.submit("true") for _ in range(6)]
    successors = relay(yard, [end_of(first)], 3)
    assert [successor.job.job_id for successor in successors] == waiting[:3]
    assert len({successor.chain for successor in successors}) == 1
    assert successors[0].chain is not None
    check(yard)
    # 用掉两个，补上两个，接在后面。
    more = relay(yard, [end_of(job_id) for job_id in waiting[:2]], 3)
    assert [(each.job.job_id, each.chain) for each in more] == [
        (job_id, successors[0].chain) for job_id in waiting[3:5]
    ]
    check(yard)
    # 交还了一个：这一批不再往这条链上接，份额还是它的。
    with yard.engine.begin() as connection:
        commit_ends(connection, [end_of(waiting[3], JobState.PENDING)])
    assert yard.job(waiting[3])["state"] == "PENDING"
    check(yard)
    assert relay(yard, [end_of(waiting[2]), end_of(waiting[4], JobState.PENDING)], 3) == []
    assert held(yard) == {}
    check(yard)


def test_the_true_start_is_written_with_the_end(yard: NodeYard) -> None:
    first = yard.submit("true")
    yard.start(first, memory=MEMORY, send=False)
    second, third = yard.submit("true"), yard.submit("true")
    relay(yard, [end_of(first)], 2)
    claimed = yard.query("SELECT job_id, extract(epoch FROM start_time)::float8 AS at FROM jobs ORDER BY job_id")
    at = {row["job_id"]: row["at"] for row in claimed}
    with yard.engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.05)")
        ends = [
            JobEnd(
                *(third, 0, JobState.COMPLETED, "exit", "agent@n1", at[third] + 0.04),
                exit_status=0,
                true_start=at[third] + 0.02,
            ),
            # 说得比记的还早的不信。
            JobEnd(
                *(second, 0, JobState.COMPLETED, "exit", "agent@n1", at[second] + 0.02),
                exit_status=0,
                true_start=at[second] - 5,
            ),
        ]
        commit_ends(connection, ends)
    rows = yard.query(
        "SELECT j.job_id, extract(epoch FROM j.start_time)::float8 AS start, extract(epoch FROM a.created_at)::float8 "
        "AS born FROM jobs AS j JOIN resource_allocations AS a USING (job_id) WHERE j.job_id = ANY(:ids)",
        ids=[second, third],
    )
    found = {row["job_id"]: (row["start"], row["born"]) for row in rows}
    assert found[third] == pytest.approx((at[third] + 0.02, at[third] + 0.02), abs=1e-4)
    assert found[second][0] == pytest.approx(at[second], abs=1e-4)


def test_a_node_whose_clock_is_ahead_does_not_end_a_job_before_it_starts(yard: NodeYard) -> None:
    """折算之后还在将来的开始与结束都压到现在：两个「现在」差着几微秒，也不许倒过来（混沌测试种子 42）。"""
    first = yard.submit("true")
    yard.start(first, memory=MEMORY, send=False)
    waiting = [yard.submit("true") for _ in range(16)]
    relay(yard, [end_of(first)], 16)
    now = yard.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")[0]["now"]
    ends = [
        JobEnd(*(job_id, 0, JobState.COMPLETED, "exit", "agent@n1", now + 60), exit_status=0, true_start=now + 59)
        for job_id in waiting
    ]
    with yard.engine.begin() as connection:
        commit_ends(connection, ends)
    backwards = yard.query("SELECT job_id, start_time, end_time FROM jobs WHERE end_time < start_time")
    assert backwards == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_ends_in_whatever_order_the_counters_are_exact(yard: NodeYard, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(3):
        yard.start(yard.submit("true"), memory=MEMORY, send=False)
    for _ in range(40):
        yard.submit("true")
    for _ in range(25):
        ends = [
            end_of(job_id, dice.choice([JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED, JobState.PENDING]))
            for job_id in dice.sample(sorted(held(yard)), min(len(held(yard)), dice.randint(1, 4)))
        ]
        if dice.random() < 0.7:
            relay(yard, ends, dice.randint(1, 4), dice.randint(0, 6))
        else:
            with yard.engine.begin() as connection:
                commit_ends(connection, ends)
        check(yard)
        if not held(yard):
            yard.start(yard.submit("true"), memory=MEMORY, send=False)
    with yard.engine.begin() as connection:
        commit_ends(connection, [end_of(job_id) for job_id in held(yard)])
    check(yard)
    assert yard.node()["allocated_cpus"] == 0


def test_two_sessions_that_end_one_chain_at_once_release_its_share_once(yard: NodeYard) -> None:
    for _ in range(5):
        first = yard.submit("true")
        yard.start(first, memory=MEMORY, send=False)
        pair = [yard.submit("true") for _ in range(2)]
        relay(yard, [end_of(first)], 2)
        # 两边都锁住自己的作业，再一起释放。
        meet = threading.Barrier(2)
        errors: list[str] = []

        def finish(job_id: int, meet: threading.Barrier = meet, errors: list[str] = errors) -> None:
            for _ in range(5):
                try:
                    with yard.engine.begin() as connection:
                        connection.exec_driver_sql(f"SELECT 1 FROM jobs WHERE job_id = {job_id} FOR UPDATE")
                        if not meet.broken:
                            meet.wait(10)
                        commit_ends(connection, [end_of(job_id)])
                    return
                except sa.exc.OperationalError as error:
                    # 互相等的，PostgreSQL 撤掉一边：再来一遍，与代理相同。
                    meet.abort()
                    errors.append(type(error.orig).__name__)

        threads = [threading.Thread(target=finish, args=(job_id,)) for job_id in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(errors) <= {"DeadlockDetected"}
        assert held(yard) == {}
        check(yard)


def test_jobs_of_one_slot_run_one_after_the_other(lent_system: RunningSystem, tmp_path: Path) -> None:
    """两个槽、三百个短作业：都恰好跑一遍，链用上了，任何时刻至多两个在跑，数据库里的时刻与脚本自己看到的一致。"""
    system = lent_system
    log = system.data_dir.with_name(f"{system.data_dir.name}.log")
    told_before = log.stat().st_size
    ran = tmp_path / "ran"
    ran.mkdir()
    # 比下面放宽的 10 毫秒久：快的机器上不睡的只有两三毫秒，看不出有两个同时在跑。
    script = f"#!/bin/sh\necho >> {ran}/$SLURM_JOB_ID\nsleep 0.02\n"
    jobs = [{"job": {"name": "short", "memory_per_node": "16M", "time_limit": "1"}, "script": script}] * 300
    ids = [int(job_id) for job_id in system.call("POST", "/jobs/submit/batch", {"jobs": jobs})[1]["job_ids"]]
    with psycopg.connect(database_url(system), autocommit=True, row_factory=dict_row) as database:
        done = "SELECT count(*) AS done FROM jobs WHERE state = 'COMPLETED' AND name = 'short'"
        wait_until(lambda: database.execute(done).fetchall()[0]["done"] == 300, "都做完", 120)
        rows = database.execute(
            "SELECT extract(epoch FROM start_time)::float8 AS start, extract(epoch FROM end_time)::float8 AS stop, "
            "relay_chain FROM jobs JOIN resource_allocations USING (job_id)"
        ).fetchall()
        node = database.execute("SELECT allocated_cpus, allocated_memory FROM nodes").fetchall()[0]
    assert {path.name: path.read_text() for path in ran.iterdir()} == {str(job_id): "\n" for job_id in ids}
    assert sum(row["relay_chain"] is not None for row in rows) > 100
    # 两个钟之差量得准到几毫秒。
    marks = sorted([(row["start"] + 0.01, 1) for row in rows] + [(row["stop"], -1) for row in rows])
    running = most = 0
    for _, step in marks:
        running += step
        most = max(most, running)
    assert most == 2
    assert (node["allocated_cpus"], node["allocated_memory"]) == (0, 0)
    assert b"memory_reconciled" not in log.read_bytes()[told_before:]
