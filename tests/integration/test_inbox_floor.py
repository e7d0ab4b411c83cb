"""收件箱取到过的号不再看：有人的快照留着时，取走了的行清不掉，也不必每次走过它们；提交得晚的从头看时取。"""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.database import database_url, sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.statements.inbox import DRAIN_INBOX
from scns_conductor.worker.scheduler import inbox_reader
from scns_conductor.worker.scheduler.dispatcher import Dispatcher
from scns_conductor.worker.scheduler.inbox_reader import InboxReader
from scns_conductor.worker.scheduler.questions import Questions
from scns_conductor.worker.scheduler.state import SchedulerState

ROW = "INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', ARRAY[1])"
DEAD = 5000


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    engine = sync_engine(settings)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


@pytest.fixture
def reader(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> InboxReader:
    monkeypatch.setattr(inbox_reader, "SETTLED_S", 0.0)
    dispatcher = Dispatcher(settings.redis_url.get_secret_value(), lambda: None)
    return InboxReader(SchedulerState.of(settings), dispatcher, Questions(settings, lambda *_: {}))


def write(connection: Connection, count: int = 1) -> None:
    many = "INSERT INTO scheduler_inbox (kind, job_ids) SELECT 'jobs', ARRAY[1] FROM generate_series(1, :count)"
    with connection.begin():
        connection.execute(sa.text(many), {"count": count})


def left(connection: Connection) -> int:
    with connection.begin():
        return int(connection.scalar(sa.text("SELECT count(*) FROM scheduler_inbox")) or 0)


def test_a_row_that_commits_late_is_taken_when_looking_from_the_start(
    settings: Settings, connection: Connection, reader: InboxReader
) -> None:
    with psycopg.connect(database_url(settings)) as slow:
        slow.execute(ROW)
        write(connection)
        assert reader.drain(connection)
        slow.commit()
    # 号比取到过的小：平常不看它。
    reader.drain(connection)
    assert left(connection) == 1
    reader.look_from_the_start()
    assert reader.drain(connection)
    assert left(connection) == 0


def _pages(connection: Connection, floor: int) -> int:
    statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {DRAIN_INBOX}"
    with connection.begin():
        (plan,) = connection.exec_driver_sql(statement, {"floor": floor}).scalar_one()
    found: dict[str, Any] = plan["Plan"]
    return int(found["Shared Hit Blocks"]) + int(found["Shared Read Blocks"])


def test_a_long_query_elsewhere_does_not_make_each_look_walk_over_the_dead(
    settings: Settings, connection: Connection, reader: InboxReader
) -> None:
    with psycopg.connect(database_url(settings)) as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT count(*) FROM jobs")
        write(connection, DEAD)
        assert reader.drain(connection)
        write(connection)
        pages = _pages(connection, reader._floor)
        assert pages < 50 < _pages(connection, 0)
