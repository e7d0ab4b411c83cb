"""重放线上系统时的上限：池与线上同一套（scheduling.limit_pools），累计用量从历史来，随虚拟时钟衰减。"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.gres import parse_gres
from scns_conductor.core.job_limits import NO_DECAY, demand_of
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.limit_pools import TICK_S, LimitPools, Runner
from scns_conductor.scheduling.queue import Queue
from scns_conductor.simulator.history import instant
from scns_conductor.simulator.live import LiveSystem


@dataclass(slots=True)
class ReplayedLimits(LimitPools):
    """见模块的说明。时刻是 Unix 秒。"""

    # 结束了的用量衰减到了这个时刻。
    settled_s: float = 0.0

    @classmethod
    def of(cls, system: LiveSystem, cluster: Cluster, begin_s: float) -> "ReplayedLimits":
        """线上的上限，连同 begin_s 之前跑完的用掉的。"""
        words = system.enforced
        found = cls(
            "limits" in words,
            "safe" in words,
            # 真的跑过的，那时在账户里。
            associations_required=False,
            default_memory_per_cpu=system.defaults.memory_per_cpu,
            half_life_s=system.half_life_s,
            accounting=system.accounting,
            settled_s=begin_s,
        )
        if found.enforced and found.counts_usage():
            for row in system.earlier:
                found._owe(row, cluster, begin_s)
        return found

    def _owe(self, row: Mapping[str, Any], cluster: Cluster, begin_s: float) -> None:
        start, end = instant(row["start_time"]), instant(row["end_time"])
        if start is None or end is None or end > begin_s:
            return
        self.charge(-1, runner_of(row, float(start)), cluster)
        for meter in self._meters.pop(-1):
            if meter.kind == "used":
                self._ended[meter.pool] += meter.rate * (end - start) * self._left(meter.pool, begin_s - end)

    def _left(self, pool: str, elapsed_s: float) -> float:
        """过了 elapsed_s 秒，用量还剩几成。"""
        qos = self.accounting.qos.get(pool.split(":")[1]) if pool.startswith("qos:") else None
        if self.half_life_s <= 0 or (qos is not None and NO_DECAY in qos.flags):
            return 1.0
        return float(0.5 ** (elapsed_s / self.half_life_s))

    def ended(self, job_id: int, now: float) -> None:
        """一个作业不再运行：它用掉的从此刻起衰减。"""
        self._decay(now)
        LimitPools.ended(self, job_id, now)

    def settle(self, cluster: Cluster, now: float) -> None:
        """随时间变的池，照 now 算。"""
        self._decay(now)
        self.tick(cluster, now)

    def _decay(self, now: float) -> None:
        for pool in self._ended:
            self._ended[pool] *= self._left(pool, now - self.settled_s)
        self.settled_s = now

    def next_look(self, cluster: Cluster, queue: Queue, now: float) -> float | None:
        """排队的作业等着的随时间变的池，最早何时够；没有这样等着的、说不准的是 None。"""
        if not self._limits:
            return None
        lacking = {
            (pool, need)
            for group in queue.groups.values()
            for pool, need in group.shape.pools
            if pool in self._limits and cluster.pools.get(pool, 0) < need
        }
        moments = [self.date_of(pool, need, (), cluster, now).moment for pool, need in lacking]
        return min((max(moment, now + TICK_S) for moment in moments if moment is not None), default=None)


def runner_of(row: Mapping[str, Any], start_s: float) -> Runner:
    """跑过的作业（GET /jobs 的一行）占过的。"""
    demand = demand_of(
        cpus=int(row["allocated_cpus"] or 0),
        nodes=int(row["allocated_nodes"] or 1),
        memory_mb=int(row["allocated_memory"] or 0),
        gres=parse_gres(row["allocated_gres"] or ""),
        licenses=dict(parse_licenses(row["licenses"])),
        time_limit_s=row["time_limit"],
    )
    partition = row["requested_partitions"] or row["partition"]
    return Runner(row["account"], row["user_name"], row["qos"], partition.split(",")[0], demand, start_s)


def is_limit(pool: tuple[str, int]) -> bool:
    """这个池是 QOS、关联的上限，不是许可证一类的。"""
    return pool[0].startswith(("qos:", "assoc:"))
