"""什么变化要发哪一种邮件：纯函数，规则来自 sbatch(1) 的 --mail-type。"""

from collections.abc import Collection
from dataclasses import dataclass

from scns_conductor.core.mail import array_as_a_whole, parse_mail_types
from scns_conductor.core.states import TERMINAL_STATES, JobState

FAILURES = TERMINAL_STATES - {JobState.COMPLETED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Change:
    """作业的一次变化。from_state 为 None 是数组新启动的任务。"""

    job_id: int
    restart_count: int
    from_state: str | None
    to_state: str
    mail_type: str
    mail_user: str | None
    user_name: str
    array_job_id: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """该发的一份；没有写 ARRAY_TASKS 的数组整个一份，job_id 是数组的，restart_count 是 0。"""

    job_id: int
    restart_count: int
    occasion: str
    recipients: str
    user_name: str


def ended_arrays(changes: Collection[Change]) -> list[int]:
    """有任务刚结束、整个一份的数组：要问还有没有没结束的。"""
    return sorted(
        {
            change.array_job_id
            for change in changes
            if change.array_job_id is not None and change.to_state in TERMINAL_STATES and _whole(change)
        }
    )


def due(changes: Collection[Change], unfinished: Collection[int], failed: Collection[int]) -> list[Due]:
    """要发的，照变化的次序。unfinished 是还有任务没结束的数组，failed 是有任务失败的数组。"""
    found: dict[tuple[int, int, str], Due] = {}
    for change in changes:
        whole = _whole(change)
        array = change.array_job_id if whole else None
        if array is not None and change.to_state in TERMINAL_STATES and array in unfinished:
            continue
        failure = array in failed if array is not None else change.to_state in FAILURES
        occasion = _occasion(change, failure)
        if occasion is None:
            continue
        one = Due(
            change.job_id if array is None else array,
            change.restart_count if array is None else 0,
            occasion,
            change.mail_user or change.user_name,
            change.user_name,
        )
        found.setdefault((one.job_id, one.restart_count, one.occasion), one)
    return list(found.values())


def _whole(change: Change) -> bool:
    return change.array_job_id is not None and array_as_a_whole(change.mail_type)


def _occasion(change: Change, failure: bool) -> str | None:
    """这次变化要发哪一种；结束只发一份，FAIL 先于 END。"""
    types = parse_mail_types(change.mail_type)
    wanted: list[str] = []
    if change.to_state == JobState.RUNNING:
        wanted = ["BEGIN"] if change.from_state in (None, JobState.PENDING) else []
    elif change.to_state == JobState.PENDING:
        # 状态没有变的，是依赖再也满足不了。
        wanted = ["INVALID_DEPEND"] if change.from_state == JobState.PENDING else ["REQUEUE"]
    elif change.to_state in TERMINAL_STATES:
        wanted = [*(["FAIL"] if failure else []), "END"]
        if change.to_state == JobState.TIMEOUT:
            wanted.append("TIME_LIMIT")
    return next((word for word in wanted if word in types), None)
