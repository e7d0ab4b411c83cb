"""一个作业受哪些上限管：单个作业的（超了就等着或拒绝）、成组的（占一份，用完了等）、提交数的。纯函数。

次序照 Slurm：QOS 写了的盖过关联的同一种；Grp… 逐级看关联和它的各级账户。原因码是 squeue(1) 的。
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scns_conductor.core.accounting import Accounting, AssociationFacts, QosFacts, Tres
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.tres import format_tres
from scns_conductor.core.units import format_duration

# 没有时限的作业在按“量 × 时间”计的上限里算这么多秒：永远放不下。
ENDLESS_S = 2**40

DENY_ON_LIMIT = "DenyOnLimit"
NO_DECAY = "NoDecay"
REQUIRES_RESERVATION = "RequiresReservation"

_REASONS = {
    "assoc": {
        "grp_tres": "AssocGrpCpuLimit AssocGrpMemLimit AssocGrpNodeLimit AssocGrpGRES AssocGrpLicense",
        "grp_tres_mins": "AssocGrpCPUMinutesLimit AssocGrpMemMinutes AssocGrpNodeMinutes AssocGrpGRESMinutes "
        "AssocGrpLicenseMinutes",
        "grp_tres_run_mins": "AssocGrpCPURunMinutesLimit AssocGrpMemRunMinutes AssocGrpNodeRunMinutes "
        "AssocGrpGRESRunMinutes AssocGrpLicenseRunMinutes",
        "max_tres_per_job": "AssocMaxCpuPerJobLimit AssocMaxMemPerJob AssocMaxNodePerJobLimit AssocMaxGRESPerJob "
        "AssocMaxLicensePerJob",
        "max_tres_per_node": "AssocMaxCpuPerNode AssocMaxMemPerNode AssocMaxUnknownPerNode AssocMaxGRESPerNode "
        "AssocMaxUnknownPerNode",
        "max_tres_mins_per_job": "AssocMaxCpuMinutesPerJobLimit AssocMaxMemMinutesPerJob AssocMaxNodeMinutesPerJob "
        "AssocMaxGRESMinutesPerJob AssocMaxLicenseMinutesPerJob",
    },
    "qos": {
        "grp_tres": "QOSGrpCpuLimit QOSGrpMemLimit QOSGrpNodeLimit QOSGrpGRES QOSGrpLicense",
        "grp_tres_mins": "QOSGrpCPUMinutesLimit QOSGrpMemoryMinutes QOSGrpNodeMinutes QOSGrpGRESMinutes "
        "QOSGrpLicenseMinutes",
        "grp_tres_run_mins": "QOSGrpCPURunMinutesLimit QOSGrpMemoryRunMinutes QOSGrpNodeRunMinutes "
        "QOSGrpGRESRunMinutes QOSGrpLicenseRunMinutes",
        "max_tres_per_job": "QOSMaxCpuPerJobLimit QOSMaxMemoryPerJob QOSMaxNodePerJobLimit QOSMaxGRESPerJob "
        "QOSMaxLicensePerJob",
        "max_tres_per_node": "QOSMaxCpuPerNode QOSMaxMemoryPerNode QOSMaxUnknownPerNode QOSMaxGRESPerNode "
        "QOSMaxUnknownPerNode",
        "max_tres_mins_per_job": "QOSMaxCpuMinutesPerJobLimit QOSMaxMemoryMinutesPerJob QOSMaxNodeMinutesPerJob "
        "QOSMaxGRESMinutesPerJob QOSMaxLicenseMinutesPerJob",
        "max_tres_per_user": "QOSMaxCpuPerUserLimit QOSMaxMemoryPerUser QOSMaxNodePerUserLimit QOSMaxGRESPerUser "
        "QOSMaxLicensePerUser",
        "max_tres_per_account": "MaxCpuPerAccount MaxMemoryPerAccount MaxNodePerAccount MaxGRESPerAccount "
        "MaxLicensePerAccount",
        "min_tres_per_job": "QOSMinCpuNotSatisfied QOSMinMemory QOSMinNode QOSMinGRES QOSMinLicense",
    },
}
_KINDS = ("cpu", "mem", "node", "gres", "license")

PoolKind = Literal["held", "run", "used"]


def reason_of(owner: str, limit: str, tres: str) -> str:
    """原因码；owner 是 assoc 或 qos。"""
    return _REASONS[owner][limit].split()[_KINDS.index(tres.partition("/")[0])]


@dataclass(frozen=True, slots=True)
class Demand:
    """一个作业要的：tres 是总量，tres_per_node 是一个节点上的；时限是秒，None 是不限。"""

    tres: Tres
    tres_per_node: Tres
    time_limit_s: float | None


@dataclass(frozen=True, slots=True)
class Owner:
    """作业归谁管：关联（没有记账的是 None）与 QOS（没有写的是 None）。"""

    accounting: Accounting
    association: AssociationFacts | None
    qos: QosFacts | None
    user: str
    account: str | None


@dataclass(frozen=True, slots=True)
class Violation:
    """单个作业的上限不许它运行。"""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """在一个池里占 amount。

    kind：held 是运行时占着；run 是剩余的“量 × 秒”；used 是累计用掉的“量 × 秒”（factor 是 QOS 的 UsageFactor，
    tres 为空是时长本身）。
    """

    pool: str
    limit: int
    reason: str
    amount: int
    kind: PoolKind = "held"
    tres: str = ""
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class SubmitLimit:
    """排队与运行的作业数；accounts、user、qos、partition 为 None 的不限定。"""

    name: str
    most: int
    accounts: tuple[str, ...] | None = None
    user: str | None = None
    qos: str | None = None


# ---- 单个作业的 ----


def violation(owner: Owner, demand: Demand) -> Violation | None:
    """第一个违反的；没有违反是 None。"""
    return next(_violations(owner, demand), None)


def _violations(owner: Owner, demand: Demand) -> Iterator[Violation]:
    own = None if owner.association is None else owner.accounting.effective(owner.association)
    sides: list[tuple[str, str, QosFacts | AssociationFacts]] = []
    if owner.qos is not None:
        sides.append(("qos", f"QOS {owner.qos.name}", owner.qos))
    if own is not None:
        sides.append(("assoc", f"关联 {own.key}", own))
    limit_s = math.inf if demand.time_limit_s is None else demand.time_limit_s
    for index, (side, label, limits) in enumerate(sides):
        above = sides[0][2] if index else None
        for name, used, word in (
            ("max_tres_per_job", demand.tres, "每个作业至多"),
            ("max_tres_per_node", demand.tres_per_node, "每个作业在一个节点上至多"),
        ):
            most: Tres = getattr(limits, name)
            for tres, value in most.items():
                covered = above is not None and tres in getattr(above, name)
                if not covered and used.get(tres, 0) > value:
                    yield Violation(reason_of(side, name, tres), f"{label} {word} {format_tres({tres: value})}")
        for tres, value in limits.max_tres_mins_per_job.items():
            covered = above is not None and tres in above.max_tres_mins_per_job
            if not covered and demand.tres.get(tres, 0) and demand.tres[tres] * limit_s > value * 60:
                yield Violation(
                    reason_of(side, "max_tres_mins_per_job", tres), f"{label} 每个作业至多 {tres} {value} 分钟"
                )
        covered = above is not None and above.max_wall is not None
        if limits.max_wall is not None and not covered and limit_s > limits.max_wall:
            reason = "QOSMaxWallDurationPerJobLimit" if side == "qos" else "AssocMaxWallDurationPerJobLimit"
            yield Violation(reason, f"{label} 的时限最多 {format_duration(limits.max_wall)}")
    if owner.qos is not None:
        for tres, value in owner.qos.min_tres_per_job.items():
            if demand.tres.get(tres, 0) < value:
                reason = reason_of("qos", "min_tres_per_job", tres)
                yield Violation(reason, f"QOS {owner.qos.name} 每个作业至少要 {format_tres({tres: value})}")


def never_fits(owner: Owner, demand: Demand) -> Violation | None:
    """成组的上限比这个作业要的还小：等多久也轮不到它。"""
    for claim in claims(owner, demand):
        if claim.kind == "held" and claim.amount > claim.limit:
            return Violation(claim.reason, f"作业要 {claim.amount}，上限 {claim.pool} 是 {claim.limit}")
    return None


# ---- 成组的 ----


def claims(owner: Owner, demand: Demand, *, running: bool = False) -> list[Claim]:
    """要在哪些池里占多少。running 为真时连被 QOS 盖过的也占：别的 QOS 的作业要看到它。"""
    found: list[Claim] = []
    qos = owner.qos
    if qos is not None:
        found += _group_claims("qos", f"qos:{qos.name}", qos, demand, None, qos)
        user, account = owner.user, owner.account or ""
        for limit, name, who, most in (
            ("MaxTRESPerUser", "max_tres_per_user", user, qos.max_tres_per_user),
            ("MaxTRESPerAccount", "max_tres_per_account", account, qos.max_tres_per_account),
        ):
            for tres, value in most.items():
                if demand.tres.get(tres):
                    reason = reason_of("qos", name, tres)
                    found.append(Claim(f"qos:{qos.name}:{limit}:{tres}:{who}", value, reason, demand.tres[tres]))
        for limit, who, number, reason in (
            ("MaxJobsPerUser", user, qos.max_jobs_per_user, "QOSMaxJobsPerUserLimit"),
            ("MaxJobsPerAccount", account, qos.max_jobs_per_account, "MaxJobsPerAccount"),
        ):
            if number is not None:
                found.append(Claim(f"qos:{qos.name}:{limit}:{who}", number, reason, 1))
    if owner.association is not None:
        above = None if running else qos
        for each in owner.accounting.ancestors(owner.association):
            found += _group_claims("assoc", f"assoc:{each.key}", each, demand, above, qos)
        own = owner.accounting.effective(owner.association)
        covered = above is not None and (above.max_jobs_per_user, above.max_jobs_per_account) != (None, None)
        if own.max_jobs is not None and not covered:
            found.append(Claim(f"assoc:{own.key}:MaxJobs", own.max_jobs, "AssocMaxJobsLimit", 1))
    return found


def _group_claims(
    side: str,
    prefix: str,
    limits: QosFacts | AssociationFacts,
    demand: Demand,
    above: QosFacts | None,
    qos: QosFacts | None,
) -> Iterator[Claim]:
    limit_s = ENDLESS_S if demand.time_limit_s is None else int(demand.time_limit_s)
    factor = 1.0 if qos is None else qos.usage_factor
    for tres, value in limits.grp_tres.items():
        amount = demand.tres.get(tres, 0)
        if amount and (above is None or tres not in above.grp_tres):
            yield Claim(f"{prefix}:GrpTRES:{tres}", value, reason_of(side, "grp_tres", tres), amount)
    for tres, value in limits.grp_tres_run_mins.items():
        amount = demand.tres.get(tres, 0)
        if amount and (above is None or tres not in above.grp_tres_run_mins):
            reason = reason_of(side, "grp_tres_run_mins", tres)
            yield Claim(f"{prefix}:GrpTRESRunMins:{tres}", value * 60, reason, amount * limit_s, "run", tres)
    for tres, value in limits.grp_tres_mins.items():
        amount = demand.tres.get(tres, 0)
        if amount and (above is None or tres not in above.grp_tres_mins):
            reason = reason_of(side, "grp_tres_mins", tres)
            used = round(amount * limit_s * factor)
            yield Claim(f"{prefix}:GrpTRESMins:{tres}", value * 60, reason, used, "used", tres, factor)
    if limits.grp_wall is not None and (above is None or above.grp_wall is None):
        reason = "QOSGrpWallLimit" if side == "qos" else "AssocGrpWallLimit"
        yield Claim(f"{prefix}:GrpWall", limits.grp_wall, reason, round(limit_s * factor), "used", "", factor)
    if limits.grp_jobs is not None and (above is None or above.grp_jobs is None):
        reason = "QOSGrpJobsLimit" if side == "qos" else "AssocGrpJobsLimit"
        yield Claim(f"{prefix}:GrpJobs", limits.grp_jobs, reason, 1)


# ---- 提交数的 ----


def submit_limits(owner: Owner) -> list[SubmitLimit]:
    """提交时要数的：排队与运行的作业不得超过。"""
    found: list[SubmitLimit] = []
    qos = owner.qos
    covered = False
    if qos is not None:
        name = qos.name
        if qos.grp_submit_jobs is not None:
            found.append(SubmitLimit(f"qos:{name}:GrpSubmit", qos.grp_submit_jobs, qos=name))
        if qos.max_submit_jobs_per_user is not None:
            found.append(
                SubmitLimit(
                    f"qos:{name}:MaxSubmitPerUser:{owner.user}", qos.max_submit_jobs_per_user, user=owner.user, qos=name
                )
            )
        if qos.max_submit_jobs_per_account is not None and owner.account is not None:
            found.append(
                SubmitLimit(
                    f"qos:{name}:MaxSubmitPerAccount:{owner.account}",
                    qos.max_submit_jobs_per_account,
                    (owner.account,),
                    qos=name,
                )
            )
        covered = (qos.max_submit_jobs_per_user, qos.max_submit_jobs_per_account) != (None, None)
    if owner.association is not None:
        accounting = owner.accounting
        for each in accounting.ancestors(owner.association):
            if each.grp_submit_jobs is not None and (qos is None or qos.grp_submit_jobs is None):
                below = tuple(name for name in accounting.parents if each.account in accounting.chain(name))
                accounts = (each.account,) if each.user_name else below
                user = each.user_name or None
                found.append(SubmitLimit(f"assoc:{each.key}:GrpSubmit", each.grp_submit_jobs, accounts, user))
        own = accounting.effective(owner.association)
        if own.max_submit_jobs is not None and not covered:
            found.append(SubmitLimit(f"assoc:{own.key}:MaxSubmit", own.max_submit_jobs, (own.account,), own.user_name))
    return found


def demand_of(
    *,
    cpus: int,
    nodes: int,
    memory_mb: int,
    gres: Mapping[str, int],
    licenses: Mapping[str, int],
    time_limit_s: float | None,
) -> Demand:
    """总量 -> Demand；gres 如 {'gpu:a100': 2}，同时计入 gres/gpu。一个节点上的按平均向上取整。"""
    tres: dict[str, int] = {"cpu": cpus, "mem": memory_mb, "node": nodes}
    for name, count in gres.items():
        for word in {name, name.split(":")[0]}:
            tres[f"gres/{word}"] = tres.get(f"gres/{word}", 0) + count
    for name, count in licenses.items():
        tres[f"license/{name}"] = count
    per_node = {name: -(-count // max(1, nodes)) for name, count in tres.items() if not name.startswith("license/")}
    return Demand(tres, per_node, time_limit_s)


def demand_of_row(
    row: Mapping[str, Any], default_memory_per_cpu: int = 0, whole_node: tuple[int, int] | None = None
) -> Demand:
    """jobs 的一行要的。whole_node 是（最大的节点的 CPU 数，内存 MiB）：独占、要整个节点的内存时按它算，宁多勿少。"""
    nodes = max(1, row["minimum_nodes"])
    tasks = max(row["tasks"], nodes)
    cpus = tasks * row["cpus_per_task"]
    gres = {name: count * nodes for name, count in parse_gres(row["tres_per_node"] or "").items()}
    for name, count in parse_gres(row["tres_per_job"] or "").items():
        gres[name] = gres.get(name, 0) + -(-count // nodes) * nodes
    for name, count in parse_gres(row["tres_per_task"] or "").items():
        gres[name] = gres.get(name, 0) + count * tasks
    per_cpu = row["memory_per_cpu"]
    if row["memory_per_node"] is None and per_cpu is None and row["memory_per_gpu"] is None:
        per_cpu = default_memory_per_cpu
    gpus = sum(count for name, count in gres.items() if name.split(":")[0] == "gpu")
    memory = (row["memory_per_node"] or 0) * nodes + (per_cpu or 0) * cpus + (row["memory_per_gpu"] or 0) * gpus
    if whole_node is not None:
        if row["exclusive"]:
            cpus = max(cpus, whole_node[0] * nodes)
        if row["memory_per_node"] == 0:
            memory = max(memory, whole_node[1] * nodes)
    return demand_of(
        cpus=cpus,
        nodes=nodes,
        memory_mb=memory,
        gres=gres,
        licenses=dict(parse_licenses(row["licenses"])),
        time_limit_s=row["time_limit"],
    )
