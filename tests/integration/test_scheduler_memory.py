"""调度器的记忆：作业走了，什么也不留下；跑上几个月也不长。"""

from collections.abc import Iterator, Sized
from dataclasses import fields

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.worker.scheduler.limit_pools import JobLimits
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.priority_factors import JobPriority

NOW = 1.8e9
JOBS = 500


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    engine = sync_engine(settings)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


@pytest.fixture
def memory(settings: Settings, connection: Connection) -> QueueMemory:
    found = QueueMemory(Defaults(0, 0), {}, JobPriority(settings), JobLimits.of(settings), clock=lambda: NOW)
    with connection.begin():
        found.load_all(connection, NOW)
    return found


def submit(connection: Connection, count: int, **values: object) -> list[int]:
    row = {"name": "j", "user_name": "u", "partition": "main", "current_working_directory": "/", "script": "x"} | values
    marks = ", ".join(f"CAST(:{name} AS timestamptz)" if name == "begin_time" else f":{name}" for name in row)
    statement = f"INSERT INTO jobs ({', '.join(row)}) SELECT {marks} FROM generate_series(1, :count) RETURNING job_id"
    with connection.begin():
        return list(connection.scalars(sa.text(statement), {**row, "count": count}))


def sizes(memory: QueueMemory) -> dict[str, int]:
    """记忆里每样东西有几个；共用的值（按种类，有上限）没有长度，不算。"""
    values = {field.name: getattr(memory, field.name) for field in fields(memory)}
    return {name: len(value) for name, value in values.items() if isinstance(value, Sized)}


@pytest.mark.parametrize("through", ["refresh", "ended"])
def test_jobs_that_are_gone_leave_nothing_behind(connection: Connection, memory: QueueMemory, through: str) -> None:
    """每个作业等着另一个作业，又各是一个 singleton：都结束之后，索引里一个空集合也没有。"""
    before = sizes(memory)
    targets = submit(connection, JOBS, hold="user")
    waiting = [
        submit(connection, 1, name=f"only-{target}", dependency=f"afterany:{target},singleton")[0] for target in targets
    ]
    everything = [*targets, *waiting]
    with connection.begin():
        memory.refresh(connection, everything, NOW)
    assert len(memory.waiting) == 2 * JOBS
    assert len(memory._dependents) == 2 * JOBS
    with connection.begin():
        connection.execute(sa.text("UPDATE jobs SET state = 'CANCELLED', end_time = clock_timestamp()"))
        getattr(memory, through)(connection, everything, NOW)
        memory.reconcile(connection, NOW)
    left = sizes(memory) | {"unwritten": 0}
    assert left == before | {"unwritten": 0}


def test_the_alarms_of_waiting_jobs_do_not_pile_up(connection: Connection, memory: QueueMemory) -> None:
    """分区改一次，还没有到时刻的就都重看一遍：闹钟不随改的次数增加。"""
    jobs = submit(connection, JOBS, begin_time="2100-01-01 00:00:00+00")
    with connection.begin():
        memory.refresh(connection, jobs, NOW)
        for number in range(40):
            connection.execute(sa.text("UPDATE partitions SET max_time = :time"), {"time": 1000 + number})
            memory.load_partitions(connection, NOW)
    assert len(memory._alarms) <= 8 * JOBS + 1000
    assert memory.next_wake() == 4102444800.0


@pytest.mark.parametrize("flags", [[], ["DAILY"]])
@pytest.mark.parametrize("first_seen_by", ["wake", "reconcile"])
def test_the_start_and_the_end_of_a_reservation_call_for_a_plan_whoever_sees_them_first(
    connection: Connection, memory: QueueMemory, flags: list[str], first_seen_by: str
) -> None:
    """核对也重读预留，到了的时刻从此不再记着：它先看到的，也要知道该重新计划。"""
    start = "to_timestamp(:now + 10)"
    with connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO reservations (name, created_by, start_time, end_time, nodes, users, flags) "
                f"VALUES ('r', 'root', {start}, {start} + interval '3 seconds', 'ALL', ARRAY['u'], :flags)"
            ),
            {"now": NOW, "flags": flags},
        )
        memory.load_partitions(connection, NOW)
        for moment in (NOW + 10.5, NOW + 13.5):
            assert (memory.next_wake() or 0) <= moment
            version = memory.cluster.version
            getattr(memory, first_seen_by)(connection, moment)
            assert memory.cluster.version != version
            assert memory.next_wake() is None or memory.next_wake() > moment  # type: ignore[operator]
