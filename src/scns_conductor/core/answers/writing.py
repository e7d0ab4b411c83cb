"""回答里常用的写法。"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

# 时刻：写进 JSON 时是 ISO 8601 的文字；接口的说明里是 date-time。
Moment = datetime | str

# 放在含义后面：接口的说明里只写它是一个对象，里面有什么写在含义里。
PLAIN = "plain"

_Shape = TypeVar("_Shape")


def rows_of(shape: type[_Shape], rows: Iterable[Mapping[Any, Any]]) -> list[_Shape]:
    """一条语句取出的各行；语句的列就是 shape 的字段。"""
    return [cast(_Shape, dict(row)) for row in rows]
