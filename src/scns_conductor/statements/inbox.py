"""API（异步）与 Worker（同步）共用的 SQL：这里只造语句，两边各在自己的会话上执行。

语句都成批：一个数组参数对应许多作业，绝不逐个执行。
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from scns_conductor.core.models import JobEvent, RequestAnswer, SchedulerInbox
from scns_conductor.core.recurrence import RECURRING

# reservations 的条件：没有结束的，重复的没有结束。
RESERVATION_LIVES = (
    f"(end_time > clock_timestamp() OR flags && CAST(ARRAY[{', '.join(map(repr, RECURRING))}] AS text[]))"
)
INBOX_CHANNEL = "scns_inbox"
# 领导者持有的咨询锁。
LEADER_LOCK = 7236302
ANSWER_CHANNEL = "scns_answer"
# 通知的队列用到这么多就不再送（写在 scns_notify 里，迁移 0011）。
NOTIFY_CROWDED = 0.5


def inbox_insert(
    kind: str,
    *,
    job_ids: Sequence[int] = (),
    node_names: Sequence[str] = (),
    payload: dict[str, Any] | None = None,
) -> sa.Insert:
    """往收件箱写一行；与所描述的变化必须在同一个事务里。"""
    return sa.insert(SchedulerInbox).values(
        kind=kind, job_ids=list(job_ids), node_names=list(node_names), payload=payload or {}
    )


def notify_inbox() -> sa.TextClause:
    """唤醒领导者；随事务提交才送出，同一事务里重复的会合并。队列快满时不送（scns_notify），领导者自己隔一会儿看。"""
    return sa.text(f"SELECT scns_notify('{INBOX_CHANNEL}', '')")


def notify_queue_crowded() -> sa.TextClause:
    """通知是不是已经不送了。"""
    return sa.text(f"SELECT pg_notification_queue_usage() >= {NOTIFY_CROWDED}")


# 认得出 jobs AS j 的这一次启动的数：开始时刻的微秒数。数据库恢复到从前，作业号与尝试会再来一遍，它不会。
LAUNCH_ID = "CAST(extract(epoch FROM j.start_time) * 1000000 AS bigint)"

DRAIN_MOST = 10_000
# 取走收件箱里的行。DELETE … RETURNING 使提交的先后无关紧要：不漏，不重；调用者自行按 inbox_id 排序。
# 被别的会话锁着的行留着，下次再取。
DRAIN_INBOX = f"""
    DELETE FROM scheduler_inbox WHERE inbox_id IN
      (SELECT inbox_id FROM scheduler_inbox ORDER BY inbox_id LIMIT {DRAIN_MOST} FOR UPDATE SKIP LOCKED)
    RETURNING inbox_id, kind, job_ids, node_names, payload
"""


def answer_insert(request_id: str, answer: dict[str, Any]) -> sa.Insert:
    """写下对一个请求的回答。"""
    return sa.insert(RequestAnswer).values(request_id=request_id, answer=answer)


def notify_answer(request_id: str) -> sa.Select[Any]:
    """告诉等着的 API 进程回答到了。"""
    return sa.select(sa.func.scns_notify(ANSWER_CHANNEL, request_id))


def leader_select() -> sa.TextClause:
    """领导者：holder、epoch、renewed_at，以及 alive（租约 :lease 秒之内续过）；没有领导者时没有行。"""
    return sa.text(
        "SELECT holder, epoch, renewed_at, renewed_at > clock_timestamp() - make_interval(secs => :lease) AS alive, "
        "backend_pid, blocked FROM scheduler_leader"
    )


def allocation_release(job_id: int, restart_count: int, exit_status: int, *, actor: str) -> sa.TextClause:
    """请节点结束没有脚本的分配：做完了，COMPLETED，退出码不为 0 则 FAILED；已有人要求结束的不变。"""
    return sa.text(
        "UPDATE jobs SET requested_end_state = :state, requested_end_actor = :actor, "
        "derived_exit_status = greatest(coalesce(derived_exit_status, 0), :status) "
        "WHERE job_id = :job_id AND restart_count = :restart_count AND interactive "
        "AND state IN ('RUNNING', 'SUSPENDED') AND requested_end_state IS NULL"
    ).bindparams(
        state="FAILED" if exit_status else "COMPLETED",
        actor=actor,
        status=exit_status,
        job_id=job_id,
        restart_count=restart_count,
    )


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


def release_allocations(job_ids_sql: str) -> str:
    """CTE 片段：释放这些作业尚未释放的分配，并从节点计数里减去；只释放一次（不变量 5）。

    job_ids_sql 是一个给出 job_id 列的查询或 CTE 名。片段定义 released 与 returned_to_nodes 两个 CTE。
    节点行按名字的次序加锁，使并发的释放不会死锁。
    """
    return f"""
    released AS (
      UPDATE resource_allocations AS a SET released_at = clock_timestamp()
      FROM (SELECT job_id FROM {job_ids_sql}) AS ended
      -- 写成这样，规划器就不去用 resource_allocations_held：它按节点排，按作业找要从头扫。
      WHERE a.job_id = ended.job_id AND coalesce(a.released_at, 'infinity') = 'infinity'
      RETURNING a.job_id, a.node_name, a.cpus, a.memory, a.gres
    ),
    freed AS (
      SELECT node_name, sum(cpus)::integer AS cpus, sum(memory)::bigint AS memory, scns_gres_sum(gres) AS gres
      FROM released GROUP BY node_name
    ),
    locked AS (
      SELECT n.name FROM nodes AS n JOIN freed ON freed.node_name = n.name ORDER BY n.name FOR NO KEY UPDATE OF n
    ),
    returned_to_nodes AS (
      UPDATE nodes AS n SET
        allocated_cpus = n.allocated_cpus - freed.cpus,
        allocated_memory = n.allocated_memory - freed.memory,
        allocated_gres = scns_gres_add(n.allocated_gres, freed.gres, -1)
      FROM freed JOIN locked ON locked.name = freed.node_name
      WHERE n.name = freed.node_name
      RETURNING n.name
    )"""
