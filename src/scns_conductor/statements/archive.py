"""历史：结束很久的作业与它的记录在模式 history 里，按结束的月份分区；列与平常的同名的表一样。

平常的表里没有才到这里来找；列表两处各取一页再合起来。
"""

import functools
import re
from datetime import datetime

from scns_conductor.statements.table_columns import COLUMNS

# 作业之外的表（作业的记录）在历史里多一列：作业的结束时刻，按它分区。
JOB_END = "job_end"
_TABLES = "|".join(COLUMNS)


def columns_of(table: str, prefix: str = "") -> str:
    """一张表的各列；名字都加引号。"""
    return ", ".join(f'{prefix}"{name}"' for name in COLUMNS[table])


@functools.lru_cache(maxsize=256)
def archived(text: str) -> str:
    """同一条语句，改从历史里读。"""
    return re.sub(rf"\b(FROM|JOIN) ({_TABLES})\b", r"\1 history.\2", text)


def partition_of(table: str, month: datetime) -> str:
    """一张表在一个月的分区。"""
    return f"history.{table}_{month:%Y%m}"


# 全部作业，平常的与历史里的；写作 FROM {EVERY_JOB} AS jobs。
EVERY_JOB = f"(SELECT {columns_of('jobs')} FROM jobs UNION ALL SELECT {columns_of('jobs')} FROM history.jobs)"
