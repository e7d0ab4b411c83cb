"""按作业号的写法找到要动的行。"""

import functools
from collections.abc import Sequence

import sqlalchemy as sa

from scns_conductor.statements.array_tasks import LISTED, tasks_condition

# 叫这个号的那一行。数组的最后一个任务就用数组的作业号：在它里面 SLURM_JOB_ID 指的是它自己。
EXACT = "job_id = :job_id"
# 这个作业，是数组时连同它的全部任务，是异构作业时连同它的全部部分。
WHOLE = "job_id = :job_id OR array_job_id = :job_id OR het_job_id = :job_id"
# 异构作业的一个部分。
COMPONENT = "het_job_id = :job_id AND het_job_offset = :component"
# 数组里 :tasks 这些任务；另有照写的记的大项（JobReference.strided）时是 STRIDED_TASKS。
TASKS = tasks_condition()
STRIDED_TASKS = tasks_condition(strided=True)
# 这些作业，是数组、异构作业时连同它们的全部任务与部分。
ANY_WHOLE = " OR ".join(
    f"{name} = ANY(CAST(:job_ids AS bigint[]))" for name in ("job_id", "array_job_id", "het_job_id")
)
# 这些异构作业还没有启动的部分。
SIBLINGS = "het_job_id = ANY(CAST(:het_job_ids AS bigint[])) AND state = 'PENDING'"
# 这些异构作业的部分：(号, 第几个)，一一对应。
ANY_COMPONENT = (
    "(het_job_id IS NOT NULL AND (het_job_id, het_job_offset) IN "
    "(SELECT * FROM unnest(CAST(:het_job_ids AS bigint[]), CAST(:components AS integer[]))))"
)


def any_of(arrays: Sequence[bool], *, components: bool = False) -> str:
    """ANY_WHOLE，以及第 k 个数组的 :tasks_k 这些任务；数组的号是 :array_k，arrays 是各个数组有没有 strided。

    components 时再加 ANY_COMPONENT。
    """
    tasks = [tasks_condition(f"array_{k}", f"tasks_{k}", strided=strided) for k, strided in enumerate(arrays)]
    return " OR ".join([ANY_WHOLE, *tasks, *([ANY_COMPONENT] if components else [])])


@functools.lru_cache(maxsize=64)
def rows_select(where: str, *, lock: bool) -> sa.TextClause:
    """where 挑出的行里控制作业要看的列，最后四列是数组的。

    加锁按作业号的次序，与 statements.ends、statements.starts 一致，不会死锁。
    """
    return sa.text(
        f"""
    SELECT job_id, user_name, state, hold, revision, restart_count, array_job_id, array_task_id, het_job_id,
      het_job_offset, requeue, interactive, requested_end_state, batch_host, time_limit, partition, account, start_time,
      array_remaining, array_base, array_step, {LISTED} AS array_listed
    FROM jobs WHERE {where} ORDER BY job_id {"FOR UPDATE" if lock else ""}
    """
    )
