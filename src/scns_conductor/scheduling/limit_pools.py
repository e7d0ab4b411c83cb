"""上限的池：每个成组的上限是一个池，运行的作业占着，排队的作业要得到才能启动（Slurm 的 acct_policy）。

held 的池随作业的启动与结束变；run（剩余的“量 × 秒”）与 used（累计用量）还随时间变，由 tick 重算。
enforced 为假时什么也不做。累计用量从哪里来，由用的人给（线上读数据库，模拟器看历史）。
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.core.accounting import Accounting
from scns_conductor.core.job_limits import (
    NO_DECAY,
    Claim,
    Demand,
    Owner,
    Violation,
    claims,
    demand_of,
    demand_of_row,
    violation,
)
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare
from scns_conductor.scheduling.explain import PoolDate
from scns_conductor.scheduling.shape import CPU, LICENSE, MEMORY

Pools = tuple[tuple[str, int], ...]

# 不是 safe 时 used 的池只是一道门：没有用完就开着。
OPEN = 2**50
# 有作业在等随时间变的池时，隔这么久再计划一次。
TICK_S = 2.0
# 记住这么多种要求的判断。
MOST_JUDGED = 10_000
# 判断只看这些列（与要占整个节点时的大小）。
_JUDGED = (
    "account", "user_name", "partition", "qos", "minimum_nodes", "tasks", "cpus_per_task", "tres_per_node",
    "tres_per_job", "tres_per_task", "memory_per_node", "memory_per_cpu", "memory_per_gpu", "exclusive", "licenses",
    "time_limit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Runner:
    """运行中的作业与上限有关的部分；时刻是 Unix 秒，start_time 已经加上挂起过的秒数。"""

    account: str | None
    user_name: str
    qos: str | None
    partition: str
    demand: Demand
    start_time: float


@dataclass(frozen=True, slots=True)
class _Meter:
    """一个运行中的作业在一个随时间变的池里：每秒 rate，从 start 起，run 的到 limit_s 为止。"""

    pool: str
    kind: str
    rate: float
    start: float
    limit_s: float


@dataclass(slots=True)
class LimitPools:
    """见模块的说明。"""

    enforced: bool
    safe: bool
    associations_required: bool
    default_memory_per_cpu: int
    half_life_s: float
    accounting: Accounting = field(default_factory=Accounting)
    # 随时间变的池：上限与原因；used 的还有已经结束的作业的用量。
    _limits: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _meters: dict[int, list[_Meter]] = field(default_factory=dict)
    _judged: dict[tuple[Any, ...], tuple[Violation | None, Pools]] = field(default_factory=dict)
    _awaited: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """记账的表变了：池从头来，调用者要重装集群与队列。"""
        self._limits.clear()
        self._meters.clear()
        self._awaited.clear()
        self._judged.clear()

    def forget_usage(self) -> None:
        """结束了的作业用掉的都不算了，调用者从头加。"""
        self._ended.clear()

    def counts_usage(self) -> bool:
        """有没有按累计用量计的上限。"""
        everyone = (*self.accounting.associations.values(), *self.accounting.qos.values())
        return any(each.grp_tres_mins or each.grp_wall is not None for each in everyone)

    def add_usage(self, rows: Iterable[Any], *, kept: bool) -> None:
        """结束了的作业用掉的（USAGE_AGAINST_LIMITS 的各行）；kept 的是 NoDecay 的 QOS 自己的池，其余的池看衰减过的。"""
        used: dict[tuple[str, str, str, str], dict[str, float]] = defaultdict(dict)
        for row in rows:
            used[row.account, row.user_name, row.partition, row.qos][row.tres] = row.used
        for (account, user, partition, qos), amounts in used.items():
            owner = self._owner(account or None, user, partition.split(",")[0], qos or None)
            lasting = owner.qos is not None and NO_DECAY in owner.qos.flags
            once = Demand(dict.fromkeys(amounts, 1), {}, 1.0)
            for claim in claims(owner, once, running=True):
                if claim.kind == "used" and kept == (lasting and claim.pool.startswith("qos:")):
                    self._ended[claim.pool] += amounts.get(claim.tres, 0.0) * claim.factor

    # ---- 排队的 ----

    def judge(self, row: Mapping[str, Any], cluster: Cluster) -> tuple[Violation | None, Pools]:
        """jobs 的一行：单个作业的上限不许它运行的原因，与它要的池。要求相同的只算一次。"""
        if not self.enforced and not self.associations_required:
            return None, ()
        if not row["exclusive"] and self._in_exclusive_partition(row, cluster):
            row = {**row, "exclusive": True}
        whole = _whole_node(row, cluster)
        key = (whole, *map(row.__getitem__, _JUDGED))
        known = self._judged.get(key)
        if known is None:
            if len(self._judged) > MOST_JUDGED:
                self._judged.clear()
            known = self._judged[key] = self._judge(row, cluster, whole)
        return known

    def _judge(
        self, row: Mapping[str, Any], cluster: Cluster, whole_node: tuple[int, int] | None
    ) -> tuple[Violation | None, Pools]:
        partition = row["partition"].split(",")[0]
        owner = self._owner(row["account"], row["user_name"], partition, row["qos"])
        if self.associations_required and owner.association is None:
            return Violation("InvalidAccount", f"用户 {row['user_name']} 不在账户 {row['account']} 里了"), ()
        if not self.enforced:
            return None, ()
        if row["qos"] is not None and owner.qos is None:
            return Violation("InvalidQOS", f"QOS {row['qos']} 已经不存在"), ()
        demand = demand_of_row(row, self.default_memory_per_cpu, whole_node)
        return violation(owner, demand), self._register(cluster, claims(owner, demand), waiting=True)

    @staticmethod
    def _in_exclusive_partition(row: Mapping[str, Any], cluster: Cluster) -> bool:
        return any(
            name in cluster.partitions and cluster.partitions[name].exclusive for name in row["partition"].split(",")
        )

    def _owner(self, account: str | None, user: str, partition: str, qos: str | None) -> Owner:
        association = self.accounting.find(account, user, partition)
        return Owner(self.accounting, association, None if qos is None else self.accounting.qos.get(qos), user, account)

    def _register(self, cluster: Cluster, wanted: Iterable[Claim], *, waiting: bool = False) -> Pools:
        found = []
        for claim in wanted:
            gate = claim.kind == "used" and not self.safe
            if claim.kind == "held":
                cluster.set_pool(claim.pool, claim.limit, claim.reason)
            elif claim.pool not in self._limits:
                self._limits[claim.pool] = (claim.limit, claim.reason, claim.kind)
                # 先按没有人在跑开门，下一次 tick 立即改正。
                cluster.set_pool(claim.pool, 0, claim.reason)
            if waiting and claim.kind != "held":
                self._awaited.add(claim.pool)
            if not gate:
                found.append((claim.pool, claim.amount))
            elif waiting:
                found.append((claim.pool, 1))
        return tuple(found)

    # ---- 运行的 ----

    def charge(self, job_id: int, runner: Runner, cluster: Cluster) -> Pools:
        """一个作业开始运行（或重读）：它占的池，并开始计时。"""
        if not self.enforced:
            return ()
        owner = self._owner(runner.account, runner.user_name, runner.partition, runner.qos)
        wanted = claims(owner, runner.demand, running=True)
        limit_s = float("inf") if runner.demand.time_limit_s is None else float(runner.demand.time_limit_s)
        self._meters[job_id] = [
            _Meter(
                claim.pool,
                claim.kind,
                (runner.demand.tres[claim.tres] if claim.tres else 1) * claim.factor,
                runner.start_time,
                limit_s,
            )
            for claim in wanted
            if claim.kind != "held"
        ]
        return self._register(cluster, wanted)

    def ended(self, job_id: int, now: float) -> None:
        """一个作业不再运行：它用掉的先估一个，下一次 refresh_usage 再按记录算准。"""
        for meter in self._meters.pop(job_id, ()):
            if meter.kind == "used":
                self._ended[meter.pool] += meter.rate * max(0.0, now - meter.start)

    def tick(self, cluster: Cluster, now: float) -> None:
        """随时间变的池此刻的大小。"""
        if not self._limits:
            return
        elapsed: dict[str, float] = defaultdict(float)
        for meters in self._meters.values():
            for meter in meters:
                most = meter.limit_s if meter.kind == "run" else float("inf")
                elapsed[meter.pool] += meter.rate * min(max(0.0, now - meter.start), most)
        for pool, (limit, reason, kind) in self._limits.items():
            if kind == "run":
                # 作业在池里占着“量 × 整个时限”，已经跑过的还回来。
                total = limit + int(elapsed[pool])
            elif self.safe:
                total = limit - int(self._ended[pool])
            else:
                total = OPEN if self._ended[pool] + elapsed[pool] < limit else 0
            cluster.set_pool(pool, total, reason)

    def overrun(self, now: float) -> dict[int, str]:
        """用量到顶的池里还在跑的作业 -> 池；safe 时不会有（启动之前就算过）。"""
        if self.safe or not self._limits:
            return {}
        used: dict[str, float] = defaultdict(float, self._ended)
        for meters in self._meters.values():
            for meter in meters:
                if meter.kind == "used":
                    used[meter.pool] += meter.rate * max(0.0, now - meter.start)
        full = {pool for pool, (limit, _, kind) in self._limits.items() if kind == "used" and used[pool] >= limit}
        return {
            job_id: next(meter.pool for meter in meters if meter.pool in full)
            for job_id, meters in self._meters.items()
            if any(meter.pool in full for meter in meters)
        }

    def date_of(
        self, pool: str, need: int, before: Sequence[tuple[int, float]], cluster: Cluster, now: float
    ) -> PoolDate:
        """一个上限的池何时够 need；before 是前面在等它的（要多少，时限），一个一个地先给它们。

        占着的按时限归还是“至迟”；按时间衰减的用量（GrpTRESMins、GrpWall）只是大约。说不准的 moment 是 None。
        """
        kind = self._limits[pool][2] if pool in self._limits else "held"
        if kind == "used":
            return self._decayed(pool, need, cluster, now)
        if kind == "run":
            return PoolDate(self._run_down(pool, need, cluster, now), not before)
        ends = [(end, amount) for end, amount in cluster.pool_holders[pool].values()]
        heapq.heapify(ends)
        left, moment = cluster.pools.get(pool, 0), now
        for wanted, limit_s in (*before, (need, 0.0)):
            while left < wanted:
                if not ends or ends[0][0] >= NEVER_ENDS:
                    return PoolDate(None)
                end, amount = heapq.heappop(ends)
                left, moment = left + amount, max(moment, end)
            left -= wanted
            heapq.heappush(ends, (moment + limit_s if limit_s < NEVER_ENDS else NEVER_ENDS, wanted))
        return PoolDate(moment, not before)

    def _run_down(self, pool: str, need: int, cluster: Cluster, now: float) -> float | None:
        """剩余的“量 × 秒”随运行一秒一秒地少下去：二分出够的那一刻。"""
        limit = self._limits[pool][0]
        meters = [meter for meters in self._meters.values() for meter in meters if meter.pool == pool]
        if need > limit or any(meter.limit_s == float("inf") for meter in meters):
            return None

        def left(moment: float) -> float:
            held = sum(m.rate * max(0.0, m.limit_s - max(0.0, moment - m.start)) for m in meters)
            return limit - held

        low, high = now, max([now, *(meter.start + meter.limit_s for meter in meters)])
        while high - low > 0.5:
            middle = (low + high) / 2
            low, high = (low, middle) if left(middle) >= need else (middle, high)
        # 池隔 TICK_S 才重算。
        return high + TICK_S

    def _decayed(self, pool: str, need: int, cluster: Cluster, now: float) -> PoolDate:
        """累计用量：占着的都跑满、用过的照半衰期衰减，何时又够。NoDecay 的不衰减。"""
        limit = self._limits[pool][0]
        owner = self.accounting.qos.get(pool.split(":")[1]) if pool.startswith("qos:") else None
        used = self._ended[pool] + sum(amount for _, amount in cluster.pool_holders[pool].values())
        room = limit - (need if self.safe else 0)
        if room <= 0 or used <= 0 or self.half_life_s <= 0 or (owner is not None and NO_DECAY in owner.flags):
            return PoolDate(None)
        return PoolDate(now + self.half_life_s * max(0.0, math.log2(used / room)), firm=False)

    def next_tick(self, now: float) -> float | None:
        """有作业在等随时间变的池、或者会用完时，下一次该重算的时刻。"""
        if not self._limits or not self._meters:
            return None
        metered = not self.safe and any(kind == "used" for _, _, kind in self._limits.values())
        return now + TICK_S if self._awaited or metered else None


def _whole_node(row: Mapping[str, Any], cluster: Cluster) -> tuple[int, int] | None:
    """要占整个节点的：最大的节点的 CPU 数与内存（MiB）。"""
    if not cluster.count or not (row["exclusive"] or row["memory_per_node"] == 0):
        return None
    total = cluster.total[: cluster.count]
    return int(total[:, CPU].max()), int(total[:, MEMORY].max())


def started_demand(shares: Sequence[NodeShare], licenses: Pools, limit_s: float) -> Demand:
    """分到这些份额的作业占的；licenses 是它的许可证的池。"""
    gres: dict[str, int] = defaultdict(int)
    for share in shares:
        for name, count in share.gres:
            gres[name] += count
    return demand_of(
        cpus=sum(share.cpus for share in shares),
        nodes=len(shares),
        memory_mb=sum(share.memory for share in shares),
        gres=gres,
        licenses={name.removeprefix(LICENSE): count for name, count in licenses},
        time_limit_s=None if math.isinf(limit_s) else limit_s,
    )
