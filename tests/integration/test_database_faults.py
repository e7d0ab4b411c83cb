"""数据库的错分两种：一时的重试，数据的停放。每一种都请真的 PostgreSQL 说出来。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from shepherd_yard import wait_until
from sqlalchemy.engine import Engine

from scns_conductor.core.database import database_url, sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.database_faults import is_passing
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.heartbeat import Heartbeat
from scns_conductor.worker.agent.own_disks import OwnDisks

pytestmark = pytest.mark.faults


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    found = sync_engine(settings)
    yield found
    found.dispose()


PASSING = {
    "语句超时": "SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(10)",
    "只读": "SET LOCAL transaction_read_only = on; DELETE FROM jobs",
    "被管理员断开": "SELECT pg_terminate_backend(pg_backend_pid())",
    "表还没有（正在升级）": "SELECT * FROM no_such_table",
    "序列化": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$",
    "死锁": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$",
    "锁": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$",
    "盘满": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$",
}
DATA = {
    "约束": "INSERT INTO nodes (name, address, cpus, memory, allocated_cpus) VALUES ('x', 'x', 1, 1, 2)",
    "放不下的数": "SELECT 99999999999::integer",
    "坏的 JSON": "SELECT '{\"a\": \"\\u0000\"}'::json ->> 'a'",
    "除以零": "SELECT 1 / 0",
}


def run(connection: sa.Connection, text: str) -> None:
    for statement in [text] if text.startswith("DO") else text.split("; "):
        connection.exec_driver_sql(statement)


@pytest.mark.parametrize("name", [*PASSING, *DATA])
def test_what_is_retried_and_what_is_parked(engine: Engine, name: str) -> None:
    text = PASSING.get(name) or DATA[name]
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        run(connection, text)
    assert is_passing(caught.value) is (name in PASSING), caught.value


def test_no_connection_is_retried(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": SecretStr("postgresql://scns@/scns?host=/nowhere")})
    with pytest.raises(sa.exc.OperationalError) as caught:
        sync_engine(nowhere).connect()
    assert is_passing(caught.value)


def test_the_heartbeat_outlives_an_exhausted_pool(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    """连接池借不到的 TimeoutError 不是 DBAPIError：心跳等一等，借到了照样跳。"""
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO nodes (name, address, cpus, memory, state) VALUES ('n1', 'n1', 1, 1, 'UP')")
        )
    small = sa.create_engine(
        "postgresql+psycopg://",
        connect_args=conninfo_to_dict(database_url(settings)),
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.05,
    )
    beats: list[float] = []
    memory = DatabaseMemory(small, "n1", tmp_path / "database.seen", write=lambda task: task())
    memory.open()
    heartbeat = Heartbeat(
        small,
        "n1",
        0.02,
        memory,
        OwnDisks({}),
        on_clock=lambda now, *_: beats.append(now),
        on_not_up=lambda state: None,
        on_reboot=lambda: None,
    )
    held = small.connect()
    heartbeat.start()
    with pytest.raises(sa.exc.TimeoutError):
        heartbeat.beat()
    held.close()
    wait_until(lambda: len(beats) > 2, "照样跳")
    heartbeat.stop()
    small.dispose()
