"""写下一批新作业：一条语句取号、写行、记事件、写收件箱、通知调度器；一次往返，一次落盘。

只送与缺省不同的列：其余的由表的缺省值补上，平常的作业六十列里只有十来列要送。
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import asyncpg

from scns_conductor.services.new_job import COLUMNS, DEFAULTS, NOT_AN_ARRAY
from scns_conductor.statements.array_tasks import multirange_text
from scns_conductor.statements.job_insert import jobs_insert

# 每个作业都要送的：没有缺省值，或几乎总与缺省不同。
_ALWAYS = frozenset(name for name in COLUMNS if name not in DEFAULTS) - NOT_AN_ARRAY.keys()
_OPTIONAL = {name: {**DEFAULTS, **NOT_AN_ARRAY}.get(name) for name in COLUMNS if name not in _ALWAYS}


def _multirange(ranges: Sequence[Any] | None) -> str | None:
    return None if ranges is None else multirange_text(ranges)


# 不能直接当数组元素送的，怎样编码（见 statements.job_insert）。
_ENCODE: dict[str, Callable[[Any], Any]] = {
    "argv": json.dumps,
    "environment": json.dumps,
    "array_remaining": _multirange,
}
_statement = lru_cache(maxsize=256)(jobs_insert)


async def insert_jobs(driver: "asyncpg.Connection[Any]", rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """写下一批作业（new_job 的结果），返回作业号，次序与给的相同；不在事务里时自成一个事务。"""
    names = _given(rows)
    values = []
    for name in names:
        encode = _ENCODE.get(name)
        column = [row[name] for row in rows]
        values.append(column if encode is None else [encode(value) for value in column])
    record = await driver.fetchrow(_statement(names), *values)
    assert record is not None
    job_ids: list[int] = record[0]
    return job_ids


def _given(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """要送的列：总要送的，加上有一行与缺省不同的。"""
    given = set(_ALWAYS)
    for row in rows:
        # 没写的字段就是 DEFAULTS 里的那个对象；写了缺省值的多送一列也无妨。
        given.update(name for name, default in _OPTIONAL.items() if row[name] is not default)
    return tuple(name for name in COLUMNS if name in given)
