"""作业的真相：启动与结束的成批提交、领导者的栅栏、迁移的升降。"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Connection

from running_system import wait_until
from scns_conductor import migrations
from scns_conductor.core.database import sync_engine
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import JobState
from scns_conductor.statements.ends import JobEnd, OutputTail, commit_ends
from scns_conductor.statements.reservations import ADVANCE_VERSION, CURRENT_VERSION
from scns_conductor.statements.starts import Share, Start, Started, commit_starts
from scns_conductor.worker.scheduler.leader import SCHEDULER_ROLE, SEAT_ROLE, Leadership, NotLeader

SHARE = (Share("n1", 1, 100, {"gpu": 1}, 1),)


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    engine = sync_engine(settings)
    with engine.connect() as opened:
        with opened.begin():
            opened.execute(
                sa.text(
                    "INSERT INTO nodes (name, address, cpus, memory, gres, state) "
                    "VALUES ('n1', 'n1', 4, 1000, CAST(:gres AS jsonb), 'UP')"
                ),
                {"gres": '{"gpu": 4}'},
            )
        yield opened
    engine.dispose()


@pytest.fixture
def epoch(connection: Connection) -> int:
    with connection.engine.connect() as seat:
        leadership = Leadership(seat, lease_s=10)
        assert leadership.acquire(threading.Event())
        leadership.resign()
        seat.invalidate()
    return leadership.epoch


def submit(connection: Connection, **values: Any) -> int:
    row = {
        "name": "j",
        "user_name": "u",
        "partition": "main",
        "current_working_directory": "/tmp",
        "script": "#!/bin/sh",
    }
    row |= values
    statement = f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join(':' + key for key in row)}) RETURNING job_id"
    with connection.begin():
        return int(connection.execute(sa.text(statement), row).scalar_one())


def start(connection: Connection, epoch: int, *starts: Start) -> list[int]:
    with connection.begin():
        return [started.job_id for started in commit_starts(connection, epoch, starts)]


def plain(job_id: int, share: tuple[Share, ...] = SHARE) -> Start:
    return Start(job_id, 0, None, False, "n1", share)


def end(job_id: int, state: JobState = JobState.COMPLETED, **values: Any) -> JobEnd:
    return JobEnd(job_id, values.pop("restart_count", 0), state, "exit", "agent@n1", **values)


def finish(connection: Connection, *ends: JobEnd) -> list[str]:
    with connection.begin():
        return [ended.state for ended in commit_ends(connection, ends)]


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.begin():
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def used(connection: Connection) -> tuple[Any, ...]:
    return rows(connection, "SELECT allocated_cpus, allocated_memory, allocated_gres FROM nodes")[0]


def test_the_end_time_stays_between_the_start_and_now(connection: Connection, epoch: int) -> None:
    """节点的钟折算过来差一点：等它结束的作业不会看起来先启动了。"""
    early, late = submit(connection), submit(connection)
    start(connection, epoch, plain(early), plain(late))
    finish(connection, end(early, end_time=0.0), end(late, end_time=4e9))
    assert rows(
        connection,
        "SELECT end_time = start_time, end_time BETWEEN start_time AND clock_timestamp() FROM jobs ORDER BY job_id",
    ) == [(True, True), (False, True)]


def test_a_job_starts_and_ends_and_returns_what_it_held(connection: Connection, epoch: int) -> None:
    job_id = submit(connection)
    assert start(connection, epoch, plain(job_id)) == [job_id]
    assert used(connection) == (1, 100, {"gpu": 1})
    assert start(connection, epoch, plain(job_id)) == [], "已经启动的不会再启动"
    tail = OutputTail("stdout", "/tmp/o", b"\x00\xff", 2)
    assert finish(connection, end(job_id, exit_status=0, outputs=(tail,))) == ["COMPLETED"]
    assert finish(connection, end(job_id, JobState.FAILED)) == [], "重复的报告什么也不做"
    assert used(connection) == (0, 0, {})
    assert rows(connection, "SELECT from_state, to_state FROM job_events ORDER BY event_id") == [
        ("PENDING", "RUNNING"),
        ("RUNNING", "COMPLETED"),
    ]
    assert rows(connection, "SELECT content FROM job_outputs") == [(b"\x00\xff",)]


def test_an_over_allocation_changes_nothing(connection: Connection, epoch: int) -> None:
    jobs = [submit(connection) for _ in range(5)]
    with pytest.raises(sa.exc.IntegrityError, match="nodes_"):
        start(connection, epoch, *(plain(job_id) for job_id in jobs))
    assert used(connection) == (0, 0, {})
    assert rows(connection, "SELECT DISTINCT state FROM jobs") == [("PENDING",)]


def test_changed_held_and_cancelled_jobs_drop_out_of_a_plan(connection: Connection, epoch: int) -> None:
    held, changed, cancelled = submit(connection, hold="user"), submit(connection, revision=1), submit(connection)
    good = submit(connection)
    rows(connection, f"UPDATE jobs SET state = 'CANCELLED' WHERE job_id = {cancelled} RETURNING job_id")
    plan = [plain(job_id) for job_id in (held, changed, cancelled, good)]
    assert start(connection, epoch, *plan) == [good]
    assert used(connection)[0] == 1


def test_array_tasks_split_off_and_the_row_becomes_the_last(connection: Connection, epoch: int) -> None:
    job_id = submit(connection, array_remaining="{[0,3)}")
    first = start(connection, epoch, Start(job_id, 0, 1, False, "n1", SHARE))
    assert first != [job_id]
    assert start(connection, epoch, Start(job_id, 0, 1, False, "n1", SHARE)) == [], "同一任务不会拆两次"
    last = start(connection, epoch, Start(job_id, 0, 0, False, "n1", SHARE), Start(job_id, 0, 2, True, "n1", SHARE))
    assert job_id in last
    tasks = rows(connection, "SELECT array_task_id, state FROM jobs ORDER BY array_task_id")
    assert tasks == [(0, "RUNNING"), (1, "RUNNING"), (2, "RUNNING")]
    assert used(connection) == (3, 300, {"gpu": 3})


def test_a_node_failure_requeues_only_the_current_attempt(connection: Connection, epoch: int) -> None:
    job_id = submit(connection)
    start(connection, epoch, plain(job_id))
    failure = end(job_id, JobState.NODE_FAIL, requeue_if_allowed=True)
    assert finish(connection, failure) == ["PENDING"]
    assert start(connection, epoch, plain(job_id)) == [job_id]
    assert finish(connection, failure) == [], "上一次尝试的迟到报告不影响这一次"
    assert finish(connection, end(job_id, restart_count=1)) == ["COMPLETED"]
    assert used(connection) == (0, 0, {})


def test_a_requested_cancel_wins_over_the_exit(connection: Connection, epoch: int) -> None:
    job_id = submit(connection)
    start(connection, epoch, plain(job_id))
    rows(connection, "UPDATE jobs SET requested_end_state = 'CANCELLED', requested_end_actor = 'u' RETURNING 1")
    assert finish(connection, end(job_id, JobState.FAILED, exit_signal=15)) == ["CANCELLED"]
    assert rows(connection, "SELECT actor FROM job_events ORDER BY event_id DESC LIMIT 1") == [("u",)]


def test_a_leader_past_its_lease_is_evicted_and_can_change_nothing(settings: Settings, connection: Connection) -> None:
    job_id = submit(connection)
    seats = sync_engine(settings, role=SEAT_ROLE, pooled=False)
    mains = sync_engine(settings, role=SCHEDULER_ROLE, pooled=False)
    impatient = threading.Event()
    impatient.set()
    with seats.connect() as old_seat, seats.connect() as seat, ExitStack() as later:
        old = Leadership(old_seat, lease_s=1)
        assert old.acquire(threading.Event())
        main = later.enter_context(mains.connect())
        with seats.connect() as third:
            assert not Leadership(third, lease_s=1).acquire(impatient), "租约有效时不得接管"
        # 没有续租：服务器断开旧的席位，等着的当选，并断开旧领导者提交计划的会话。
        new = Leadership(seat, lease_s=30)
        assert new.acquire(threading.Event())
        assert new.epoch == old.epoch + 1
        with pytest.raises(sa.exc.OperationalError):
            old.renew()
        with pytest.raises(sa.exc.OperationalError):
            start(main, old.epoch, plain(job_id))
        with connection.begin():
            assert commit_starts(connection, old.epoch, [plain(job_id)]) == [], "旧的 epoch 过不了栅栏"
        new.epoch = old.epoch
        with pytest.raises(NotLeader):
            new.renew()


def test_a_start_planned_before_a_reservation_changed_comes_to_nothing(connection: Connection, epoch: int) -> None:
    engine = connection.engine
    job_id, later = submit(connection), submit(connection)
    with connection.begin():
        seen = connection.scalar(CURRENT_VERSION)
        found = commit_starts(connection, epoch, [plain(job_id)], seen)
    assert [each.job_id for each in found] == [job_id]
    started: list[Started] = []

    def commit() -> None:
        with engine.connect() as scheduler, scheduler.begin():
            started.extend(commit_starts(scheduler, epoch, [plain(later)], seen))

    # 改预留的事务在前：启动等它提交，然后不成立。
    with engine.connect() as other, other.begin():
        other.execute(ADVANCE_VERSION)
        committing = threading.Thread(target=commit)
        committing.start()
        with engine.connect() as watcher:
            wait_until(lambda: waits_for_a_lock(watcher), 60, "启动等着")
    committing.join()
    assert started == []
    with connection.begin():
        assert [each.job_id for each in commit_starts(connection, epoch, [plain(later)], seen + 1)] == [later]


def waits_for_a_lock(connection: Connection) -> bool:
    with connection.begin():
        return bool(connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")))


def test_migrations_go_up_and_down_and_match_the_models(empty_settings: Settings) -> None:
    assert migrations.current(empty_settings) is None
    migrations.upgrade(empty_settings)
    assert migrations.current(empty_settings) == wanted_version()
    command.check(migrations.alembic_config(empty_settings))
    engine = sync_engine(empty_settings)
    with engine.connect() as connection:
        submit(connection)
    engine.dispose()
    migrations.downgrade(empty_settings, "base")
    assert migrations.current(empty_settings) is None
    migrations.upgrade(empty_settings)
    migrations.upgrade(empty_settings)


def test_an_older_database_with_jobs_is_upgraded_in_place(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0001")
    engine = sync_engine(empty_settings)
    with engine.connect() as connection:
        job_id = submit(connection)
    migrations.upgrade(empty_settings)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT state FROM jobs WHERE job_id = :id"), {"id": job_id}) == "PENDING"
        assert connection.scalar(sa.text("SELECT count(*) FROM job_steps")) == 0
    engine.dispose()
    migrations.downgrade(empty_settings, "0001")
    assert migrations.current(empty_settings) == "0001"
