"""作业的历史：每个变化一行。"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from scns_conductor.core.models import JobEvent


def events_insert(
    job_ids: Sequence[int],
    *,
    from_state: str | None,
    to_state: str,
    cause: str,
    actor: str,
    message: str | None = None,
) -> sa.TextClause:
    """给一批作业各记一条相同的事件；restart_count 取作业行的当前值。"""
    return sa.text(
        f"INSERT INTO {JobEvent.__tablename__} "
        "(job_id, restart_count, from_state, to_state, cause, actor, message) "
        "SELECT job_id, restart_count, :from_state, :to_state, :cause, :actor, :message "
        "FROM jobs WHERE job_id = ANY(:job_ids)"
    ).bindparams(
        sa.bindparam("job_ids", list(job_ids), type_=ARRAY(sa.BigInteger)),
        sa.bindparam("from_state", from_state, type_=sa.Text),
        sa.bindparam("to_state", to_state, type_=sa.Text),
        sa.bindparam("cause", cause, type_=sa.Text),
        sa.bindparam("actor", actor, type_=sa.Text),
        sa.bindparam("message", message, type_=sa.Text),
    )
