"""线上系统自己：作业的历史、节点、分区、许可证、公平份额与设置（API 的 JSON）。怎样取来是调用者的事。

一切照线上的：没有一样要用户另写，所以重放没有改动的系统，应与实际相差不多（见 docs/simulator.md）。
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from scns_conductor.core.accounting import Accounting, AssociationFacts, accounting_of
from scns_conductor.core.hostlist import expand
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.replay_words import UNCOUNTED_MEMORY_MB, NodeGroup
from scns_conductor.core.sharing import shared_by
from scns_conductor.scheduling.cluster_facts import NodeFacts, PartitionFacts
from scns_conductor.scheduling.fair_tree import Account
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.scheduling.policy import Policy, policy_named
from scns_conductor.scheduling.preemption import Rules
from scns_conductor.scheduling.priority import Weights
from scns_conductor.simulator.history import history_trace, instant
from scns_conductor.simulator.live_others import Other, others, running_at
from scns_conductor.simulator.trace import Trace
from scns_conductor.simulator.workload import UNLIMITED_S

# 形状要的列。
REQUIREMENTS = (
    "tasks", "tasks_per_node", "cpus_per_task", "minimum_nodes", "maximum_nodes", "minimum_cpus_per_node",
    "memory_per_node", "memory_per_cpu", "memory_per_gpu", "temporary_disk_per_node", "tres_per_job", "tres_per_node",
    "tres_per_task", "constraints", "required_nodes", "excluded_nodes", "exclusive", "licenses", "required_switches",
    "oversubscribe", "time_minimum", "contiguous", "spread_job", "use_min_nodes",
    "sockets_per_node", "cores_per_socket", "threads_per_core",
    "tasks_per_core", "tasks_per_socket", "core_specification", "thread_specification", "prefer", "partition",
    "reservation", "time_limit", "nice", "priority", "exclusive_to", "mcs_label",
)  # fmt: skip
# 重放用得到的作业字段（GET /jobs 的 fields）。
JOB_FIELDS = (
    *("job_id", "state", "user_name", "account", "qos", "submit_time", "start_time", "end_time", "suspended_s"),
    *("name", "begin_time", "dependency", "array_job_id", "array_max_tasks"),
    *("requested_partitions", "requested_reservation"),
    *("allocated_cpus", "allocated_nodes", "allocated_memory", "allocated_gres", "node_list"),
    *("requeue", "interactive", "wait_breakdown", "reason", "array_remaining"),
    *REQUIREMENTS,
)
# 作业号 -> （GET /jobs/{job_id} 的 allocations，它的历史）。
Details = Mapping[str, tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]]
_FACTORS = frozenset({"age", "fairshare", "job_size", "partition", "qos", "assoc"})


@dataclass(slots=True)
class LiveSystem:
    """重放要的一切；rows 是作业号 -> 作业的各字段。"""

    nodes: list[NodeFacts]
    partitions: list[PartitionFacts]
    licenses: dict[str, int]
    policy: Policy
    defaults: Defaults
    multifactor: bool
    weights: Weights
    half_life_s: float
    calc_period_s: float
    accounts: list[Account]
    shares: dict[tuple[str, str], int]
    # QOS -> 归一化之前的优先级因子。
    qos_priority: dict[str, float]
    rows: dict[str, Mapping[str, Any]]
    # 不算进结果、与它们争节点的。
    others: list[Other] = field(default_factory=list)
    # 假如每个用户同时至多运行这么多个作业、占这么多 CPU；None 不限。
    user_jobs: int | None = None
    user_cpus: int | None = None
    # (账户, 用户) -> [(结束的时刻, CPU·秒)]：重放之前的用量。
    past_usage: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    # 核对什么（Slurm 的 AccountingStorageEnforce）；上限在 accounting 里，重放之前跑过的 earlier 也算用量。
    enforced: frozenset[str] = frozenset()
    accounting: Accounting = field(default_factory=Accounting)
    earlier: Sequence[Mapping[str, Any]] = ()
    # 抢占的规则；不抢占是 None。
    preemption: Rules | None = None
    # 预留的各行，时刻带时区，重复的是第一次的。
    reservations: list[Mapping[str, Any]] = field(default_factory=list)
    # 时间片（秒）：许轮流的分区里，作业轮流用 CPU；不轮流是 None。
    slice_s: float | None = None


def live_system(
    *,
    config: Mapping[str, Any],
    nodes: Iterable[Mapping[str, Any]],
    partitions: Iterable[Mapping[str, Any]],
    share_tree: Mapping[str, Any],
    qos: Iterable[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]] = (),
    accounts: Iterable[Mapping[str, Any]] = (),
    associations: Iterable[Mapping[str, Any]] = (),
    reservations: Iterable[Mapping[str, Any]] = (),
    first_times: Iterable[Mapping[str, Any]] = (),
    details: Details = MappingProxyType({}),
    now_s: float = 0.0,
) -> LiveSystem:
    """GET /config、/nodes、/partitions、/shares、/qos、/accounts、/associations、/reservations、/jobs -> 线上系统。

    earlier 是更早提交的作业；first_times 是重复的预留，写着第一次的时刻（GET /cluster/export）；
    details 是开始时在跑的里要细看的（closely），now_s 是取来的时刻（Unix 秒）。
    """
    weights, qos = config["priority_weights"], list(qos)
    accounting = accounting_of(list(accounts), [_limits(each) for each in associations], qos, ())
    found = LiveSystem(
        nodes=[_node(node) for node in nodes],
        partitions=[_partition(each) for each in partitions],
        licenses=dict(parse_licenses(config["licenses"])),
        policy=policy_named(config["scheduler_policy"], int(config["backfill_depth"]), config["placement"]),
        defaults=Defaults(int(config["default_memory_mb_per_cpu"])),
        multifactor=config["priority_type"] == "multifactor",
        weights=Weights(
            **{name: float(weights[name]) for name in _FACTORS if name in weights},
            tres={name.removeprefix("tres/"): float(v) for name, v in weights.items() if name.startswith("tres/")},
            max_age_s=float(config["priority_max_age_s"]),
            favor_small=bool(config["priority_favor_small"]),
        ),
        half_life_s=float(config["priority_decay_half_life_s"]),
        calc_period_s=float(config["priority_calc_period_s"]),
        accounts=[Account(each["name"], each["parent"], int(each["shares"])) for each in share_tree["accounts"]],
        shares={(each["account"], each["user_name"]): int(each["shares"]) for each in share_tree["shares"]},
        qos_priority={each["name"]: float(each.get("priority") or 0) for each in qos},
        rows={str(row["job_id"]): row for row in rows},
        enforced=frozenset(config["accounting_storage_enforce"]),
        accounting=accounting,
        earlier=earlier,
        preemption=_preemption(config, accounting),
        reservations=_reservations(reservations, first_times),
        slice_s=float(config["scheduler_time_slice_s"]) if config["preempt_gang"] else None,
    )
    begin = began(rows)
    for row in earlier:
        _past(found, row, begin)
    unfinished = [row for row in rows if instant(row["end_time"]) is None]
    found.others = others([*earlier, *unfinished], begin, now_s, details)
    return found


def began(rows: Iterable[Mapping[str, Any]]) -> float:
    """重放从何时开始（Unix 秒）：最早的提交。"""
    return float(min((moment for row in rows if (moment := instant(row["submit_time"])) is not None), default=0))


def closely(rows: Iterable[Mapping[str, Any]], moment: float) -> list[str]:
    """moment 时在跑的里，GET /jobs 的一行说不清的：几个节点怎样分的，停过的何时停的。"""
    return [
        str(row["job_id"])
        for row in running_at(rows, moment)
        if int(row["allocated_nodes"] or 1) > 1 or float(row["suspended_s"] or 0) > 0 or row["state"] == "SUSPENDED"
    ]


def _limits(association: Mapping[str, Any]) -> dict[str, Any]:
    """一个关联自己的份额与上限，别的字段不要。"""
    return {name: association[name] for name in AssociationFacts.__dataclass_fields__}


def _preemption(config: Mapping[str, Any], accounting: Accounting) -> Rules | None:
    if config["preempt_type"] == "none":
        return None
    return Rules(
        config["preempt_type"] == "qos",
        config["preempt_mode"],
        float(config["preempt_exempt_time_s"]),
        within=bool(config["preempt_within"]),
        qos=accounting.qos,
    )


def _reservations(
    rows: Iterable[Mapping[str, Any]], first_times: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """重复的预留，回答里是这一次的时刻：换成第一次的，从前的各次也在其中。"""
    first = {each["name"]: each for each in first_times}
    return [
        {**row, **{key: datetime.fromisoformat(first.get(row["name"], row)[key]) for key in ("start_time", "end_time")}}
        for row in rows
    ]


def _past(system: LiveSystem, row: Mapping[str, Any], begin: float) -> None:
    """更早提交的：begin 之前的用量算进公平份额。"""
    start, end = instant(row["start_time"]), instant(row["end_time"])
    if start is None or start >= begin:
        return
    until = begin if end is None else min(float(end), begin)
    key = (str(row["account"] or "(none)"), str(row["user_name"]))
    used = float(int(row["allocated_cpus"] or 0) * (until - start))
    system.past_usage.setdefault(key, []).append((until, used))


def _node(node: Mapping[str, Any]) -> NodeFacts:
    """停着的也算：机器本来有多大。"""
    return NodeFacts(
        node["name"],
        int(node["cpus"]),
        int(node.get("memory") or 0) or UNCOUNTED_MEMORY_MB,
        {name: int(count) for name, count in (node.get("gres") or {}).items()},
        frozenset(node.get("features") or ()),
        int(node.get("weight") or 1),
        node.get("topology") or "",
        int(node.get("temporary_disk") or 0),
        layout=(int(node["sockets"]), int(node["cores_per_socket"]), int(node["threads_per_core"])),
    )


def _partition(row: Mapping[str, Any]) -> PartitionFacts:
    most, asked = shared_by(row["oversubscribe"])
    return PartitionFacts(
        name=row["name"],
        nodes=None if row["nodes"] == "ALL" else frozenset(expand(row["nodes"])),
        max_time=row["max_time"],
        min_nodes=row["min_nodes"],
        max_nodes=row["max_nodes"],
        tier=row["priority_tier"],
        exclusive=row["exclusive"],
        max_cpus_per_node=row["max_cpus_per_node"],
        job_factor=row["priority_job_factor"],
        preempt_mode=row["preempt_mode"],
        grace_time=row["grace_time"],
        preempt_exempt_time=row["preempt_exempt_time"],
        share_most=most,
        share_asked=asked,
    )


def live_trace(rows: Iterable[Mapping[str, Any]], source: str) -> Trace:
    """GET /jobs 的作业 -> 踪迹；没有结束、从未运行的跳过并计数，不限时的就是不限时。"""
    trace = history_trace(rows, source)
    trace.records = [each._replace(requested_s=UNLIMITED_S) if each.requested_s < 0 else each for each in trace.records]
    return trace


def live_machine(nodes: Iterable[NodeFacts]) -> tuple[NodeGroup, ...]:
    """线上的节点 -> 机器；同样的节点合成一组，停着的也算（机器本来有多大）。"""
    groups: Counter[tuple[int, int, int]] = Counter()
    for node in nodes:
        gpus = sum(count for name, count in node.gres.items() if name.split(":")[0] == "gpu")
        groups[node.cpus, node.memory, gpus] += 1
    return tuple(NodeGroup(count, cpus, memory, gpus) for (cpus, memory, gpus), count in groups.items())
