"""写下一批新作业：一条语句取号、写行、记事件、写收件箱、通知调度器；一次往返，一次落盘。"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from scns_conductor.core.models import Job
from scns_conductor.statements.inbox import INBOX_CHANNEL

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_TYPES = {name: column.type.compile(dialect=_DIALECT) for name, column in sa.inspect(Job).columns.items()}
# 不能直接当数组元素送的：数组的数组会被 unnest 摊平，多重区间没有现成的编码。（送时的类型，换成列的写法。）
_SPECIAL = {
    "argv": ("jsonb", "ARRAY(SELECT jsonb_array_elements_text(argv))"),
    "environment": ("jsonb", "environment"),
    "array_remaining": ("text", "CAST(array_remaining AS int4multirange)"),
}
# 一条 SELECT：让 SQLAlchemy 发出 BEGIN（它到第一条语句才发）。
BEGIN_NOW = sa.select(1)

# 刚写下的一批作业是一个异构作业的各个部分，按次序；与写下它们在同一个事务里。
MARK_COMPONENTS = sa.text(
    """
    UPDATE jobs AS j SET het_job_id = :het_job_id, het_job_offset = c.place - 1, het_job_id_set = :het_job_id_set
    FROM unnest(CAST(:job_ids AS bigint[])) WITH ORDINALITY AS c(job_id, place) WHERE j.job_id = c.job_id
    """
)


def jobs_insert(names: Sequence[str]) -> str:
    """写下一批作业，只送 names 这些列；每列一个数组参数（$1……），返回作业号的数组，次序与给的相同。"""
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
