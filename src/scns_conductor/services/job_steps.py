"""作业步：建立（占住作业分配里的 CPU）、列出、再送一遍、发信号。启动与结束由节点来做、来写。"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.models import JobStep
from scns_conductor.core.statements import allocation_release, inbox_insert, notify_inbox
from scns_conductor.core.states import JobState
from scns_conductor.core.task_layout import LayoutError, NodeTasks, StepNode, StepShape, lay_out
from scns_conductor.core.tokens import Identity
from scns_conductor.services.job_control import signal_number
from scns_conductor.services.job_queries import read_job
from scns_conductor.services.job_rows import JobRow, find_rows, require_owner

MAX_STEPS_TASKS = 65_536
# 各节点上，别的没有结束的作业步占着的 CPU；作业行已经加锁，所以看得全。
_NODES = sa.text(
    """
    SELECT a.node_name AS name, a.cpus, a.tasks, a.claimed_at IS NOT NULL AS claimed,
      a.cpus - coalesce((
        SELECT sum(s.node_cpus[array_position(s.nodes, a.node_name)])
        FROM job_steps AS s
        WHERE s.job_id = a.job_id AND s.restart_count = a.restart_count AND a.node_name = ANY(s.pending_nodes)), 0)
        AS free_cpus
    FROM resource_allocations AS a
    WHERE a.job_id = :job_id AND a.restart_count = :restart_count AND a.released_at IS NULL
    ORDER BY a.node_index
    """
)
_NEXT_ID = sa.text(
    "SELECT coalesce(max(step_id) + 1, 0) FROM job_steps WHERE job_id = :job_id AND restart_count = :restart_count"
)
# 作业结束了而节点没有来得及报的步，随作业一起算取消。
_COLUMNS = """
    s.job_id::text || '.' || s.step_id AS step, s.job_id::text AS job_id, s.restart_count, s.step_id, s.name,
    CASE WHEN s.end_time IS NULL AND j.state NOT IN ('RUNNING', 'SUSPENDED') THEN 'CANCELLED'
         WHEN s.end_time IS NULL AND j.state = 'SUSPENDED' THEN 'SUSPENDED' ELSE s.state END AS state,
    s.tasks, s.cpus_per_task, s.pending_nodes, s.nodes, s.node_tasks, s.node_cpus, s.start_time,
    coalesce(s.end_time, CASE WHEN j.state NOT IN ('RUNNING', 'SUSPENDED') THEN j.end_time END) AS end_time,
    s.exit_status, s.exit_signal, s.cpu_user_s, s.cpu_system_s, s.max_rss_kb, j.user_name, j.partition, j.account,
    j.array_job_id::text AS array_job_id, j.array_task_id, clock_timestamp() AS now
"""
_LIST = sa.text(
    f"""
    SELECT {_COLUMNS} FROM job_steps AS s JOIN jobs AS j ON j.job_id = s.job_id
    WHERE s.job_id = ANY(CAST(:job_ids AS bigint[])) ORDER BY s.job_id, s.restart_count, s.step_id
    """.replace("::", r"\:\:")
)
_ACTIVE = sa.text(
    f"""
    SELECT {_COLUMNS} FROM jobs AS j JOIN job_steps AS s ON s.job_id = j.job_id AND s.restart_count = j.restart_count
    WHERE j.state IN ('RUNNING', 'SUSPENDED') AND s.end_time IS NULL ORDER BY s.job_id, s.step_id
    """.replace("::", r"\:\:")
)


@dataclass(frozen=True, slots=True)
class StepRequest:
    """要建立的作业步。launch 原样交给节点（命令、环境、输入输出、连回 srun 的地址与口令）。"""

    name: str
    shape: StepShape
    launch: Mapping[str, Any] = field(default_factory=dict)


async def create_step(engine: AsyncEngine, identity: Identity, job_id: str, request: StepRequest) -> dict[str, Any]:
    """占住 CPU、编号、请节点启动；返回 step_id 与各节点的任务。

    不在运行抛 Conflict（job_not_running），此刻放不下抛 Conflict（step_busy，过一会儿再来），
    怎样也放不下抛 InvalidRequest（step_too_large）。
    """
    async with engine.begin() as connection:
        row = await _running(connection, identity, job_id)
        values = {"job_id": row.job_id, "restart_count": row.restart_count}
        nodes = (await connection.execute(_NODES, values)).all()
        if not nodes or not all(node.claimed for node in nodes):
            raise Conflict(f"作业 {row.label} 的节点还没有就绪；请稍后再试", code="step_busy")
        placed = _place([StepNode(node.name, node.cpus, node.free_cpus, node.tasks) for node in nodes], request.shape)
        step_id = (await connection.execute(_NEXT_ID, values)).scalar_one()
        tasks = sum(len(node.ranks) for node in placed)
        launch = {
            **request.launch,
            **values,
            "step_id": step_id,
            "name": request.name,
            "tasks": tasks,
            "cpus_per_task": request.shape.cpus_per_task,
            "nodes": {node.name: list(node.ranks) for node in placed},
        }
        await connection.execute(
            sa.insert(JobStep).values(
                **values,
                step_id=step_id,
                name=request.name,
                tasks=tasks,
                cpus_per_task=request.shape.cpus_per_task,
                nodes=[node.name for node in placed],
                node_tasks=[len(node.ranks) for node in placed],
                node_cpus=[node.cpus for node in placed],
                pending_nodes=[node.name for node in placed],
                launch=launch,
            )
        )
        await _forward(connection, "launch_step", row.job_id, [node.name for node in placed], launch)
    return {
        "job_id": str(row.job_id),
        "step_id": step_id,
        "tasks": tasks,
        "node_list": compress(node.name for node in placed),
        "nodes": [{"name": node.name, "tasks": list(node.ranks)} for node in placed],
    }


def _place(nodes: Sequence[StepNode], shape: StepShape) -> list[NodeTasks]:
    if (shape.tasks or 0) > MAX_STEPS_TASKS:
        raise InvalidRequest("tasks", f"一步至多 {MAX_STEPS_TASKS} 个任务", code="step_too_large")
    try:
        return lay_out(nodes, shape)
    except LayoutError as error:
        if error.busy:
            raise Conflict(f"{error}；请稍后再试，或用 --overlap", code="step_busy") from error
        raise InvalidRequest("tasks", str(error), code="step_too_large") from error


def node_names(text: str | None) -> tuple[str, ...]:
    """-w 的节点列表；写错了抛 InvalidRequest。"""
    try:
        return tuple(expand(text)) if text else ()
    except ValueError as error:
        raise InvalidRequest("node_list", str(error)) from error


async def _running(connection: AsyncConnection, identity: Identity, job_id: str) -> JobRow:
    rows = await find_rows(connection, job_id, whole_array=False)
    require_owner(rows, identity)
    active = [row for row in rows if row.state == JobState.RUNNING and row.requested_end_state is None]
    if len(active) != 1:
        raise Conflict(f"作业 {job_id} 是 {rows[0].state}，不在运行，不能启动作业步", code="job_not_running")
    return active[0]


async def _forward(
    connection: AsyncConnection, kind: str, job_id: int, nodes: Sequence[str], payload: Mapping[str, Any]
) -> None:
    await connection.execute(inbox_insert(kind, job_ids=[job_id], node_names=nodes, payload=dict(payload)))
    await connection.execute(notify_inbox())


async def list_steps(engine: AsyncEngine, job_ids: Sequence[str] | None) -> list[dict[str, Any]]:
    """这些作业（数组任务用它自己的作业号）的全部作业步；None 是正在运行的全部。没有的作业不是错误。"""
    async with engine.connect() as connection:
        if job_ids is None:
            rows = (await connection.execute(_ACTIVE)).mappings().all()
        else:
            numbers = [int(job_id) for job_id in job_ids if job_id.isdigit() and len(job_id) < 19]
            rows = (await connection.execute(_LIST, {"job_ids": numbers})).mappings().all()
    return [{**row, "node_list": compress(row["nodes"])} for row in rows]


async def read_step(engine: AsyncEngine, job_id: str, step_id: int) -> dict[str, Any]:
    """当前尝试的一个作业步；没有抛 NotFound。"""
    job = await read_job(engine, job_id, "job_id, restart_count")
    found = await list_steps(engine, [str(job["job_id"])])
    for step in found:
        if step["step_id"] == step_id and step["restart_count"] == job["restart_count"]:
            return step
    raise NotFound(f"作业 {job_id} 没有作业步 {step_id}", code="step_not_found")


async def relaunch_step(engine: AsyncEngine, identity: Identity, job_id: str, step_id: int) -> dict[str, Any]:
    """把启动的消息再送一遍（Valkey 可能丢了它）；已经启动的节点什么也不做。"""
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        if step["pending_nodes"]:
            await _forward(connection, "launch_step", row.job_id, step["pending_nodes"], step["launch"])
    return {"job_id": job_id, "step_id": step_id, "pending_nodes": step["pending_nodes"]}


async def signal_step(
    engine: AsyncEngine, identity: Identity, job_id: str, step_id: int, signal: str
) -> dict[str, Any]:
    """给作业步的全部任务发信号；KILL 结束它。"""
    number = signal_number(signal)
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        if not step["pending_nodes"]:
            raise Conflict(f"作业步 {job_id}.{step_id} 已经结束", code="step_finished")
        payload = {"job_id": row.job_id, "restart_count": row.restart_count, "step_id": step_id, "signal": number}
        await _forward(connection, "signal_step", row.job_id, step["pending_nodes"], payload)
    return {"job_id": job_id, "step_id": step_id, "state": step["state"]}


_OWN = sa.text(
    "SELECT state, pending_nodes, launch FROM job_steps "
    "WHERE job_id = :job_id AND restart_count = :restart_count AND step_id = :step_id"
).columns(pending_nodes=ARRAY(sa.Text), launch=sa.JSON)


async def _own_step(
    connection: AsyncConnection, identity: Identity, job_id: str, step_id: int
) -> tuple[JobRow, Mapping[str, Any]]:
    rows = await find_rows(connection, job_id, whole_array=False)
    require_owner(rows, identity)
    values = {"job_id": rows[0].job_id, "restart_count": rows[0].restart_count, "step_id": step_id}
    step = (await connection.execute(_OWN, values)).mappings().one_or_none()
    if step is None:
        raise NotFound(f"作业 {job_id} 没有作业步 {step_id}", code="step_not_found")
    return rows[0], dict(step)


async def release_allocation(
    engine: AsyncEngine, identity: Identity, job_id: str, exit_status: int = 0
) -> dict[str, Any]:
    """交还没有脚本的分配（salloc、独立的 srun 做完了）：COMPLETED，exit_status 不为 0 则 FAILED。幂等。"""
    async with engine.begin() as connection:
        rows = await find_rows(connection, job_id, whole_array=False)
        require_owner(rows, identity)
        if not all(row.interactive for row in rows):
            raise Conflict(f"作业 {job_id} 有脚本，结束由脚本决定；要提前结束请取消它", code="not_an_allocation")
        active = [row for row in rows if row.state in (JobState.RUNNING, JobState.SUSPENDED)]
        for row in active:
            await connection.execute(
                allocation_release(row.job_id, row.restart_count, exit_status, actor=identity.user_name)
            )
            await connection.execute(inbox_insert("cancel", job_ids=[row.job_id]))
        if active:
            await connection.execute(notify_inbox())
    return {"job_id": job_id, "state": rows[0].state}
