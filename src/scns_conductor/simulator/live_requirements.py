"""重放线上系统时，一个作业要什么：形状（连同要与谁隔开、要哪些池），启动之后占哪些池。"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.job_requirements import exclusive_to, owners_of, shape_of
from scns_conductor.scheduling.limit_pools import Pools, Runner, started_demand
from scns_conductor.scheduling.preemption import precedence
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.simulator.live import REQUIREMENTS, LiveSystem
from scns_conductor.simulator.live_limits import ReplayedLimits, is_limit
from scns_conductor.simulator.workload import TraceJob


class Requirements:
    """见模块的说明。作业用它在 jobs 里的号称呼。"""

    def __init__(
        self,
        system: LiveSystem,
        jobs: Mapping[int, TraceJob],
        rows: Mapping[int, Mapping[str, Any]],
        cluster: Cluster,
        limits: ReplayedLimits,
    ) -> None:
        self._system, self._jobs, self._rows, self._cluster, self._limits = system, jobs, rows, cluster, limits
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        rules = system.preemption
        self._by_qos = rules is not None and rules.by_qos
        self._precedence = precedence(rules.qos) if rules is not None and rules.by_qos else {}
        # 有人要与别人隔开的主人：没有人要隔开的不写在形状里，不然每个用户各成一组。
        self._scopes = frozenset(owner for row in rows.values() if (owner := owners(row)[1]) is not None)
        # 此刻各有几个这样的作业（排队的与在跑的）。
        self._scoped: Counter[str] = Counter()

    def row(self, number: int) -> Mapping[str, Any]:
        """它的各字段；不是线上来的作业一个也没有。"""
        return self._rows[number]

    def precedence(self, number: int) -> int:
        """它的 QOS 在抢占关系里的高低。"""
        return self._precedence.get(self.row(number).get("qos") or "", 0)

    def shape(self, number: int) -> Shape:
        """要求相同的共用一个。"""
        job, row = self._jobs[number], self.row(number)
        if "tasks" not in row:
            return Shape(cpus_per_task=job.cpus, partition=next(iter(self._cluster.partitions), ""))
        partition = row.get("requested_partitions") or row["partition"]
        # 进哪个预留，到时再看。
        columns = {**row, "partition": partition, "reservation": None}
        throttle = (row.get("array_job_id"), row["array_max_tasks"]) if row.get("array_max_tasks") else None
        pools = self._user_pools(job) + self._limit_pools(job, columns)
        qos = row.get("qos") if self._by_qos else None
        everyone, owner = owners(row)
        own = tuple(name for name in everyone if name in self._scopes)
        key = (
            *(throttle, pools, partition, qos, owner, own),
            *(columns.get(name) for name in REQUIREMENTS if name != "time_limit"),
        )
        found = self._shapes.get(key)
        if found is None:
            found = replace(shape_of(columns, self._system.defaults), qos=qos, exclusive_to=owner, owners=own)
            if throttle is not None:
                pool = f"array:{throttle[0]}"
                self._cluster.set_pool(pool, int(throttle[1]), "JobArrayTaskLimit")
                pools = ((pool, 1), *pools)
            found = self._shapes[key] = replace(found, pools=(*found.pools, *pools))
        return found

    def _user_pools(self, job: TraceJob) -> Pools:
        """假如每个用户有上限：他的一份，与这个作业占多少。"""
        found: list[tuple[str, int]] = []
        for kind, limit, amount, reason in (
            ("jobs", self._system.user_jobs, 1, "QOSMaxJobsPerUserLimit"),
            ("cpus", self._system.user_cpus, job.cpus, "QOSMaxCpuPerUserLimit"),
        ):
            if limit is not None:
                pool = f"user_{kind}:{job.user}"
                self._cluster.set_pool(pool, limit, reason)
                found.append((pool, amount))
        return tuple(found)

    def _limit_pools(self, job: TraceJob, columns: Mapping[str, Any]) -> Pools:
        """它要的 QOS、关联的上限。单个作业的上限不看：真的跑过的，那时没有超。"""
        if not self._limits.enforced:
            return ()
        limit = None if math.isinf(job.within_s) else int(job.within_s)
        return self._limits.judge({**columns, "time_limit": limit}, self._cluster)[1]

    def held(self, number: int, shape: Shape, partition: str, shares: Sequence[NodeShare], now: float) -> Pools:
        """启动之后占的池。"""
        if not self._limits.enforced:
            return shape.pools
        job, row = self._jobs[number], self.row(number)
        own = tuple(pool for pool in shape.pools if not is_limit(pool))
        licenses = tuple(pool for pool in own if pool[0].startswith(LICENSE))
        demand = started_demand(shares, licenses, job.within_s)
        asked = shape.partition.split(",")[0] or partition
        runner = Runner(row.get("account"), job.user, row.get("qos"), asked, demand, now)
        return own + self._limits.charge(number, runner, self._cluster)

    def scope(self, owner: str | None, count: int) -> bool:
        """又有（1）、少了（-1）一个只许 owner 的作业；返回隔开的主人变了没有。"""
        if owner is None:
            return False
        self._scoped[owner] += count
        wanted, known = self._scoped[owner] > 0, owner in self._cluster.scopes
        if wanted != known:
            (self._cluster.scopes.add if wanted else self._cluster.scopes.discard)(owner)
        return wanted != known


def owners(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """（它算谁的，它的节点上只许谁的）；不是线上来的作业没有。"""
    return (owners_of(row), exclusive_to(row)) if row.get("user_name") else ((), None)
