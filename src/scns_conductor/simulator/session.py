"""一场模拟的准备：读入、清洗、改动（假如……）。重放见 runs。"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from scns_conductor.core.replay_words import NodeGroup
from scns_conductor.scheduling.cluster_facts import NodeFacts
from scns_conductor.simulator.history import read_history, read_sacct
from scns_conductor.simulator.live import LiveSystem, live_machine
from scns_conductor.simulator.live_others import Other
from scns_conductor.simulator.machine import Machine, processor_pool
from scns_conductor.simulator.swf import read_swf
from scns_conductor.simulator.trace import Trace, TraceUnreadable, open_text
from scns_conductor.simulator.workload import (
    Workload,
    cap_time_limit,
    clean,
    first_jobs,
    recorded_machine,
    scale_load,
)


@dataclass(frozen=True, slots=True)
class Request:
    """要模拟什么。source 是文件，或已经读好的踪迹。

    procs、nodes 说机器多大（都不给则看文件头，再没有则取记录里的峰值；重放线上系统时是它的节点）；其余是“假如”。
    remove_nodes、user_jobs、user_cpus 只用于线上系统。
    """

    source: Path | Trace
    form: str = "auto"
    procs: int | None = None
    nodes: tuple[NodeGroup, ...] = ()
    add_nodes: tuple[NodeGroup, ...] = ()
    limit: int | None = None
    cap_time_limit_s: int | None = None
    load_factor: float = 1.0
    use_memory: bool = False
    live: LiveSystem | None = None
    remove_nodes: frozenset[str] = frozenset()
    user_jobs: int | None = None
    user_cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """准备好了的一场：踪迹、工作负载、机器。"""

    trace: Trace
    workload: Workload
    machine: Machine
    # 重放线上系统自己时，它的一切；added 是假如加上的节点。
    live: LiveSystem | None = None
    added: tuple[NodeGroup, ...] = ()


def prepare(request: Request) -> Scene:
    """读入并清洗。读不了、没有作业时抛 TraceUnreadable；机器大小不合理时抛 ValueError（中文原因）。"""
    source = request.source
    trace = source if isinstance(source, Trace) else read_trace(source, request.form, use_memory=request.use_memory)
    base, live = base_machine(trace, request), request.live
    kept = base
    if live is not None:
        live = replace(
            live,
            nodes=_without(live, request.remove_nodes),
            user_jobs=request.user_jobs,
            user_cpus=request.user_cpus,
        )
        kept = live_machine(live.nodes)
    machine = Machine((*kept, *request.add_nodes))
    # 截断按原来的机器算：加了节点不该改变作业本身的大小。
    workload = clean(trace, Machine(base).cpus)
    if request.limit is not None:
        workload = first_jobs(workload, request.limit)
    origin_s = workload.jobs[0].submit_s
    changes: list[Callable[[Workload], Workload]] = []
    if request.cap_time_limit_s is not None:
        changes.append(partial(cap_time_limit, limit_s=request.cap_time_limit_s))
    if request.load_factor != 1.0:
        changes.append(partial(scale_load, factor=request.load_factor, origin_s=origin_s))
    for change in changes:
        workload = change(workload)
        if live is not None:
            # 与它们争的也一样；开始时已经在跑的不受影响。
            live = replace(live, others=_changed(live.others, change))
    return Scene(trace, workload, machine, live, request.add_nodes)


def _changed(others: Sequence[Other], change: Callable[[Workload], Workload]) -> list[Other]:
    jobs = change(Workload([other.job for other in others])).jobs
    return [replace(other, job=job) for other, job in zip(others, jobs, strict=True)]


def _without(system: LiveSystem, names: Collection[str]) -> list[NodeFacts]:
    """去掉这些节点之后的；没有的、去完了的抛 ValueError（中文原因）。"""
    unknown = sorted(set(names) - {node.name for node in system.nodes})
    if unknown:
        raise ValueError(f"没有节点 {'、'.join(unknown[:5])}")
    left = [node for node in system.nodes if node.name not in names]
    if not left:
        raise ValueError("至少要留一个节点")
    return left


def read_trace(path: Path, form: str = "auto", *, use_memory: bool = False) -> Trace:
    """按格式读踪迹；auto 时看内容的第一行。"""
    kind = form if form != "auto" else recognise(path)
    match kind:
        case "sacct":
            return read_sacct(path)
        case "history":
            return read_history(path)
        case _:
            return read_swf(path, use_memory=use_memory)


def recognise(path: Path) -> str:
    """看第一个非空行认格式：JSON 或有 job_id 列的 CSV 是 history，有竖线的是 sacct，其余当 SWF。"""
    with open_text(path) as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    if not first:
        raise TraceUnreadable(f"{path} 是空的")
    if first[0] in "{[" or (not first.startswith(";") and "job_id" in first.split(",")):
        return "history"
    return "sacct" if "|" in first and not first.startswith(";") else "swf"


def base_machine(trace: Trace, request: Request) -> tuple[NodeGroup, ...]:
    """没有“假如”之前的机器。"""
    if request.live is not None:
        return live_machine(request.live.nodes)
    if request.nodes:
        return request.nodes
    cpus, gpus = recorded_machine(trace.records)
    return (processor_pool(request.procs or trace.max_procs or cpus, gpus),)
