"""问调度器要计划才答得出的：为什么、试排、计划、什么压着利用率、优先级、公平份额。

调度器的一边是 worker/scheduler/explanation.py；回答是 JSON，样子在 core/answers。等久了抛 AnswerTimeout，
一个人同时问得太多抛 TooManyRequests。
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from scns_conductor.core.answers.accounting import Ranked, Shares
from scns_conductor.core.answers.cluster import ClusterWhy
from scns_conductor.core.answers.jobs import Explained, Plan, Schedule
from scns_conductor.services.answers import AnswerDesk


async def ask_why(desk: AnswerDesk, user_name: str, job_id: int) -> Explained:
    """排队的作业为什么还没有开始。"""
    return cast(Explained, await desk.ask_scheduler("explain", user_name, {"job_id": job_id}))


async def ask_plan(desk: AnswerDesk, user_name: str, job: Mapping[str, Any]) -> Plan:
    """假如现在提交 job（要写进 jobs 的列，时刻是 Unix 秒）。"""
    return cast(Plan, await desk.ask_scheduler("plan", user_name, {"job": dict(job)}))


async def ask_schedule(desk: AnswerDesk, user_name: str) -> Schedule:
    """受阻的作业预计何时、在哪里开始。"""
    return cast(Schedule, await desk.ask_scheduler("schedule", user_name, {}))


async def ask_utilisation(desk: AnswerDesk, user_name: str, horizon_s: float) -> ClusterWhy:
    """今后 horizon_s 秒里什么压着利用率。"""
    return cast(ClusterWhy, await desk.ask_scheduler("utilisation", user_name, {"horizon_s": horizon_s}))


async def ask_priorities(desk: AnswerDesk, user_name: str, job_ids: Sequence[int] | None) -> Ranked:
    """排队的作业的优先级；job_ids 为 None 是全部。"""
    payload = {} if job_ids is None else {"job_ids": list(job_ids)}
    return cast(Ranked, await desk.ask_scheduler("priorities", user_name, payload))


async def ask_shares(desk: AnswerDesk, user_name: str) -> Shares:
    """公平份额。"""
    return cast(Shares, await desk.ask_scheduler("shares", user_name, {}))
