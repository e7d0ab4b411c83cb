"""作业步：建立（占住作业分配里的 CPU）、列出、再送一遍、发信号。启动与结束由节点来做、来写。"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.steps import StepActed, StepAttached, StepCreated, StepRelaunched
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.hostlist import compress
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.core.step_resources import NodeShare, StepShare, StepWants, share_out
from scns_conductor.core.step_wire import place_name
from scns_conductor.core.task_layout import LayoutError, NodeTasks, StepNode, StepShape, lay_out
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.audit import record_jobs
from scns_conductor.services.job_control import signal_number
from scns_conductor.services.job_queries import read_job
from scns_conductor.services.job_rows import JobRow, find_rows, require_owner, require_self
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.step_ports import reserve_ports
from scns_conductor.statements.end_requests import allocation_release
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_detail import ATTEMPT
from scns_conductor.statements.job_steps import (
    FIRST_HIDDEN_ID,
    LAST_ID,
    NEXT_HET_STEP_ID,
    NEXT_STEP_ID,
    NODES_OF_JOB,
    NODES_OF_RUNNING,
    ONE_STEP,
    RUNNING_STEPS,
    SET_STEP_TIME_LIMIT,
    STEPS_OF_JOBS,
    step_insert,
)

MAX_STEPS_TASKS = 65_536
# 节点多于此的不再问（用它们定期的采样）；问了等这么久。
MOST_SAMPLED = 64
SAMPLE_WAIT_S = 3.0
NO_PORTS = range(0)


@dataclass(frozen=True, slots=True)
class StepRequest:
    """要建立的作业步。launch 原样交给节点（命令、环境、输入输出、连回 srun 的地址与口令）。

    hidden 的是系统自己的（sbcast），不列出来。
    """

    name: str
    shape: StepShape
    wants: StepWants = field(default_factory=StepWants)
    hidden: bool = False
    # 要保留几个通信端口；0 是照任务数，None 是不要。
    resv_ports: int | None = None
    launch: Mapping[str, Any] = field(default_factory=dict)


async def create_step(
    engine: AsyncEngine, identity: Identity, job_id: str, request: StepRequest, *, ports: range = NO_PORTS
) -> StepCreated:
    """占住 CPU、编号、请节点启动；返回 step_id 与各节点的任务。ports 是可以保留的通信端口。

    不在运行抛 Conflict（job_not_running），此刻放不下抛 Conflict（step_busy，过一会儿再来），
    怎样也放不下抛 InvalidRequest（step_too_large）。
    """
    async with engine.begin() as connection:
        placed = await _placed(connection, identity, job_id, request)
        await _launch(connection, placed, placed.step_id, await _ports(connection, [placed], ports))
    return {
        "job_id": str(placed.row.job_id),
        "step_id": placed.step_id,
        "tasks": placed.tasks,
        "node_list": compress(node.name for node in placed.nodes),
        "nodes": [{"name": node.name, "tasks": list(node.ranks)} for node in placed.nodes],
    }


async def create_het_step(
    engine: AsyncEngine,
    identity: Identity,
    job_id: str,
    requests: Sequence[tuple[int, StepRequest]],
    *,
    ports: range = NO_PORTS,
) -> StepCreated:
    """异构作业里跨几个部分的一步：(第几个部分, 要求)，一个部分至多一个；任务的序号接着排，都建立或都不建立。

    job_id 是异构作业的号；nodes 里的名字见 step_wire.place_name。抛的错同 create_step。
    """
    ordered = sorted(requests, key=lambda each: each[0])
    if len({component for component, _ in ordered}) < len(ordered):
        raise InvalidRequest("steps", "一个部分一次只能有一步（Slurm 也是）", code="het_job_invalid")
    async with engine.begin() as connection:
        # 按作业号的次序加锁：各个部分的号是升序的。
        placed = [
            await _placed(connection, identity, f"{job_id}+{component}", request) for component, request in ordered
        ]
        step_id, first = max(each.step_id for each in placed), 0
        world: dict[str, list[int]] = {}
        for (component, _), each in zip(ordered, placed, strict=True):
            each.shift(first)
            first += each.tasks
            world |= {place_name(node.name, component): list(node.ranks) for node in each.nodes}
        reserved = await _ports(connection, placed, ports)
        together = {**reserved, "het_job_id": placed[0].row.het_job_id, "world": world, "world_order": list(world)}
        for (component, _), each in zip(ordered, placed, strict=True):
            await _launch(connection, each, step_id, {**together, "component": component})
    return {
        "job_id": job_id,
        "step_id": step_id,
        "tasks": first,
        "node_list": ",".join(compress(node.name for node in each.nodes) for each in placed),
        "nodes": [{"name": name, "tasks": ranks} for name, ranks in world.items()],
    }


async def _ports(connection: AsyncConnection, placed: Sequence["_Placed"], ports: range) -> dict[str, Any]:
    """保留的通信端口，几个部分共用；没有要的是空的。"""
    wanted = [each.request.resv_ports for each in placed if each.request.resv_ports is not None]
    if not wanted:
        return {}
    nodes = [node for each in placed for node in each.nodes]
    names, tasks = [node.name for node in nodes], [len(node.ranks) for node in nodes]
    return {"reserved_ports": await reserve_ports(connection, names, tasks, max(wanted), ports)}


@dataclass(slots=True)
class _Placed:
    """摆好了、还没有写下的一步。"""

    row: JobRow
    request: StepRequest
    step_id: int
    nodes: list[NodeTasks]
    shares: dict[str, Any]

    @property
    def tasks(self) -> int:
        """任务数。"""
        return sum(len(node.ranks) for node in self.nodes)

    def shift(self, first: int) -> None:
        """任务的序号从 first 起。"""
        if not first:
            return
        self.nodes = [replace(node, ranks=tuple(rank + first for rank in node.ranks)) for node in self.nodes]
        programs = self.request.launch.get("multi_prog")
        if programs:
            shifted = {str(int(rank) + first): words for rank, words in programs.items()}
            self.request = replace(self.request, launch={**self.request.launch, "multi_prog": shifted})


async def _placed(connection: AsyncConnection, identity: Identity, job_id: str, request: StepRequest) -> _Placed:
    row = await _running(connection, identity, job_id)
    values = {"job_id": row.job_id, "restart_count": row.restart_count}
    nodes = (await connection.execute(NODES_OF_JOB, values)).all()
    if not nodes or not all(node.claimed for node in nodes):
        raise Conflict(f"作业 {row.label} 的节点还没有就绪；请稍后再试", code="step_busy")
    placed, shares = _place(nodes, request)
    first, limit = (FIRST_HIDDEN_ID, LAST_ID) if request.hidden else (0, FIRST_HIDDEN_ID)
    values |= {"first": first, "limit": limit}
    if row.het_job_id is not None:
        statement, values = NEXT_HET_STEP_ID, {**values, "het_job_id": row.het_job_id}
        values.pop("job_id")
    else:
        statement = NEXT_STEP_ID
    step_id = (await connection.execute(statement, values)).scalar_one()
    return _Placed(row, request, step_id, placed, shares)


async def _launch(connection: AsyncConnection, step: _Placed, step_id: int, together: Mapping[str, Any]) -> None:
    """写下这一步，请节点启动；together 是跨几个部分的一步共有的。"""
    row, request, placed = step.row, step.request, step.nodes
    values = {"job_id": row.job_id, "restart_count": row.restart_count}
    launch = {
        **request.launch,
        **values,
        **together,
        "step_id": step_id,
        "name": request.name,
        "tasks": step.tasks,
        "cpus_per_task": request.shape.cpus_per_task,
        "nodes": {node.name: list(node.ranks) for node in placed},
        "node_cpus": {node.name: node.cpus for node in placed},
        # JSON 的对象在数据库里不保次序，节点的次序另写。
        "node_order": [node.name for node in placed],
        "shares": step.shares,
    }
    await connection.execute(
        step_insert(
            {
                **values,
                "step_id": step_id,
                "name": request.name,
                "tasks": step.tasks,
                "cpus_per_task": request.shape.cpus_per_task,
                "nodes": [node.name for node in placed],
                "node_tasks": [len(node.ranks) for node in placed],
                "node_cpus": [node.cpus for node in placed],
                "pending_nodes": [node.name for node in placed],
                "node_shares": {} if request.wants.overlap else step.shares,
                "launch": launch,
            }
        )
    )
    await _forward(connection, "launch_step", row.job_id, [node.name for node in placed], launch)


def _place(rows: Sequence[Any], request: StepRequest) -> tuple[list[NodeTasks], dict[str, Any]]:
    """任务摆到哪些节点上，各节点上分到什么；没有写资源的不细分，份额是空的。"""
    if (request.shape.tasks or 0) > MAX_STEPS_TASKS:
        raise InvalidRequest("tasks", f"一步至多 {MAX_STEPS_TASKS} 个任务", code="step_too_large")
    by_name = {row.name: row for row in rows}
    try:
        placed = lay_out([StepNode(row.name, row.cpus, row.free_cpus, row.tasks) for row in rows], request.shape)
        if request.wants.empty:
            return placed, {}
        chosen = [(_node_share(by_name[node.name]), len(node.ranks), node.cpus) for node in placed]
        shares: list[StepShare] = share_out(chosen, request.wants)
    except LayoutError as error:
        if error.busy:
            raise Conflict(f"{error}；请稍后再试，或用 --overlap", code="step_busy") from error
        raise InvalidRequest(error.field, str(error), code="step_too_large") from error
    return placed, {node.name: share.to_json() for node, share in zip(placed, shares, strict=True)}


def _node_share(row: Any) -> NodeShare:
    return NodeShare(row.name, row.memory, row.gres, row.gres_ids, row.taken)


async def _running(connection: AsyncConnection, identity: Identity, job_id: str) -> JobRow:
    rows = await find_rows(connection, job_id, whole_array=False)
    require_self(rows, identity)
    active = [row for row in rows if row.state == JobState.RUNNING and row.requested_end_state is None]
    if len(active) != 1:
        raise Conflict(f"作业 {job_id} 是 {rows[0].state}，不在运行，不能启动作业步", code="job_not_running")
    return active[0]


async def _forward(
    connection: AsyncConnection, kind: str, job_id: int, nodes: Sequence[str], payload: Mapping[str, Any]
) -> None:
    await tell_scheduler(connection, inbox_insert(kind, job_ids=[job_id], node_names=nodes, payload=dict(payload)))


async def list_steps(
    engine: AsyncEngine, job_ids: Sequence[str] | None, *, hidden: bool = False
) -> list[dict[str, Any]]:
    """这些作业（数组任务用它自己的作业号）的全部作业步；None 是正在运行的全部。没有的作业不是错误。"""
    async with engine.connect() as connection:
        if job_ids is None:
            rows = (await connection.execute(RUNNING_STEPS)).mappings().all()
        else:
            numbers = [int(job_id) for job_id in job_ids if job_id.isdecimal() and len(job_id) < 19]
            values = {"job_ids": numbers, "limit": LAST_ID if hidden else FIRST_HIDDEN_ID}
            rows = (await connection.execute(STEPS_OF_JOBS, values)).mappings().all()
    return [{**row, "layout": _layout(row), "node_list": compress(row["nodes"])} for row in rows]


def _layout(row: RowMapping) -> dict[str, list[int]]:
    """各节点上的任务序号，按节点的次序（JSONB 不保次序）。"""
    known = row["layout"] or {}
    return {name: known.get(name, []) for name in row["nodes"]}


async def read_step(engine: AsyncEngine, job_id: str, step_id: int) -> dict[str, Any]:
    """当前尝试的一个作业步；没有抛 NotFound。"""
    job = await read_job(engine, job_id, ATTEMPT)
    found = await list_steps(engine, [str(job["job_id"])], hidden=True)
    for step in found:
        if step["step_id"] == step_id and step["restart_count"] == job["restart_count"]:
            return step
    raise NotFound(f"作业 {job_id} 没有作业步 {step_id}", code="step_not_found")


async def relaunch_step(engine: AsyncEngine, identity: Identity, job_id: str, step_id: int) -> StepRelaunched:
    """把启动的消息再送一遍（Valkey 可能丢了它）；已经启动的节点什么也不做。"""
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        if step["pending_nodes"]:
            await _forward(connection, "launch_step", row.job_id, step["pending_nodes"], step["launch"])
    return {"job_id": job_id, "step_id": step_id, "pending_nodes": step["pending_nodes"]}


async def signal_step(engine: AsyncEngine, identity: Identity, job_id: str, step_id: int, signal: str) -> StepActed:
    """给作业步的全部任务发信号；KILL 结束它。"""
    number = signal_number(signal)
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        if not step["pending_nodes"]:
            raise Conflict(f"作业步 {job_id}.{step_id} 已经结束", code="step_finished")
        payload = {"job_id": row.job_id, "restart_count": row.restart_count, "step_id": step_id, "signal": number}
        await _forward(connection, "signal_step", row.job_id, step["pending_nodes"], payload)
        told = {"step_id": step_id, "signal": signal}
        await record_jobs(connection, identity, "step.signal", [row], after=told)
    return {"job_id": job_id, "step_id": step_id, "state": step["state"]}


async def update_step(
    engine: AsyncEngine, identity: Identity, job_id: str, step_id: int, time_limit: int | None
) -> StepActed:
    """改作业步自己的时限（秒，从它的开始算起；None 是不限）；已经超过的立即到时。

    已经结束抛 Conflict（step_finished）。
    """
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        if not step["pending_nodes"]:
            raise Conflict(f"作业步 {job_id}.{step_id} 已经结束", code="step_finished")
        named = {"job_id": row.job_id, "restart_count": row.restart_count, "step_id": step_id}
        await connection.execute(SET_STEP_TIME_LIMIT, {**named, "time_limit": json.dumps(time_limit)})
        payload = {**named, "time_limit_s": time_limit}
        await _forward(connection, "limit_step", row.job_id, step["pending_nodes"], payload)
        told = {"step_id": step_id, "time_limit_s": time_limit}
        await record_jobs(connection, identity, "step.update", [row], after=told)
    return {"job_id": job_id, "step_id": step_id, "state": step["state"]}


async def attach_step(
    engine: AsyncEngine, identity: Identity, job_id: str, step_id: int, connection_wanted: Mapping[str, Any]
) -> StepAttached:
    """请各节点再连一个客户（sattach）；返回还在跑的节点与任务。已经结束抛 Conflict（step_finished）。"""
    async with engine.begin() as connection:
        row, step = await _own_step(connection, identity, job_id, step_id)
        require_self([row], identity)
        nodes = {name: ranks for name, ranks in step["launch"]["nodes"].items() if name in step["pending_nodes"]}
        if not nodes:
            raise Conflict(f"作业步 {job_id}.{step_id} 已经结束", code="step_finished")
        payload = {
            "job_id": row.job_id,
            "restart_count": row.restart_count,
            "step_id": step_id,
            "connection": dict(connection_wanted),
        }
        await _forward(connection, "attach_step", row.job_id, list(nodes), payload)
    return {
        "job_id": str(row.job_id),
        "step_id": step_id,
        "tasks": step["launch"]["tasks"],
        # 节点上的主人这样自称。
        "nodes": [
            {"name": place_name(name, step["launch"].get("component") or 0), "tasks": ranks}
            for name, ranks in nodes.items()
        ],
    }


async def sample_steps(engine: AsyncEngine, desk: AnswerDesk, job_ids: Sequence[str]) -> None:
    """请这些作业所在的节点此刻就采样一次（sstat）；没有按时答的节点，用它上一次的。"""
    await ask_nodes_to_sample(
        engine, desk, [int(job_id) for job_id in job_ids if job_id.isdecimal() and len(job_id) < 19]
    )


async def ask_nodes_to_sample(engine: AsyncEngine, desk: AnswerDesk, numbers: Sequence[int]) -> None:
    """同上，作业号是数。"""
    async with engine.connect() as connection:
        nodes = (await connection.execute(NODES_OF_RUNNING, {"job_ids": list(numbers)})).scalars().all()
    asked = (desk.ask("sample", node_names=[name], payload={}, wait_s=SAMPLE_WAIT_S) for name in nodes[:MOST_SAMPLED])
    await asyncio.gather(*asked, return_exceptions=True)


async def _own_step(
    connection: AsyncConnection, identity: Identity, job_id: str, step_id: int
) -> tuple[JobRow, Mapping[str, Any]]:
    rows = await find_rows(connection, job_id, whole_array=False)
    require_owner(rows, identity)
    values = {"job_id": rows[0].job_id, "restart_count": rows[0].restart_count, "step_id": step_id}
    step = (await connection.execute(ONE_STEP, values)).mappings().one_or_none()
    if step is None:
        raise NotFound(f"作业 {job_id} 没有作业步 {step_id}", code="step_not_found")
    return rows[0], dict(step)


async def release_allocation(engine: AsyncEngine, identity: Identity, job_id: str, exit_status: int = 0) -> str:
    """交还没有脚本的分配（salloc、独立的 srun 做完了）：COMPLETED，exit_status 不为 0 则 FAILED。

    幂等；返回原来的状态。
    """
    async with engine.begin() as connection:
        rows = await find_rows(connection, job_id, whole_array=False)
        require_owner(rows, identity)
        if not all(row.interactive for row in rows):
            raise Conflict(f"作业 {job_id} 有脚本，结束由脚本决定；要提前结束请取消它", code="not_an_allocation")
        active = [row for row in rows if row.state in ACTIVE_STATES]
        for row in active:
            await connection.execute(
                allocation_release(row.job_id, row.restart_count, exit_status, actor=identity.user_name)
            )
        await tell_scheduler(connection, *(inbox_insert("cancel", job_ids=[row.job_id]) for row in active))
        await record_jobs(connection, identity, "job.release_allocation", active, after={"exit_status": exit_status})
    return rows[0].state
