"""热路径上的语句：一批行作为一个 JSON 参数送去，由 json_to_recordset 展开；直接交给驱动，不经 SQLAlchemy。

一个周期里只有十来个作业时，编译、十几个数组参数、重新切分长语句、给几十列的结果造描述，比执行本身还贵。
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from sqlalchemy.engine import Connection

from scns_conductor.core.database import driver_of
from scns_conductor.core.statement_timing import statement_timer


class HotStatement:
    """text 里 %(名字)s 是参数，百分号写成两个。columns 是结果的列名，执行过一次之后才有。"""

    def __init__(self, text: str) -> None:
        # psycopg 只记住 4096 字节以内的语句怎样切分：去掉缩进与注释。
        lines = (line.strip() for line in text.strip().splitlines())
        self._text = "\n".join(line for line in lines if not line.startswith("--"))
        self.columns: tuple[str, ...] | None = None

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """在调用者的事务里执行，返回全部的行；自动提交的连接上自成一个事务。错误与经 SQLAlchemy 执行的一样。"""
        if not connection.in_transaction():
            connection.begin()
        with statement_timer(connection):
            try:
                with driver_of(connection).cursor() as cursor:
                    cursor.execute(self._text, values)
                    if self.columns is None:
                        # 每次都造（cursor.description），几十列要占一个周期的四分之一。
                        self.columns = tuple(column.name for column in cursor.description or ())
                    return cursor.fetchall() if self.columns else []
            except psycopg.Error as error:
                # 包成它的错误、断了的会话作废、听 handle_error 的都听到：SQLAlchemy 只有这一条路，没有公开的名字。
                connection._handle_dbapi_exception(error, self._text, None, None, None)

    def mappings(self, connection: Connection, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """同 execute，每行是列名 -> 值。"""
        rows = self.execute(connection, values)
        return [dict(zip(self.columns or (), row, strict=True)) for row in rows]


def rows_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """一批行 -> json_to_recordset 的参数。"""
    return json.dumps(list(rows))


def ids_text(job_ids: Iterable[int]) -> str:
    """作业号 -> bigint[] 的文字；比列表参数便宜。"""
    return f"{{{','.join(map(str, job_ids))}}}"
