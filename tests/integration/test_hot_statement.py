"""直接交给驱动的语句：事务、错误、断线、计时与经 SQLAlchemy 执行的一样。"""

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import driver_of, sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.statement_timing import watch_statements
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.timing import Trouble

READ = HotStatement("SELECT name, memory FROM nodes WHERE name = %(name)s")
RENAME = HotStatement("UPDATE nodes SET memory = %(memory)s")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = sync_engine(settings, role="hot")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO nodes (name, address, cpus, memory, state) VALUES ('n', 'n', 1, 7, 'UP')"
        )
    yield engine
    engine.dispose()


def memory(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT memory FROM nodes").scalar_one())


def test_rows_and_names(engine: Engine) -> None:
    with engine.begin() as connection:
        assert READ.execute(connection, {"name": "n"}) == [("n", 7)]
        assert READ.mappings(connection, {"name": "n"}) == [{"name": "n", "memory": 7}]
        assert READ.mappings(connection, {"name": "别的"}) == []
        # 没有结果的。
        assert RENAME.execute(connection, {"memory": 8}) == []
        assert memory(connection) == 8


def test_it_begins_the_transaction_that_the_caller_did_not(engine: Engine) -> None:
    with engine.connect() as connection:
        RENAME.execute(connection, {"memory": 8})
        connection.rollback()
        RENAME.execute(connection, {"memory": 9})
    with engine.connect() as connection:
        assert memory(connection) == 7
        RENAME.execute(connection, {"memory": 10})
        connection.commit()
    with engine.connect() as connection:
        assert memory(connection) == 10
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        RENAME.execute(connection, {"memory": 11})
        with engine.connect() as other:
            assert memory(other) == 11


def test_a_rejected_value_leaves_the_session(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(sa.exc.IntegrityError) as refused, connection.begin():
            RENAME.execute(connection, {"memory": -1})
        assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)
        assert not refused.value.connection_invalidated
        assert not connection.invalidated
        assert memory(connection) == 7


def test_a_session_that_is_gone_is_replaced(engine: Engine) -> None:
    with engine.connect() as connection:
        first = driver_of(connection).info.backend_pid
        with engine.begin() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({first}, 5000)")
        with pytest.raises(sa.exc.OperationalError) as gone:
            READ.execute(connection, {"name": "n"})
        assert gone.value.connection_invalidated
        assert connection.invalidated
        connection.rollback()
        assert READ.execute(connection, {"name": "n"}) == [("n", 7)]
        assert driver_of(connection).info.backend_pid != first


def test_a_read_only_session_is_not_kept(engine: Engine) -> None:
    """只读了一阵的数据库：会话照旧只读，丢掉（watch_sessions）。"""
    with engine.connect() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = on")
        connection.commit()
        with pytest.raises(sa.exc.OperationalError) as refused:
            RENAME.execute(connection, {"memory": 8})
        assert refused.value.connection_invalidated
        assert connection.invalidated


def test_it_counts_among_the_statements(engine: Engine) -> None:
    found = Trouble()
    watch_statements(engine, found)
    with engine.connect() as connection:
        READ.execute(connection, {"name": "n"})
        assert sum(found.seconds.counts) == 1
        with pytest.raises(sa.exc.IntegrityError):
            RENAME.execute(connection, {"memory": -1})
    assert (sum(found.seconds.counts), found.failures) == (1, 1)
