"""数据库的语句多久、错了几次：挂在引擎上。"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, ExceptionContext

from scns_conductor.timing import Trouble

_OPTION = "scns_statements"


def watch_statements(engine: Engine, found: Trouble) -> None:
    """此后经这个引擎的每条语句都记进 found；连不上也算错。"""
    engine.update_execution_options(**{_OPTION: found})

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _begin(connection: Connection, *_: Any) -> None:
        connection.info["scns_began"] = time.perf_counter()

    @sa.event.listens_for(engine, "after_cursor_execute")
    def _end(connection: Connection, *_: Any) -> None:
        found.seconds.observe(time.perf_counter() - connection.info["scns_began"])

    @sa.event.listens_for(engine, "handle_error")
    def _fail(_: ExceptionContext) -> None:
        found.failures += 1


@contextlib.contextmanager
def statement_timer(connection: Connection) -> Iterator[None]:
    """直接交给驱动的语句（上面的事件看不到）也记进 watch_statements 的；没有出错的才记多久。"""
    began = time.perf_counter()
    yield
    found: Trouble | None = connection.get_execution_options().get(_OPTION)
    if found is not None:
        found.seconds.observe(time.perf_counter() - began)
