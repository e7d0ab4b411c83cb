"""失联的节点：超过期限没有心跳的标为 DOWN，上面的作业按节点故障结束，允许的重新排队。"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.states import JobState
from scns_conductor.worker.ends import JobEnd, commit_ends

_SILENT = sa.text(
    "UPDATE nodes SET state = 'DOWN', reason = 'Not responding', reason_user = 'scheduler', "
    "reason_time = clock_timestamp() WHERE state = 'UP' "
    "AND last_heartbeat < clock_timestamp() - make_interval(secs => :timeout) RETURNING name"
)
_VICTIMS = sa.text(
    "SELECT DISTINCT ON (a.job_id) a.job_id, a.restart_count, a.node_name FROM resource_allocations AS a "
    "WHERE a.node_name = ANY(:names) AND a.released_at IS NULL ORDER BY a.job_id"
)


def fail_silent_nodes(connection: Connection, timeout_s: float) -> list[str]:
    """在调用者的事务里执行；返回刚刚判定失联的节点。"""
    names = list(connection.scalars(_SILENT, {"timeout": timeout_s}))
    if names:
        victims = connection.execute(_VICTIMS, {"names": names}).all()
        commit_ends(
            connection,
            [
                JobEnd(
                    victim.job_id,
                    victim.restart_count,
                    JobState.NODE_FAIL,
                    "node_fail",
                    "scheduler",
                    message=f"节点 {victim.node_name} 失联超过 {timeout_s:g} 秒",
                    requeue_if_allowed=True,
                )
                for victim in victims
            ],
        )
    return names
