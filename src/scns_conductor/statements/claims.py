"""认领：代理在启动进程之前，先在数据库里把分配标成自己的。每次尝试至多一次（不变量 1）。"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import starmap
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.statements.array_tasks import task_of
from scns_conductor.statements.conditions import LAUNCH_ID
from scns_conductor.statements.hot_statement import HotStatement, ids_text, rows_text


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """启动一个作业所需的一切。node_index 为 0 的节点运行脚本；内存单位 MiB，时限单位秒。"""

    allocation_id: int
    job_id: int
    restart_count: int
    node_index: int
    cpus: int
    memory: int
    gres: dict[str, int]
    tasks_here: int
    name: str
    user_name: str
    account: str | None
    partition: str
    qos: str | None
    reservation: str | None
    node_list: str
    tasks: int
    tasks_per_node: int | None
    cpus_per_task: int
    memory_per_node: int | None
    memory_per_cpu: int | None
    time_limit: int | None
    array_job_id: int | None
    array_task_id: int | None
    het_job_id: int | None
    het_job_offset: int
    array_spec: str | None
    script: str | None
    argv: list[str]
    environment: dict[str, str]
    current_working_directory: str
    standard_input: str | None
    standard_output: str | None
    standard_error: str | None
    open_mode: str | None
    umask: int | None
    kill_warning_signal: str | None
    kill_warning_delay: int | None
    kill_warning_batch_only: bool
    interactive: bool
    submit_host: str | None
    constraints: str | None
    distribution: str | None
    core_specification: int | None
    thread_specification: int | None
    container: str | None
    container_image: str | None
    start_epoch: float
    submit_epoch: float
    launch_id: int
    peer_tasks: list[int] = field(default_factory=list)
    peer_cpus: list[int] = field(default_factory=list)

    def without_spared(self, cpu_threads: int) -> "ClaimedJob":
        """扣掉 --core-spec、--thread-spec 留给系统的 CPU；cpu_threads 是本节点一个核占几个 CPU。"""
        spared = (self.core_specification or 0) * cpu_threads + (self.thread_specification or 0)
        return replace(self, cpus=max(1, self.cpus - spared)) if spared else self

    @property
    def runs_here(self) -> bool:
        """脚本（或占位进程）是否在本节点上。"""
        return self.node_index == 0


# 各列的次序。
CLAIMED_COLUMNS = tuple(each.name for each in fields(ClaimedJob))

# 仍是当前尝试、没有释放、没有人要求结束的分配。状态写成这样，规划器就不去用 jobs_by_state：统计还说没有谁在运行时，
# 它为每份分配把运行中的都翻一遍。
_CURRENT = """
    a.node_name = %(node)s AND a.released_at IS NULL AND a.job_id = ANY(CAST(%(job_ids)s AS bigint[]))
    AND j.job_id = a.job_id AND j.restart_count = a.restart_count
    AND j.state || '' = 'RUNNING' AND j.requested_end_state IS NULL
"""
# 因抢占而挂起的，借出的 CPU 仍是它的。
_SHARE = (
    "a.allocation_id, a.job_id, a.restart_count, a.node_index, a.cpus + a.lent_cpus AS cpus, a.memory, a.gres, a.tasks"
)
# 作业（j）自己的；数组任务的脚本、参数、环境只存在数组行（m）里。
_ASKED = """j.name, j.user_name, j.account, j.partition, j.qos, j.reservation, {node_list}, j.tasks, j.tasks_per_node,
      j.cpus_per_task, j.memory_per_node, j.memory_per_cpu, j.time_limit, j.array_job_id, {array_task_id},
      j.het_job_id, j.het_job_offset,
      m.array AS array_spec, m.script, m.argv, m.environment, j.current_working_directory, j.standard_input,
      j.standard_output, j.standard_error, j.open_mode, j.umask, j.kill_warning_signal, j.kill_warning_delay,
      j.kill_warning_batch_only, j.interactive, j.submit_host, j.constraints, j.distribution,
      j.core_specification, j.thread_specification,
      j.container, j.container_image"""
_DESCRIBE = f"""
    SELECT c.allocation_id, c.job_id, c.restart_count, c.node_index, c.cpus, c.memory, c.gres, c.tasks AS tasks_here,
      {_ASKED.format(node_list="j.node_list", array_task_id="j.array_task_id")},
      extract(epoch FROM j.start_time)::double precision AS start_epoch,
      extract(epoch FROM j.submit_time)::double precision AS submit_epoch,
      {LAUNCH_ID} AS launch_id,
      CASE WHEN j.allocated_nodes > 1 THEN peers.tasks ELSE ARRAY[c.tasks] END AS peer_tasks,
      CASE WHEN j.allocated_nodes > 1 THEN peers.cpus ELSE ARRAY[c.cpus] END AS peer_cpus
    FROM claimed AS c
    JOIN jobs AS j ON j.job_id = c.job_id
    JOIN jobs AS m ON m.job_id = coalesce(j.array_job_id, j.job_id)
    LEFT JOIN LATERAL (
      SELECT array_agg(a.tasks ORDER BY a.node_index) AS tasks,
        array_agg(a.cpus + a.lent_cpus ORDER BY a.node_index) AS cpus
      FROM resource_allocations AS a
      WHERE j.allocated_nodes > 1 AND a.job_id = c.job_id AND a.restart_count = c.restart_count
        AND a.released_at IS NULL
    ) AS peers ON true
    ORDER BY c.allocation_id
"""
# 接力（relay.py）里刚启动、就此认领了的 s（连同它的分配），j 是启动之前的行（数组则是数组行）。
DESCRIBE_SUCCESSOR = f"""
    s.allocation_id, s.job_id, s.restart_count, 0 AS node_index, s.cpus, s.memory, s.gres, s.tasks AS tasks_here,
    {
    _ASKED.format(
        node_list="s.node_list",
        array_task_id="CASE WHEN s.task_id IS NULL THEN j.array_task_id "
        f"ELSE {task_of('j', 's.task_id')} END AS array_task_id",
    )
},
    extract(epoch FROM s.start_time)::double precision AS start_epoch,
    extract(epoch FROM j.submit_time)::double precision AS submit_epoch,
    {LAUNCH_ID.replace("j.", "s.")} AS launch_id, ARRAY[s.tasks] AS peer_tasks, ARRAY[s.cpus] AS peer_cpus
"""
# 一条语句认领：只认还没有认领的。
_CLAIM = HotStatement(
    f"""
    WITH claimed AS (
      UPDATE resource_allocations AS a SET claimed_at = clock_timestamp()
      FROM jobs AS j WHERE a.claimed_at IS NULL AND {_CURRENT} RETURNING {_SHARE}
    )
    {_DESCRIBE}
    """
)
_HELD_JOB = HotStatement(
    f"""
    WITH claimed AS (
      SELECT {_SHARE} FROM resource_allocations AS a, jobs AS j WHERE a.claimed_at IS NOT NULL AND {_CURRENT}
    )
    {_DESCRIBE}
    """
)
# 异构作业的各个部分，各取运行脚本（占位进程）的那个节点上的。
_COMPONENTS = HotStatement(
    f"""
    WITH claimed AS (
      SELECT {_SHARE} FROM resource_allocations AS a JOIN jobs AS j ON j.job_id = a.job_id
      WHERE j.het_job_id = ANY(CAST(%(het_job_ids)s AS bigint[])) AND a.restart_count = j.restart_count
        AND a.node_index = 0 AND a.released_at IS NULL
    )
    {_DESCRIBE}
    """
)

# 认领了却不再启动的（有人要求结束）：同样先认领，此后谁也不会再启动它。
_ABANDON = sa.text(
    f"""
    UPDATE resource_allocations AS a SET claimed_at = clock_timestamp()
    FROM jobs AS j
    WHERE a.node_name = :node AND a.released_at IS NULL AND a.claimed_at IS NULL
      AND a.job_id = ANY(CAST(:job_ids AS bigint[]))
      AND j.job_id = a.job_id AND j.restart_count = a.restart_count AND j.requested_end_state IS NOT NULL
    RETURNING a.job_id, a.restart_count, a.node_index, j.requested_end_state, {LAUNCH_ID} AS launch_id
    """
)

_UNCLAIM = sa.text(
    "UPDATE resource_allocations SET claimed_at = NULL WHERE allocation_id = ANY(CAST(:allocation_ids AS bigint[]))"
)

_BIND = HotStatement(
    """
    UPDATE resource_allocations AS a SET cpu_ids = b.cpu_ids, gres_ids = b.gres_ids,
      token_digest = decode(b.token_digest, 'hex')
    FROM json_to_recordset(CAST(%(rows)s AS json))
      AS b(allocation_id bigint, cpu_ids integer[], gres_ids jsonb, token_digest text)
    WHERE a.allocation_id = b.allocation_id
    """
)


def claim_allocations(connection: Connection, node_name: str, job_ids: Sequence[int]) -> list[ClaimedJob]:
    """认领这些作业在本节点上的分配，返回真正认领到的；重复或过时的请求什么也得不到。"""
    if not job_ids:
        return []
    return _described(_CLAIM, connection, {"node": node_name, "job_ids": ids_text(job_ids)})


def unclaim_allocations(connection: Connection, allocation_ids: Sequence[int]) -> None:
    """放回同一个事务里刚认领的：核、卡还没有空出来，稍后再认领。"""
    if allocation_ids:
        connection.execute(_UNCLAIM, {"allocation_ids": list(allocation_ids)})


def held_job(connection: Connection, node_name: str, job_id: int) -> ClaimedJob | None:
    """本节点已经认领、仍在运行的一个作业；启动作业步用。没有返回 None。"""
    held = _described(_HELD_JOB, connection, {"node": node_name, "job_ids": ids_text([job_id])})
    return held[0] if held else None


def components_of(connection: Connection, het_job_ids: Sequence[int]) -> dict[int, list[ClaimedJob]]:
    """异构作业 -> 它的各个部分，按次序；只为写变量，什么也不认领。"""
    if not het_job_ids:
        return {}
    found: dict[int, list[ClaimedJob]] = {}
    for job in _described(_COMPONENTS, connection, {"het_job_ids": ids_text(het_job_ids)}):
        assert job.het_job_id is not None
        found.setdefault(job.het_job_id, []).append(job)
    return {head: sorted(jobs, key=lambda job: job.het_job_offset) for head, jobs in found.items()}


def _described(statement: HotStatement, connection: Connection, values: Mapping[str, Any]) -> list[ClaimedJob]:
    # 按次序装，不按名字：每个作业省 11 微秒。
    rows = statement.execute(connection, values)
    assert statement.columns == CLAIMED_COLUMNS
    return list(starmap(ClaimedJob, rows))


@dataclass(frozen=True, slots=True)
class AbandonedJob:
    """还没有启动就被要求结束的作业。"""

    job_id: int
    restart_count: int
    node_index: int
    requested_end_state: str
    launch_id: int


def abandon_allocations(connection: Connection, node_name: str, job_ids: Sequence[int]) -> list[AbandonedJob]:
    """认领那些已被要求结束、还没有启动的分配，使它们永远不会启动。"""
    if not job_ids:
        return []
    rows = connection.execute(_ABANDON, {"node": node_name, "job_ids": list(job_ids)}).mappings()
    return [AbandonedJob(**row) for row in rows]


def record_bindings(
    connection: Connection, bindings: Sequence[tuple[int, Sequence[int] | None, dict[str, list[int]], bytes | None]]
) -> None:
    """写下每个分配绑定的核、通用资源的序号与作业令牌的摘要：(allocation_id, 核, {'gpu:a100': [0, 1]}, 摘要)。"""
    if not bindings:
        return
    rows = [
        {
            "allocation_id": allocation_id,
            "cpu_ids": None if cpu_ids is None else list(cpu_ids),
            "gres_ids": gres_ids or None,
            "token_digest": None if digest is None else digest.hex(),
        }
        for allocation_id, cpu_ids, gres_ids, digest in bindings
    ]
    _BIND.execute(connection, {"rows": rows_text(rows)})
