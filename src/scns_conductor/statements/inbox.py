"""收件箱：凡是调度器必须知道的变化，都与变化在同一个事务里写一行并 NOTIFY；领导者成批取走。"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

INBOX_CHANNEL = "scns_inbox"
# 领导者听着它。
LISTEN_INBOX = sa.text(f"LISTEN {INBOX_CHANNEL}")
# 通知的队列用到这么多就不再送（写在 scns_notify 里，迁移 0011）。
NOTIFY_CROWDED = 0.5
# 一批请求各要转给哪些节点。
FORWARD_TARGETS = sa.text(
    """
    WITH request AS (
      SELECT * FROM unnest(CAST(:places AS integer[]), CAST(:job_ids AS bigint[]), CAST(:reading AS boolean[]))
        AS r(place, job_id, reading)
    )
    SELECT r.place, a.node_name, array_agg(r.job_id ORDER BY r.job_id) AS job_ids
    FROM request AS r JOIN resource_allocations AS a ON a.job_id = r.job_id
      -- 写成这样，规划器按作业去找（见 release_allocations）。
      AND coalesce(a.released_at, 'infinity') = 'infinity'
    GROUP BY r.place, a.node_name
    UNION
    -- 读输出：作业结束了也问跑过它的节点。
    SELECT r.place, j.batch_host, ARRAY[r.job_id] FROM request AS r JOIN jobs AS j ON j.job_id = r.job_id
    WHERE r.reading AND j.batch_host IS NOT NULL
    """
)

# 不经模型：代理也写，不为它导入 pydantic。
_INBOX = sa.table(
    "scheduler_inbox",
    sa.column("kind", sa.Text),
    sa.column("job_ids", ARRAY(sa.BigInteger)),
    sa.column("node_names", ARRAY(sa.Text)),
    sa.column("payload", JSONB),
)


def inbox_insert(
    kind: str,
    *,
    job_ids: Sequence[int] = (),
    node_names: Sequence[str] = (),
    payload: dict[str, Any] | None = None,
) -> sa.Insert:
    """往收件箱写一行；与所描述的变化必须在同一个事务里。"""
    return sa.insert(_INBOX).values(
        kind=kind, job_ids=list(job_ids), node_names=list(node_names), payload=payload or {}
    )


def notify_inbox() -> sa.TextClause:
    """唤醒领导者；随事务提交才送出，同一事务里重复的会合并。队列快满时不送（scns_notify），领导者自己隔一会儿看。"""
    return sa.text(f"SELECT scns_notify('{INBOX_CHANNEL}', '')")


def notify_queue_crowded() -> sa.TextClause:
    """通知是不是已经不送了。"""
    return sa.text(f"SELECT pg_notification_queue_usage() >= {NOTIFY_CROWDED}")


DRAIN_MOST = 10_000
# 取走收件箱里的行。DELETE … RETURNING 使提交的先后无关紧要：不漏，不重；调用者自行按 inbox_id 排序。
# 被别的会话锁着的行留着，下次再取。floor 之前的不看：有人的快照留着（一个很久的查询）时，取走的行清不掉，
# 从头看一遍要走过它们——六万个就是每次六十毫秒。
DRAIN_INBOX = f"""
    DELETE FROM scheduler_inbox WHERE inbox_id IN
      (SELECT inbox_id FROM scheduler_inbox WHERE inbox_id > CAST(%(floor)s AS bigint) ORDER BY inbox_id
       LIMIT {DRAIN_MOST} FOR UPDATE SKIP LOCKED)
    RETURNING inbox_id, kind, job_ids, node_names, payload
"""
