"""修改作业，以及依赖要核对的。"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from scns_conductor.core.models import Job
from scns_conductor.statements.archive import archived

# 其中存在的作业号。
_KNOWN = "SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))"
KNOWN_JOBS = sa.text(f"{_KNOWN} UNION ALL {archived(_KNOWN)}")
# 其中（数组是它的任务）排队而有依赖的，各依赖谁。
DEPENDENCIES_OF = sa.text(
    "SELECT job_id, dependency FROM jobs WHERE state = 'PENDING' AND dependency IS NOT NULL "
    "AND (job_id = ANY(CAST(:job_ids AS bigint[])) OR array_job_id = ANY(CAST(:job_ids AS bigint[])))"
)


def jobs_select(job_ids: Sequence[int]) -> sa.Select[Any]:
    """这些作业的全部列。"""
    return sa.select(Job).where(_among(job_ids))


# 看得出行不行用不到的，一批两万个也不必读来。
_BULKY = ("script", "environment", "argv")


def job_requirements_select(job_ids: Sequence[int]) -> sa.Select[Any]:
    """这些作业的要求：全部列，脚本、参数与环境除外。"""
    columns = sa.inspect(Job).local_table.c
    return sa.select(*(column for column in columns if column.name not in _BULKY)).where(_among(job_ids))


def _among(job_ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """一个参数，不论几个。"""
    numbers = sa.literal(list(job_ids), ARRAY(sa.BigInteger))
    return sa.column("job_id", sa.BigInteger) == sa.any_(numbers)


def jobs_update(job_ids: Sequence[int], values: Mapping[str, Any]) -> sa.Update:
    """改这些作业的要求；revision 加一，按旧的要求计划好的启动就不成立了。"""
    return sa.update(Job).where(_among(job_ids)).values(**values, revision=sa.text("revision + 1"))
