"""重放线上系统时的多因子优先级：用量随重放长、按半衰期衰减，公平份额每个计算周期重算；公式与线上同一个。"""

from collections import defaultdict

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.fair_tree import Account, User, fair_share
from scns_conductor.scheduling.priority import LEAST_PRIORITY, Standing, factors, normalised
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.simulator.live import LiveSystem
from scns_conductor.simulator.workload import TraceJob

Owner = tuple[str, str]


class LivePriority:
    """见模块的说明。时刻是秒。"""

    def __init__(self, system: LiveSystem, cluster: Cluster) -> None:
        self._system = system
        self._partitions = normalised({each.name: float(each.job_factor) for each in system.partitions})
        self._qos = normalised(system.qos_priority)
        total = cluster.total[: cluster.count]
        self._cpus, self._nodes = int(total[:, 0].sum()), cluster.count
        # 结束了的：(时刻, 到那时为止衰减过的 CPU·秒)；在跑的：(开始, CPU)。
        self._used: dict[Owner, tuple[float, float]] = {}
        self._running: dict[Owner, dict[int, tuple[float, int]]] = defaultdict(dict)
        self._owners: set[Owner] = set(system.shares)
        self._factors: dict[Owner, float] = {}
        self.due_s = 0.0
        for owner, parts in system.past_usage.items():
            for moment, amount in sorted(parts):
                self._add(owner, moment, amount)

    def started(self, number: int, owner: Owner, cpus: int, now: float) -> None:
        """开始用了。"""
        self._running[owner][number] = (now, cpus)

    def ended(self, number: int, owner: Owner, now: float) -> None:
        """用完了。"""
        begin, cpus = self._running[owner].pop(number)
        self._add(owner, now, (now - begin) * cpus)

    def _add(self, owner: Owner, moment: float, amount: float) -> None:
        self._owners.add(owner)
        since, used = self._used.get(owner, (moment, 0.0))
        self._used[owner] = (moment, self._decayed(used, moment - since) + amount)

    def _decayed(self, used: float, elapsed_s: float) -> float:
        half_life = self._system.half_life_s
        return used * 0.5 ** (max(0.0, elapsed_s) / half_life) if half_life > 0 else used

    def refresh(self, waiting: set[Owner], now: float) -> None:
        """重算公平份额。"""
        self._owners |= waiting
        usage = {}
        for owner in self._owners:
            since, used = self._used.get(owner, (now, 0.0))
            live = sum((now - begin) * cpus for begin, cpus in self._running[owner].values())
            usage[owner] = self._decayed(used, now - since) + live
        known = {account.name for account in self._system.accounts}
        extra = [Account(name, None, 1) for name in sorted({account for account, _ in usage} - known)]
        users = [User(user, account, self._system.shares.get((account, user), 1), used)
                 for (account, user), used in sorted(usage.items())]  # fmt: skip
        self._factors = fair_share([*self._system.accounts, *extra], users) if users else {}
        self.due_s = now + self._system.calc_period_s

    def of(
        self, job: TraceJob, pending: PendingJob, qos: str | None, nice: int, eligible_s: float, now: float
    ) -> float:
        """一个作业此刻的优先级。"""
        shape = pending.shape
        cpus = shape.tasks * shape.cpus_per_task
        standing = Standing(
            eligible_time=eligible_s,
            cpus=cpus,
            nodes=shape.minimum_nodes,
            fairshare=self._factors.get((job.account, job.user), 1.0),
            partition_factor=max((self._partitions.get(name, 0.0) for name in shape.partition.split(",")), default=0),
            qos_factor=0.0 if qos is None else self._qos.get(qos, 0.0),
            tres_shares={"cpu": min(1.0, cpus / self._cpus) if self._cpus else 0.0},
            nice=nice,
        )
        found = factors(standing, self._system.weights, now, self._cpus, self._nodes)
        return max(float(LEAST_PRIORITY), round(sum(found.values())))
