"""作业的记账里可以事后改的：备注、extra、wckey、导出的退出码；结束了的也行（sacctmgr modify job）。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.errors import InvalidRequest
from scns_conductor.core.tokens import Identity
from scns_conductor.core.transactions import Database
from scns_conductor.services.audit import record_jobs
from scns_conductor.services.job_rows import find_each, require_owner, why_missing
from scns_conductor.statements.job_update import jobs_update

ANNOTATIONS = frozenset({"comment", "admin_comment", "extra", "wckey", "derived_exit_status"})
_ADMIN_ONLY = frozenset({"admin_comment"})


async def annotate_jobs(
    database: Database, identity: Identity, job_ids: Sequence[str], changes: Mapping[str, Any]
) -> list[str]:
    """改这些作业（本人的，管理员不论），返回改了的作业号；有一个没有、不许，就一个也不改。"""
    unknown = sorted(set(changes) - ANNOTATIONS)
    if unknown or not changes:
        raise InvalidRequest(unknown[0] if unknown else "job_rec", "没有可以改的", code="nothing_chosen")
    if _ADMIN_ONLY & changes.keys() and not identity.privileged:
        raise InvalidRequest("admin_comment", "只有管理员能写", code="admin_required")
    async with database.begin() as connection:
        rows = []
        for found in await find_each(connection, job_ids):
            if not found.rows:
                raise found.error or await why_missing(connection, found.text)
            require_owner(found.rows, identity)
            rows += found.rows
        await connection.execute(jobs_update([row.job_id for row in rows], changes))
        await record_jobs(connection, identity, "job.annotate", rows, after=changes)
    return [row.label for row in rows]
