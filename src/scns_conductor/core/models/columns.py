"""各表共用的：列的类型、缺省值、单位，与「只能是这几个词」的约束。"""

import re
from enum import StrEnum

import sqlalchemy as sa

NOW = sa.text("clock_timestamp()")
EMPTY_OBJECT = sa.text("'{}'::jsonb")
EMPTY_LIST = sa.text("'{}'")
TIMESTAMP = sa.TIMESTAMP(timezone=True)
MAX_NAME_LENGTH = 255
# 带单位的量：单位是 description 里括号的第一个词，别处（接口的说明、客户端）都由此而来。
UNITS = ("MiB", "KiB", "字节", "秒", "分钟")
_UNIT = re.compile(rf"（({'|'.join(UNITS)})[，；）]")


def one_of(column: str, words: type[StrEnum]) -> str:
    """CHECK 的条件：这一列只能是这些词。"""
    return f"{column} IN ({', '.join(repr(word.value) for word in words)})"


def unit_of(description: str | None) -> str | None:
    """字段的单位；不是带单位的量返回 None。"""
    found = _UNIT.search(description or "")
    return found[1] if found else None
