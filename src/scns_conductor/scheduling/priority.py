"""多因子优先级，与 Slurm 的 priority/multifactor 同一公式：

priority = site + Σ 权重 × 因子（age、fairshare、job_size、partition、qos、assoc）+ Σ tres 权重 × 份额 - nice
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_MAX_AGE_S = 7 * 86400
# nice 与管理员的偏移可以把结果压到 0 以下；Slurm 的优先级最小是 1（0 表示被保留）。
LEAST_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class Weights:
    """各因子的权重，即 Slurm 的 PriorityWeight*；tres 如 {'cpu': 1000, 'gres/gpu': 5000}。"""

    age: float = 0.0
    fairshare: float = 0.0
    job_size: float = 0.0
    partition: float = 0.0
    qos: float = 0.0
    assoc: float = 0.0
    tres: Mapping[str, float] = field(default_factory=dict)
    max_age_s: float = DEFAULT_MAX_AGE_S
    favor_small: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """一个作业的处境。eligible_time 为 None（还不具备条件）时 age 为 0；各 *_factor 已归一化到 0–1。"""

    eligible_time: float | None
    cpus: int
    nodes: int = 1
    fairshare: float = 0.0
    partition_factor: float = 0.0
    qos_factor: float = 0.0
    assoc_factor: float = 0.0
    # 要求占分区总量的比例，如 {'cpu': 0.25}。
    tres_shares: Mapping[str, float] = field(default_factory=dict)
    nice: int = 0
    site: float = 0.0


def age_factor(standing: Standing, now: float, max_age_s: float) -> float:
    """等了多久，到 max_age_s 封顶。"""
    if standing.eligible_time is None or max_age_s <= 0:
        return 0.0
    return min(1.0, max(0.0, now - standing.eligible_time) / max_age_s)


def size_factor(standing: Standing, cluster_cpus: int, cluster_nodes: int, favor_small: bool) -> float:
    """占集群的比例：节点比例与 CPU 比例的平均；favor_small 反过来。"""
    if cluster_cpus <= 0 or cluster_nodes <= 0:
        return 0.0
    share = min(1.0, (standing.nodes / cluster_nodes + standing.cpus / cluster_cpus) / 2)
    return 1.0 - share if favor_small else share


def factors(
    standing: Standing, weights: Weights, now: float, cluster_cpus: int, cluster_nodes: int
) -> dict[str, float]:
    """各因子乘以权重之后的值（sprio(1) 的各列）；总和就是优先级。"""
    return {
        "site": standing.site,
        "age": weights.age * age_factor(standing, now, weights.max_age_s),
        "fairshare": weights.fairshare * standing.fairshare,
        "job_size": weights.job_size * size_factor(standing, cluster_cpus, cluster_nodes, weights.favor_small),
        "partition": weights.partition * standing.partition_factor,
        "qos": weights.qos * standing.qos_factor,
        "assoc": weights.assoc * standing.assoc_factor,
        **{f"tres/{name}": weight * standing.tres_shares.get(name, 0.0) for name, weight in weights.tres.items()},
        "nice": -float(standing.nice),
    }


def priority(standing: Standing, weights: Weights, now: float, cluster_cpus: int, cluster_nodes: int) -> float:
    """优先级，不小于 1。"""
    total = sum(factors(standing, weights, now, cluster_cpus, cluster_nodes).values())
    return max(float(LEAST_PRIORITY), total)


def normalised(values: Mapping[str, float]) -> dict[str, float]:
    """除以最大的（分区、QOS、关联的因子这样归一化）；都不大于 0 则全是 0。"""
    most = max(values.values(), default=0.0)
    return {name: value / most if most > 0 else 0.0 for name, value in values.items()}
