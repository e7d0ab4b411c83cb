"""请求结束：写下占着资源的作业要到哪个状态去，由节点杀掉进程之后真正转移。六处要求，一种写法。"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.states import ACTIVE_STATES, TERMINAL_STATES, JobState
from scns_conductor.statements.conditions import ACTIVE, STEP_ELSEWHERE, leaving

_ANY = "j.job_id = ANY(CAST(:job_ids AS bigint[]))"
_ATTEMPT = "j.job_id = :job_id AND j.restart_count = :restart_count"
_LEADS = "EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)"
# 不许重新排队的、没有脚本的作业只能结束（Slurm 也是）。
_MAY_REQUEUE = "j.requeue AND NOT j.interactive"
_SCHEDULER = "'scheduler'"


def request_end(
    to: JobState,
    *,
    which: str,
    given: str = "",
    actor: str = ":actor",
    message: str | None = ":message",
    requeue_when: str | None = None,
    also: Mapping[str, str] | None = None,
    overriding: bool = False,
    otherwise: str | None = None,
    returning: str = "",
) -> str:
    """要求 which 挑出的作业（jobs 叫 j，given 是 FROM 里另外的表）去 to；requeue_when 成立的改为重新排队。

    早有人要求过的不变；overriding 为真时盖过别的要求。actor、message 与 also（别的列）都是 SQL 表达式，
    otherwise 也是：去向由它算出，任何终态或重新排队，to 不看。
    """
    targets = {to} if requeue_when is None else {to, JobState.PENDING}
    end_state = repr(to.value)
    if otherwise is not None:
        targets, end_state = {*TERMINAL_STATES, JobState.PENDING}, otherwise
    if requeue_when is not None:
        end_state = f"CASE WHEN {requeue_when} THEN 'PENDING' ELSE {end_state} END"
    columns = {"requested_end_state": end_state, "requested_end_actor": actor}
    if message is not None:
        columns["requested_end_reason"] = message
    columns |= also or {}
    unchanged = f"IS DISTINCT FROM {to.value!r}" if overriding else "IS NULL"
    return (
        f"UPDATE jobs AS j SET {', '.join(f'{name} = {value}' for name, value in columns.items())} "
        f"{f'FROM {given} ' if given else ''}WHERE {which} AND j.state IN {leaving(ACTIVE_STATES, to=targets)} "
        f"AND j.requested_end_state {unchanged}{f' RETURNING {returning}' if returning else ''}"
    )


# 用户取消运行中的作业：盖过别的要求。
CANCEL_ACTIVE = sa.text(request_end(JobState.CANCELLED, which=_ANY, overriding=True))
# 用户把运行中的作业重新排队；排队之后要不要保留由 :hold 说。
REQUEUE_ACTIVE = sa.text(request_end(JobState.PENDING, which=_ANY, also={"hold": "CAST(:hold AS text)"}))
# 抢占：重新排队（许可的）或 PREEMPTED，宽限 :graces 秒；只有当任的领导者写得成。返回写成了的。
END_PREEMPTED = sa.text(
    request_end(
        JobState.PREEMPTED,
        given="unnest(CAST(:job_ids AS bigint[]), CAST(:modes AS text[]), CAST(:messages AS text[]), "
        "CAST(:graces AS integer[])) AS w(job_id, mode, message, grace)",
        which=f"j.job_id = w.job_id AND {_LEADS}",
        requeue_when=f"w.mode = 'requeue' AND {_MAY_REQUEUE}",
        actor=_SCHEDULER,
        message="w.message",
        also={"requested_end_grace": "w.grace"},
        returning="j.job_id",
    )
)
# 累计的用量到了上限的作业：TIMEOUT；只有当任的领导者写得成。返回写成了的。
END_OVERRUN = sa.text(
    request_end(
        JobState.TIMEOUT,
        given="unnest(CAST(:job_ids AS bigint[]), CAST(:messages AS text[])) AS w(job_id, message)",
        which=f"j.job_id = w.job_id AND {_LEADS}",
        actor=_SCHEDULER,
        message="w.message",
        returning="j.job_id",
    )
)
# 到了时限、:node 之外的节点上还有步的作业：TIMEOUT，说明由它的结束写。返回写成了的。
END_ON_OTHER_NODES = sa.text(
    request_end(JobState.TIMEOUT, which=f"{_ANY} AND {STEP_ELSEWHERE}", message=None, returning="j.job_id")
)
# 失去了别的节点的多节点作业，请运行脚本的节点结束它：重新排队（许可的）或 NODE_FAIL。
END_WITH_NODE = sa.text(
    request_end(JobState.NODE_FAIL, which=_ATTEMPT, requeue_when=_MAY_REQUEUE, actor=_SCHEDULER, message=":reason")
)
# 异构作业少了一个部分（第 0 个，或不是只取消了它自己的），其余的到同样的状态去；只有当任的领导者写得成。
# 已经结束的第一个部分说了算；做完了的（COMPLETED、FAILED）带上它的退出码。
_END_COMPONENTS = sa.text(
    request_end(
        JobState.NODE_FAIL,
        given=f"""(
          SELECT DISTINCT ON (het_job_id) het_job_id, het_job_offset, state, exit_status FROM jobs
          WHERE het_job_id = ANY(CAST(:het_job_ids AS bigint[])) AND state NOT IN {ACTIVE}
            AND (het_job_offset = 0 OR state <> 'CANCELLED')
          ORDER BY het_job_id, het_job_offset) AS f""",
        which=f"j.het_job_id = f.het_job_id AND {_LEADS}",
        otherwise="CASE WHEN f.state = 'PENDING' AND NOT (j.requeue AND NOT j.interactive) THEN 'NODE_FAIL' "
        "ELSE f.state END",
        actor=_SCHEDULER,
        also={
            "derived_exit_status": "CASE WHEN f.state IN ('COMPLETED', 'FAILED') THEN "
            "greatest(coalesce(j.derived_exit_status, 0), coalesce(f.exit_status, 0)) ELSE j.derived_exit_status END"
        },
        returning="j.job_id",
    )
)
_GIVE_BACK = {
    state: sa.text(
        request_end(
            state,
            which=f"{_ATTEMPT} AND j.interactive",
            message=None,
            also={"derived_exit_status": "greatest(coalesce(derived_exit_status, 0), :status)"},
        )
    )
    for state in (JobState.COMPLETED, JobState.FAILED)
}


def end_components(connection: Connection, epoch: int, het_job_ids: Sequence[int]) -> list[int]:
    """这些异构作业里少了部分的，其余的请节点结束；返回请了的作业号。在调用者的事务里执行。"""
    values = {"epoch": epoch, "het_job_ids": list(het_job_ids), "message": "异构作业的一个部分结束了，别的也结束"}
    return list(connection.scalars(_END_COMPONENTS, values))


def allocation_release(job_id: int, restart_count: int, exit_status: int, *, actor: str) -> sa.TextClause:
    """请节点结束没有脚本的分配：做完了，COMPLETED，退出码不为 0 则 FAILED；已有人要求结束的不变。"""
    return _GIVE_BACK[JobState.FAILED if exit_status else JobState.COMPLETED].bindparams(
        actor=actor, status=exit_status, job_id=job_id, restart_count=restart_count
    )
