"""启动：把一个周期里计划好的启动一次写进数据库。

一条语句完成：核对栅栏与版本、改状态、拆出数组任务、写分配、加节点计数、记事件。
要么全部成立，要么（节点计数越界、被接管）一个也不成立；被取消或修改过的作业只是自己落选。
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.models import Job, JobSpec

# 数组任务的行沿用数组行的要求；脚本、参数与环境只存在数组行里，用到时按 array_job_id 取。
_SHARED_FIELDS = frozenset({"argv", "environment", "array"})
_SPEC_COLUMNS = [name for name in JobSpec.model_fields if name not in _SHARED_FIELDS]
_SPLIT_VALUES = [
    "coalesce(p.time_limit, m.time_limit)" if column == "time_limit" else f"m.{column}" for column in _SPEC_COLUMNS
]
assert set(_SPEC_COLUMNS) <= set(Job.model_fields)


@dataclass(frozen=True, slots=True)
class Share:
    """一次启动在一个节点上的份额：内存 MiB；gres 如 {'gpu:a100': 2}。"""

    node_name: str
    cpus: int
    memory: int
    gres: dict[str, int]
    tasks: int


@dataclass(frozen=True, slots=True)
class Start:
    """一次启动。

    task_id 是要从数组行拆出来的任务号，不是数组行则为 None；
    becomes_task 表示这是最后一个任务，数组行自身成为它。
    """

    job_id: int
    revision: int
    task_id: int | None
    becomes_task: bool
    node_list: str
    shares: tuple[Share, ...]
    gres_text: str | None = None
    # --time-min 的作业得到的时限（秒）；None 是作业自己的。
    time_limit: int | None = None


@dataclass(slots=True)
class Started:
    """写成了的启动：index 是在所给列表里的下标，job_id 是（可能新拆出来的）作业号。"""

    index: int
    job_id: int
    restart_count: int


@dataclass(slots=True)
class _Columns:
    """语句的数组参数。"""

    plan: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                "k",
                "job_id",
                "task_id",
                "becomes",
                "revision",
                "node_list",
                "batch_host",
                "nodes",
                "cpus",
                "memory",
                "gres",
                "time_limit",
            )
        }
    )
    shares: dict[str, list[Any]] = field(
        default_factory=lambda: {
            name: [] for name in ("a_k", "a_node", "a_index", "a_cpus", "a_memory", "a_gres", "a_tasks")
        }
    )


_COMMIT = sa.text(
    f"""
    WITH fence AS MATERIALIZED (SELECT epoch FROM scheduler_leader WHERE epoch = :epoch),
    plan AS (
      SELECT * FROM unnest(
        CAST(:k AS integer[]), CAST(:job_id AS bigint[]), CAST(:task_id AS integer[]), CAST(:becomes AS boolean[]),
        CAST(:revision AS integer[]), CAST(:node_list AS text[]), CAST(:batch_host AS text[]),
        CAST(:nodes AS integer[]), CAST(:cpus AS integer[]), CAST(:memory AS bigint[]), CAST(:gres AS text[]),
        CAST(:time_limit AS bigint[]))
      AS p(k, job_id, task_id, becomes, revision, node_list, batch_host, nodes, cpus, memory, gres, time_limit)
    ),
    array_part AS (
      SELECT job_id, min(revision) AS revision, range_agg(int4range(task_id, task_id + 1)) AS tasks,
             bool_or(becomes) AS whole
      FROM plan WHERE task_id IS NOT NULL GROUP BY job_id
    ),
    started_rows AS (
      UPDATE jobs AS j SET
        state = 'RUNNING', reason = 'None', error_msg = NULL, start_time = clock_timestamp(), end_time = NULL,
        eligible_time = coalesce(j.eligible_time, j.submit_time), expected_start_time = NULL,
        node_list = p.node_list, batch_host = p.batch_host, allocated_nodes = p.nodes, allocated_cpus = p.cpus,
        allocated_memory = p.memory, allocated_gres = p.gres, time_limit = coalesce(p.time_limit, j.time_limit),
        array_task_id = coalesce(p.task_id, j.array_task_id), array_remaining = NULL
      FROM plan AS p LEFT JOIN array_part AS t ON t.job_id = p.job_id
      WHERE j.job_id = p.job_id AND (p.task_id IS NULL OR (p.becomes AND j.array_remaining = t.tasks))
        AND j.state = 'PENDING' AND j.hold IS NULL AND j.revision = p.revision AND EXISTS (SELECT FROM fence)
      RETURNING p.k, j.job_id, j.restart_count
    ),
    taken AS (
      UPDATE jobs AS j SET array_remaining = j.array_remaining - t.tasks
      FROM array_part AS t
      WHERE j.job_id = t.job_id AND NOT t.whole AND j.array_remaining @> t.tasks
        AND j.state = 'PENDING' AND j.hold IS NULL AND j.revision = t.revision AND EXISTS (SELECT FROM fence)
      RETURNING j.job_id
    ),
    split AS (
      INSERT INTO jobs ({", ".join(_SPEC_COLUMNS)}, array_job_id, array_task_id, array_max_tasks, state, submit_time,
        eligible_time, start_time, node_list, batch_host, allocated_nodes, allocated_cpus, allocated_memory,
        allocated_gres)
      SELECT {", ".join(_SPLIT_VALUES)}, m.job_id, p.task_id, m.array_max_tasks, 'RUNNING',
        m.submit_time, coalesce(m.eligible_time, m.submit_time), clock_timestamp(), p.node_list, p.batch_host,
        p.nodes, p.cpus, p.memory, p.gres
      FROM plan AS p JOIN jobs AS m ON m.job_id = p.job_id
      WHERE p.task_id IS NOT NULL AND NOT p.becomes
        AND p.job_id IN (SELECT job_id FROM taken UNION ALL SELECT job_id FROM started_rows)
      ORDER BY p.k
      RETURNING job_id, array_job_id, array_task_id
    ),
    started AS (
      SELECT k, job_id, restart_count FROM started_rows
      UNION ALL
      SELECT p.k, s.job_id, 0 FROM split AS s
      JOIN plan AS p ON p.job_id = s.array_job_id AND p.task_id = s.array_task_id
    ),
    allocated AS (
      INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, gres, tasks)
      SELECT s.job_id, s.restart_count, a.node_name, a.node_index, a.cpus, a.memory, CAST(a.gres AS jsonb), a.tasks
      FROM unnest(
        CAST(:a_k AS integer[]), CAST(:a_node AS text[]), CAST(:a_index AS integer[]), CAST(:a_cpus AS integer[]),
        CAST(:a_memory AS bigint[]), CAST(:a_gres AS text[]), CAST(:a_tasks AS integer[]))
        AS a(k, node_name, node_index, cpus, memory, gres, tasks)
      JOIN started AS s ON s.k = a.k
      RETURNING node_name, cpus, memory, gres
    ),
    added AS (
      SELECT node_name, sum(cpus)::integer AS cpus, sum(memory)::bigint AS memory, scns_gres_sum(gres) AS gres
      FROM allocated GROUP BY node_name
    ),
    locked AS (
      SELECT n.name FROM nodes AS n JOIN added ON added.node_name = n.name ORDER BY n.name FOR UPDATE OF n
    ),
    counted AS (
      UPDATE nodes AS n SET
        allocated_cpus = n.allocated_cpus + added.cpus,
        allocated_memory = n.allocated_memory + added.memory,
        allocated_gres = scns_gres_add(n.allocated_gres, added.gres, 1)
      FROM added JOIN locked ON locked.name = added.node_name
      WHERE n.name = added.node_name
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT s.job_id, s.restart_count, 'PENDING', 'RUNNING', 'start', 'scheduler', '分配到 ' || p.node_list
      FROM started AS s JOIN plan AS p ON p.k = s.k
    )
    SELECT k, job_id, restart_count FROM started ORDER BY k
    """
)


def commit_starts(connection: Connection, epoch: int, starts: Iterable[Start]) -> list[Started]:
    """写下一批启动，返回真正成立的；被取消、修改或保留的作业不在其中。

    在调用者的事务里执行。节点计数越界时 PostgreSQL 报 CheckViolation，整批作废，调用者应当重新装载再计划。
    """
    columns = _Columns()
    plan, shares = columns.plan, columns.shares
    for index, start in enumerate(starts):
        plan["k"].append(index)
        plan["job_id"].append(start.job_id)
        plan["task_id"].append(start.task_id)
        plan["becomes"].append(start.becomes_task)
        plan["revision"].append(start.revision)
        plan["node_list"].append(start.node_list)
        plan["batch_host"].append(start.shares[0].node_name)
        plan["nodes"].append(len(start.shares))
        plan["cpus"].append(sum(share.cpus for share in start.shares))
        plan["memory"].append(sum(share.memory for share in start.shares))
        plan["gres"].append(start.gres_text)
        plan["time_limit"].append(start.time_limit)
        for node_index, share in enumerate(start.shares):
            shares["a_k"].append(index)
            shares["a_node"].append(share.node_name)
            shares["a_index"].append(node_index)
            shares["a_cpus"].append(share.cpus)
            shares["a_memory"].append(share.memory)
            shares["a_gres"].append(json.dumps(share.gres))
            shares["a_tasks"].append(share.tasks)
    if not plan["k"]:
        return []
    rows = connection.execute(_COMMIT, {"epoch": epoch, **plan, **shares}).all()
    return [Started(row.k, row.job_id, row.restart_count) for row in rows]
