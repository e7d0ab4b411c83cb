"""写下一批新作业：一条语句取号、写行、记事件、写收件箱、通知调度器；一次往返，一次落盘。

只送与缺省不同的列：其余的由表的缺省值补上，平常的作业六十列里只有十来列要送。
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from scns_conductor.core.models import Job
from scns_conductor.services.new_job import COLUMNS, DEFAULTS, NOT_AN_ARRAY
from scns_conductor.statements.inbox import INBOX_CHANNEL

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_TYPES = {name: sa.inspect(Job).columns[name].type.compile(dialect=_DIALECT) for name in COLUMNS}
# 每个作业都要送的：没有缺省值，或几乎总与缺省不同。
_ALWAYS = frozenset(name for name in COLUMNS if name not in DEFAULTS) - NOT_AN_ARRAY.keys()
_OPTIONAL = {name: {**DEFAULTS, **NOT_AN_ARRAY}.get(name) for name in COLUMNS if name not in _ALWAYS}


def _multirange(ranges: Sequence[Any] | None) -> str | None:
    return None if ranges is None else "{" + ",".join(f"[{span.lower},{span.upper})" for span in ranges) + "}"


# 不能直接当数组元素送的：数组的数组会被 unnest 摊平，多重区间没有现成的编码。（送时的类型，换成列的写法，编码。）
_SPECIAL: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "argv": ("jsonb", "ARRAY(SELECT jsonb_array_elements_text(argv))", json.dumps),
    "environment": ("jsonb", "environment", json.dumps),
    "array_remaining": ("text", "CAST(array_remaining AS int4multirange)", _multirange),
}


async def insert_jobs(driver: "asyncpg.Connection[Any]", rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """写下一批作业（new_job 的结果），返回作业号，次序与给的相同；不在事务里时自成一个事务。"""
    names = _given(rows)
    values = []
    for name in names:
        special = _SPECIAL.get(name)
        column = [row[name] for row in rows]
        values.append(column if special is None else [special[2](value) for value in column])
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


@lru_cache(maxsize=256)
def _statement(names: tuple[str, ...]) -> str:
    sent = [_SPECIAL[name][0] if name in _SPECIAL else _TYPES[name] for name in names]
    parameters = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(sent, 1))
    # array 是 SQL 的保留字：名字都加引号。
    quoted = [f'"{name}"' for name in names]
    columns = ["job_id", *quoted]
    selected = ["job_id", *(_SPECIAL[name][1] if name in _SPECIAL else f'"{name}"' for name in names)]
    if "array_remaining" in names:
        columns.append("array_job_id")
        selected.append("CASE WHEN array_remaining IS NOT NULL THEN job_id END")
    return f"""
        WITH given AS MATERIALIZED (
          SELECT nextval('jobs_job_id_seq') AS job_id, g.*
          FROM unnest({parameters}) WITH ORDINALITY AS g({", ".join(quoted)}, place)
        ), written AS (
          INSERT INTO jobs ({", ".join(columns)}) SELECT {", ".join(selected)} FROM given
        ), recorded AS (
          INSERT INTO job_events (job_id, to_state, cause, actor)
          SELECT job_id, 'PENDING', 'submit', user_name FROM given
        ), told AS (
          INSERT INTO scheduler_inbox (kind, job_ids) SELECT 'jobs', array_agg(job_id) FROM given
        )
        SELECT array_agg(job_id ORDER BY place) AS job_ids, scns_notify('{INBOX_CHANNEL}', '') FROM given
    """
