"""运行中的作业怎样变成核心里占着资源的一份：从数据库读到的，与刚刚启动的；各数组有几个任务在跑。"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare, RunningJob
from scns_conductor.scheduling.eligibility import Request
from scns_conductor.scheduling.job_requirements import exclusive_to, owners_of
from scns_conductor.scheduling.limit_pools import Pools, Runner, started_demand
from scns_conductor.scheduling.plan import PlannedStart


@dataclass(slots=True)
class ArrayRows:
    """数组 -> 它的一些行（作业号）：正在跑的任务，或有上限的数组排队的各行；空了的不留。"""

    _of_array: dict[int, set[int]] = field(default_factory=dict)
    _array_of: dict[int, int] = field(default_factory=dict)

    def clear(self) -> None:
        """全忘掉。"""
        self._of_array.clear()
        self._array_of.clear()

    def __len__(self) -> int:
        return len(self._of_array) + len(self._array_of)

    def add(self, job_id: int, array_job_id: int) -> None:
        """一个任务在跑。"""
        self._of_array.setdefault(array_job_id, set()).add(job_id)
        self._array_of[job_id] = array_job_id

    def remove(self, job_id: int) -> int | None:
        """不跑了；返回它的数组，不是任务的是 None。"""
        array = self._array_of.pop(job_id, None)
        if array is not None:
            self._of_array[array].discard(job_id)
            if not self._of_array[array]:
                del self._of_array[array]
        return array

    def array_of(self, job_id: int) -> int | None:
        """它的数组。"""
        return self._array_of.get(job_id)

    def of(self, array_job_id: int) -> frozenset[int]:
        """数组的这些任务。"""
        return frozenset(self._of_array.get(array_job_id, ()))

    def count(self, array_job_id: int) -> int:
        """数组有几个任务在跑。"""
        return len(self._of_array.get(array_job_id, ()))


def running_job(job_id: int, parts: Sequence[Any], cluster: Cluster, pools: Pools, ends_within: float) -> RunningJob:
    """parts 是它在各节点的行（RUNNING_SHARES）。已经要求结束的，至多到 ends_within（Unix 秒）结束。"""
    first = parts[0]
    known = [part for part in parts if part.node_name in cluster.index]
    shares = tuple(
        NodeShare(cluster.index[part.node_name], part.cpus, part.memory, tuple(part.gres.items()), part.tasks)
        for part in known
    )
    end = NEVER_ENDS
    if first.time_limit is not None and first.start_time is not None:
        # 节点还没有开起来的，到时从登记的那一刻起算。
        end = first.start_time + cluster.boot_s(shares) + first.time_limit + first.suspended_s
    lent = tuple((cluster.index[part.node_name], part.lent_cpus) for part in parts if _lends(part, cluster))
    resuming = bool(lent) and first.resuming is not False
    if first.suspended and not resuming:
        # 何时恢复、还要占多久都不知道；因抢占而挂起的，抢占者结束就恢复。
        end = NEVER_ENDS
    if first.ending:
        # 资源快要空出来：为抢占者留着，换了领导者也一样。
        end = min(end, ends_within)
    return RunningJob(
        job_id,
        end,
        shares,
        first.partition,
        pools,
        first.ending,
        first.qos,
        first.start_time or 0.0,
        first.suspended,
        lent,
        resuming,
        _reservation_of(first.reservation, cluster),
        first.oversubscribe,
        float(first.priority),
        owners_of(first._mapping),
        exclusive_to(first._mapping),
    )


def _reservation_of(text: str | None, cluster: Cluster) -> str | None:
    """列了几个预留的，在的里面第一个。"""
    names = (text or "").split(",")
    return next((name for name in names if name in cluster.reservations), text)


def _lends(part: Any, cluster: Cluster) -> bool:
    return bool(part.lent_cpus) and part.node_name in cluster.index


def started_runner(request: Request, start: PlannedStart, licenses: Pools, now: float) -> Runner:
    """刚刚启动的作业，在上限的账里。"""
    demand = started_demand(start.shares, licenses, start.limit_s)
    return Runner(request.account, request.user, request.qos, request.partitions[0], demand, now)
