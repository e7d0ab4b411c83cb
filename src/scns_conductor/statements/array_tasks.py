"""数组里的任务：行里还没有启动的有几个，哪些行含有要的任务。"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.array_spec import TaskRange, merge_ranges
from scns_conductor.core.job_reference import JobReference
from scns_conductor.core.states import JobState
from scns_conductor.statements.archive import archived
from scns_conductor.statements.conditions import states
from scns_conductor.statements.table_columns import JOB_SPEC

# 任务自己的行沿用数组行的这些要求；脚本、参数与环境只存在数组行里，用到时按 array_job_id 取。
SHARED_COLUMNS = tuple(name for name in JOB_SPEC if name not in {"argv", "environment", "array"})

# 一行算几个作业：数组行按它还没有启动的任务数计，已经拆出来的任务各有一行。
TASKS_OF_ROW = (
    "CASE WHEN array_remaining IS NULL THEN 1 "
    "ELSE (SELECT sum(upper(r) - lower(r)) FROM unnest(array_remaining) AS r) END"
)

# 步长不一的数组的任务号，只在数组自己的行里。
LISTED = (
    "CASE WHEN array_step = 0 AND array_remaining IS NOT NULL "
    "THEN (SELECT listed FROM scns_listed_of(array_job_id)) END"
)

# 这些数组里各状态的任务数。
ARRAY_COUNTS = sa.text(
    f"SELECT array_job_id, state, sum({TASKS_OF_ROW}) AS tasks FROM jobs "
    "WHERE array_job_id = ANY(CAST(:job_ids AS bigint[])) GROUP BY array_job_id, state"
)


def multirange_text(ranges: Sequence[TaskRange]) -> str:
    """区间 -> int4multirange 的文字，如 {[0,5),[7,8)}。"""
    return "{" + ",".join(f"[{span.lower},{span.upper})" for span in ranges) + "}"


def tasks_condition(job_id: str = "job_id", tasks: str = "tasks", *, strided: bool = False) -> str:
    """数组里这些任务的条件：已经拆出来的行，与还含有它们的数组行。两个参数是绑定的名字，值见 tasks_values。"""
    wanted = f"CAST(CAST(:{tasks} AS text) AS int4multirange)"
    # 任务号的区间 w 里的任务的序号。
    slots = (
        "int4range(CAST(ceil((lower(w) - array_base) / CAST(array_step AS numeric)) AS integer), "
        "CAST(floor((upper(w) - 1 - array_base) / CAST(array_step AS numeric)) AS integer) + 1)"
    )
    return (
        f"(array_job_id = CAST(:{job_id} AS bigint) AND (array_task_id <@ {wanted} OR CASE WHEN array_step = 1 "
        f"THEN array_remaining && {wanted} WHEN array_step = 0 "
        f"THEN array_remaining IS NOT NULL AND array_remaining && scns_listed_slots(array_job_id, {wanted}) "
        f"ELSE EXISTS (SELECT FROM unnest({wanted}) AS w WHERE array_remaining && {slots}) END"
        f"{_strided_condition(tasks) if strided else ''}))"
    )


def _strided_condition(tasks: str) -> str:
    arrays = ", ".join(f"CAST(:{tasks}_{name} AS integer[])" for name in ("first", "last", "step"))
    return (
        f" OR job_id = ANY(CAST(:{tasks}_held_in AS bigint[])) OR EXISTS (SELECT FROM unnest({arrays}) "
        "AS s (first, last, step) WHERE array_task_id BETWEEN first AND last AND (array_task_id - first) % step = 0)"
    )


def tasks_values(references: Sequence[JobReference], job_id: str = "job_id", tasks: str = "tasks") -> dict[str, Any]:
    """tasks_condition 的值；references 是同一个数组的，都写了任务。"""
    spans = [(span.lower, span.upper) for reference in references for span in reference.tasks or ()]
    values = {job_id: references[0].job_id, tasks: multirange_text(merge_ranges(spans))}
    strided = [each for reference in references for each in reference.strided]
    if strided:
        values |= {f"{tasks}_{name}": [getattr(each, name) for each in strided] for name in ("first", "last", "step")}
        values[f"{tasks}_held_in"] = [held for reference in references for held in reference.held_in]
    return values


# 这个数组还有没有启动的任务的行（取消了的一段也是一行）。
_REMAINDERS = (
    f"SELECT job_id, array_remaining, array_base, array_step, {LISTED} AS listed FROM jobs "
    "WHERE array_job_id = :array AND array_remaining IS NOT NULL"
)
REMAINDERS = [sa.text(_REMAINDERS), sa.text(archived(_REMAINDERS))]


def task_of(row: str, slot: str) -> str:
    """数组行（表的别名）里这个序号的任务号。"""
    return (
        f"CASE WHEN {row}.array_step = 0 THEN scns_listed_task({row}.array_listed, {slot}) "
        f"ELSE {row}.array_base + {row}.array_step * {slot} END"
    )


_NAMED = ", ".join(SHARED_COLUMNS)
_WANTED = "CAST(CAST(:tasks AS text) AS int4multirange)"
# 还没有启动的几个任务（序号）从数组行里拆出来，各成一行，从此各管各的；数组行已经变了的一个也不拆。
SPLIT_TASKS = sa.text(
    f"""
    WITH taken AS (
      UPDATE jobs SET array_remaining = array_remaining - {_WANTED}, revision = revision + 1
      WHERE job_id = :job_id AND state IN {states({JobState.PENDING})} AND array_remaining @> {_WANTED}
      RETURNING job_id
    )
    INSERT INTO jobs ({_NAMED}, array_job_id, array_task_id, array_base, array_step, array_max_tasks, state, reason,
      submit_time, eligible_time, wait_breakdown, reason_since)
    SELECT {", ".join(f"m.{name}" for name in SHARED_COLUMNS)}, m.array_job_id, {task_of("m", "slot")},
      m.array_base, m.array_step, m.array_max_tasks, m.state, m.reason, m.submit_time, m.eligible_time,
      m.wait_breakdown, m.reason_since
    FROM jobs AS m JOIN taken ON taken.job_id = m.job_id CROSS JOIN unnest({_WANTED}) AS r
      CROSS JOIN generate_series(lower(r), upper(r) - 1) AS slot
    RETURNING job_id, array_task_id
    """
)
