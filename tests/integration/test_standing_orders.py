"""到时、遇事提交的作业，领导者看一遍用几个事务、几条语句：不随触发的个数长，有一个坏的也是。"""

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.worker.scheduler.standing import StandingOrders

NOW = 1.8e9
MANY = 256
TEMPLATE = {
    "name": "told",
    "user_name": "u",
    "partition": "main",
    "current_working_directory": "/",
    "script": "#!/bin/sh\n",
    "reason": "None",
}


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    opened = sync_engine(settings)
    yield opened
    opened.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as opened:
        yield opened


def ordered(connection: Connection, event: str, *, job_id: int | None = None, bad: int | None = None) -> None:
    """定下许多个一样的触发；第 bad 个的作业数据库收不下。"""
    rows = [
        {"event": event, "job_id": job_id, "template": json.dumps(TEMPLATE | ({"tasks": "x"} if at == bad else {}))}
        for at in range(MANY)
    ]
    with connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO triggers (user_name, event, job_id, offset_s, permanent, program, template, seen) "
                "VALUES ('u', :event, :job_id, 0, true, '/bin/true', CAST(:template AS jsonb), '{}')"
            ),
            rows,
        )


def left(connection: Connection) -> int:
    with connection.begin():
        return int(connection.scalar(sa.text("SELECT count(*) FROM triggers")) or 0)


def test_one_that_is_refused_does_not_make_a_transaction_of_each(engine: Engine, connection: Connection) -> None:
    """作业早就没有了：全部该做；坏的一个不再做，别的都提交。"""
    ordered(connection, "fini", job_id=987654, bad=100)
    begun: list[object] = []
    sa.event.listen(engine, "begin", begun.append)
    assert len(StandingOrders().look(connection, 0.0, NOW)) == MANY - 1
    assert len(begun) < 40
    assert left(connection) == 0


def test_a_node_that_goes_down_is_noted_by_one_statement(engine: Engine, connection: Connection) -> None:
    ordered(connection, "down")
    with connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO nodes (name, address, cpus, memory, state) VALUES ('n1', 'n1', 4, 100, 'DOWN'), "
                "('n2', 'n2', 4, 100, 'UP')"
            )
        )
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    orders = StandingOrders()
    assert len(orders.look(connection, 0.0, NOW)) == MANY
    assert len(asked) < 20
    # 看过的不再做。
    assert orders.look(connection, 9.0, NOW) == []
    with connection.begin():
        seen = connection.execute(sa.text("SELECT DISTINCT seen, hits FROM triggers")).all()
    assert [tuple(row) for row in seen] == [(["n1"], {})]
    assert left(connection) == MANY
