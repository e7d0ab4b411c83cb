"""热路径上的语句：一批行作为一个 JSON 参数送去，由 json_to_recordset 展开；不经 SQLAlchemy 的编译与逐列的数组编码。

一个周期里只有十来个作业时，编译、十几个数组参数与重新切分长语句，比执行本身还贵。
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection


class HotStatement:
    """text 里 %(名字)s 是参数，百分号写成两个。"""

    def __init__(self, text: str) -> None:
        # psycopg 只记住 4096 字节以内的语句怎样切分：去掉缩进与注释。
        lines = (line.strip() for line in text.strip().splitlines())
        self._text = "\n".join(line for line in lines if not line.startswith("--"))

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> "sa.CursorResult[Any]":
        """在调用者的事务里执行；自动提交的连接上自成一个事务。"""
        return connection.exec_driver_sql(self._text, dict(values))


def rows_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """一批行 -> json_to_recordset 的参数。"""
    return json.dumps(list(rows))


def ids_text(job_ids: Iterable[int]) -> str:
    """作业号 -> bigint[] 的文字；比列表参数便宜。"""
    return f"{{{','.join(map(str, job_ids))}}}"
