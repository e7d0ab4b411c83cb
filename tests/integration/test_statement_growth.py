"""启动、结束、接力的语句翻过的行与作业数成正比：许多节点一起没有了，不能慢成平方。

不看快慢，数 EXPLAIN ANALYZE 里每一步给出、丢掉的行。
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import JobState
from scns_conductor.statements.claims import abandon_allocations, claim_allocations
from scns_conductor.statements.ends import JobEnd, commit_ends
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.statements.node_jobs import RECORD_PROCESSES, RECORD_USAGE
from scns_conductor.statements.relay import Offer, hand_over
from scns_conductor.statements.starts import Share, Start, commit_starts

MANY = 300
# 一个作业至多翻这么多行；平方的是 MANY 乘以几。
MOST_ROWS = 120
_EXECUTE = HotStatement.execute


class Measured:
    """一个数据库，MANY 个节点，每个节点上至多一个作业。"""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.epoch = int(self._value("UPDATE scheduler_leader SET epoch = epoch + 1 RETURNING epoch"))
        self._value(
            "INSERT INTO nodes (name, address, cpus, memory, state) SELECT 'x' || g, 'x' || g, 1000, 4096, 'UP' "
            f"FROM generate_series(0, {MANY}) AS g RETURNING name"
        )
        self.commit()

    def _value(self, text: str) -> Any:
        return self.connection.exec_driver_sql(text).scalars().first()

    def commit(self) -> None:
        self.connection.commit()

    def jobs(self) -> list[int]:
        """MANY 个新的作业。"""
        found = self.connection.exec_driver_sql(
            "INSERT INTO jobs (name, user_name, partition, current_working_directory, script) "
            f"SELECT 'x', 'root', 'main', '/', '#!/bin/sh' FROM generate_series(1, {MANY}) RETURNING job_id"
        ).scalars()
        return list(found)

    def start(self, jobs: list[int], node: Callable[[int], str]) -> None:
        share = {job: Share(node(index), 1, 1, {}, 1) for index, job in enumerate(jobs)}
        starts = [Start(job, 0, None, False, share[job].node_name, (share[job],)) for job in jobs]
        assert len(commit_starts(self.connection, self.epoch, starts)) == MANY

    def running(self) -> list[int]:
        """MANY 个在 x0 上运行的作业；统计还是它们都在排队时的：忙起来的一分钟里就是这样。"""
        jobs = self.jobs()
        self.connection.exec_driver_sql("ANALYZE jobs, resource_allocations")
        self.start(jobs, lambda _: "x0")
        self.commit()
        return jobs

    def rows(self, action: Callable[[], object]) -> int:
        """action 的语句翻过几行；它做的事不留下。"""
        said: list[tuple[str, Any]] = []

        def noted(statement: HotStatement, connection: sa.Connection, values: Any) -> Any:
            said.append((statement._text, values))
            return _EXECUTE(statement, connection, values)

        def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            said.append((statement, parameters))

        with pytest.MonkeyPatch.context() as patch, self.connection.begin_nested() as trial:
            patch.setattr(HotStatement, "execute", noted)
            sa.event.listen(self.connection, "before_cursor_execute", note)
            action()
            sa.event.remove(self.connection, "before_cursor_execute", note)
            trial.rollback()
        (hot,) = said
        with self.connection.begin_nested() as trial:
            found = self.connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {hot[0]}", hot[1]).scalar_one()
            trial.rollback()
        return _visited(found[0]["Plan"])


def _visited(step: dict[str, Any]) -> int:
    rows = step["Actual Rows"] + step.get("Rows Removed by Filter", 0) + step.get("Rows Removed by Join Filter", 0)
    return round(rows * step["Actual Loops"]) + sum(map(_visited, step.get("Plans", ())))


@pytest.fixture
def measured(settings: Settings) -> Iterator[Measured]:
    engine = sync_engine(settings, role="growth")
    with engine.connect() as connection:
        yield Measured(connection)
    engine.dispose()


def test_starting_on_many_nodes(measured: Measured) -> None:
    jobs = measured.jobs()
    measured.commit()
    assert MANY < measured.rows(lambda: measured.start(jobs, lambda index: f"x{index}")) < MANY * MOST_ROWS


def test_ending_on_many_nodes(measured: Measured) -> None:
    jobs = measured.jobs()
    measured.start(jobs, lambda index: f"x{index}")
    measured.commit()
    ends = [JobEnd(job, 0, JobState.NODE_FAIL, "node_fail", "scheduler") for job in jobs]

    def end() -> None:
        assert len(commit_ends(measured.connection, ends)) == MANY

    assert MANY < measured.rows(end) < MANY * MOST_ROWS


def test_claiming(measured: Measured) -> None:
    jobs = measured.running()

    def claim() -> None:
        assert len(claim_allocations(measured.connection, "x0", jobs)) == MANY

    assert MANY < measured.rows(claim) < MANY * MOST_ROWS


def test_abandoning(measured: Measured) -> None:
    jobs = measured.running()
    measured.connection.exec_driver_sql("UPDATE jobs SET requested_end_state = 'CANCELLED'")

    def abandon() -> None:
        assert len(abandon_allocations(measured.connection, "x0", jobs)) == MANY

    assert MANY < measured.rows(abandon) < MANY * MOST_ROWS


def test_recording_processes_and_usage(measured: Measured) -> None:
    jobs = measured.running()
    attempts = {"job_id": jobs, "attempt": [0] * MANY}
    numbers = ("user_s", "system_s", "max_rss_kb", "read_bytes", "written_bytes")

    def record(statement: sa.TextClause, values: dict[str, Any]) -> None:
        assert measured.connection.execute(statement, {**attempts, **values}).rowcount == MANY

    for statement, values in (
        (RECORD_PROCESSES, {"pid": jobs, "node": "x0"}),
        (RECORD_USAGE, dict.fromkeys(numbers, [1] * MANY)),
    ):
        rows = measured.rows(functools.partial(record, statement, values))
        assert MANY < rows < MANY * MOST_ROWS, statement


def test_handing_over_on_one_node(measured: Measured) -> None:
    later = measured.jobs()
    first = measured.running()
    measured.connection.exec_driver_sql("UPDATE resource_allocations SET claimed_at = clock_timestamp()")
    measured.commit()
    ends = [JobEnd(job, 0, JobState.COMPLETED, "exit", "agent@x0", exit_status=0) for job in first]
    offer = Offer(measured.epoch, time.time() + 3600, 1, 1, 1, tuple((job, None, 0) for job in later))

    def pass_on() -> None:
        ended, successors = hand_over(measured.connection, "x0", ends, first, offer)
        assert (len(ended), len(successors)) == (MANY, MANY)

    assert MANY < measured.rows(pass_on) < MANY * MOST_ROWS
