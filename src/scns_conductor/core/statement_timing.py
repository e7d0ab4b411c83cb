"""数据库的语句多久、错了几次：挂在引擎上。"""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine, ExceptionContext

from scns_conductor.timing import Trouble


def watch_statements(engine: Engine, found: Trouble) -> None:
    """此后经这个引擎的每条语句都记进 found；连不上也算错。"""

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _begin(connection: sa.Connection, *_: Any) -> None:
        connection.info["scns_began"] = time.perf_counter()

    @sa.event.listens_for(engine, "after_cursor_execute")
    def _end(connection: sa.Connection, *_: Any) -> None:
        found.seconds.observe(time.perf_counter() - connection.info["scns_began"])

    @sa.event.listens_for(engine, "handle_error")
    def _fail(_: ExceptionContext) -> None:
        found.failures += 1
