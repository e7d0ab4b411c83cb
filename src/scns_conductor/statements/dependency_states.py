"""依赖要看的现状，成批地查：所依赖的作业各到了什么状态，同名的 singleton 前面还有没有。"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.array_spec import Stride, TaskRange, union
from scns_conductor.core.dependency import TargetState
from scns_conductor.core.states import JobState
from scns_conductor.statements.archive import archived
from scns_conductor.statements.conditions import LIVE

# 十万个任务的数组也只回来几行：状态相同的任务合成一组。
_OF_TARGETS = """
    SELECT t.target, j.state, extract(epoch FROM max(j.start_time))::float8 AS started_at,
      min(j.array_base) AS base, min(j.array_step) AS step,
      range_agg(coalesce(j.array_remaining, CASE WHEN j.slot IS NOT NULL
        THEN int4multirange(int4range(j.slot, j.slot + 1)) END)) AS tasks,
      string_agg(int4send(j.listed_task), '' ORDER BY j.listed_task) AS listed_tasks,
      CASE WHEN min(j.array_step) = 0 THEN (SELECT array_listed FROM jobs WHERE job_id = t.target) END AS listed
    FROM unnest(CAST(:job_ids AS bigint[])) AS t(target), LATERAL (
      SELECT state, start_time, array_remaining, array_base, array_step,
        (array_task_id - array_base) / nullif(array_step, 0) AS slot,
        CASE WHEN array_step = 0 THEN array_task_id END AS listed_task FROM jobs WHERE job_id = t.target
      UNION ALL
      SELECT state, start_time, array_remaining, array_base, array_step,
        (array_task_id - array_base) / nullif(array_step, 0), CASE WHEN array_step = 0 THEN array_task_id END FROM jobs
      WHERE array_job_id = t.target AND job_id <> t.target
    ) AS j
    GROUP BY t.target, j.state
    """.replace("::", r"\:\:")
_STATES = sa.text(_OF_TARGETS)
# 平常的表里没有的，在历史里。
_PAST_STATES = sa.text(archived(_OF_TARGETS))
# 同一个用户同一个名字：还有没有在运行的，排队的里最早的是哪个。
_SINGLETONS = sa.text(
    f"""
    SELECT w.user_name, w.name, coalesce(bool_or(j.state <> 'PENDING'), false) AS running,
      min(j.job_id) FILTER (WHERE j.state = 'PENDING') AS first_pending
    FROM unnest(CAST(:user_names AS text[]), CAST(:names AS text[])) AS w(user_name, name)
    LEFT JOIN jobs AS j ON j.user_name = w.user_name AND j.name = w.name
      AND j.state IN {LIVE}
    GROUP BY w.user_name, w.name
    """
)


def target_states(connection: Connection, targets: Collection[int]) -> Callable[[int], Collection[TargetState]]:
    """这些作业各自的现状。"""
    found: dict[int, list[TargetState]] = defaultdict(list)
    for statement in (_STATES, _PAST_STATES):
        missing = sorted(set(targets) - found.keys())
        for row in connection.execute(statement, {"job_ids": missing}) if missing else ():
            tasks = None if row.tasks is None else tuple(TaskRange(span.lower, span.upper) for span in row.tasks)
            stride = Stride(row.base, row.step, bytes(row.listed or b""))
            if row.listed_tasks is not None:
                tasks = union(tasks or (), stride.slots_listed(bytes(row.listed_tasks)))
            found[row.target].append(TargetState(JobState(row.state), tasks, row.started_at, stride))
    return lambda number: found.get(number, ())


def singletons_ahead(connection: Connection, jobs: Mapping[int, tuple[str, str]]) -> Callable[[int], bool]:
    """jobs 是作业号 -> (用户, 名字)；返回的函数说它前面还有没有同名的。"""
    found: dict[tuple[str, str], tuple[bool, int | None]] = {}
    if jobs:
        pairs = sorted(set(jobs.values()))
        values = {"user_names": [pair[0] for pair in pairs], "names": [pair[1] for pair in pairs]}
        for row in connection.execute(_SINGLETONS, values):
            found[(row.user_name, row.name)] = (row.running, row.first_pending)

    def ahead(job_id: int) -> bool:
        running, first = found[jobs[job_id]]
        return running or (first is not None and first < job_id)

    return ahead
