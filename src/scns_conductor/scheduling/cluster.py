"""集群的现状：节点的资源排成矩阵，一行一个节点，一列一维资源。可变，由调度器随收件箱更新。"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scns_conductor.core import features as feature_expressions
from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.shape import CPU, LICENSE, MEMORY, BoolArray, IntArray, Shape

INITIAL_ROWS = 16
NEVER_ENDS = 1e15
# 数据库的开始时刻与计划时的差这么点，不算改过预计结束。
END_TOLERANCE_S = 1.0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """一个节点：内存 MiB；gres 如 {'gpu:a100': 4}；schedulable 为假时不接新作业（下线、排空）。"""

    name: str
    cpus: int
    memory: int
    gres: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    weight: int = 1
    switch: str = ""
    temporary_disk: int = 0
    schedulable: bool = True


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """一个分区；nodes 为 None 是全部节点；时间单位秒。"""

    name: str
    nodes: frozenset[str] | None = None
    up: bool = True
    max_time: int | None = None
    min_nodes: int = 1
    max_nodes: int | None = None
    tier: int = 1
    exclusive: bool = False
    max_cpus_per_node: int | None = None
    allow_accounts: frozenset[str] | None = None
    deny_accounts: frozenset[str] = frozenset()
    allow_qos: frozenset[str] | None = None
    job_factor: int = 1
    preempt_mode: str | None = None
    grace_time: int = 0


@dataclass(frozen=True, slots=True)
class NodeShare:
    """在一个节点上的份额；内存 MiB。"""

    node: int
    cpus: int
    memory: int
    gres: tuple[tuple[str, int], ...] = ()
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class RunningJob:
    """占着资源的作业；expected_end 是 Unix 秒，不限时的是 NEVER_ENDS；ending 表示已经有人要求它结束。

    lent 是因抢占而挂起时在各节点（下标）借出的 CPU 数：这时 shares 里的 CPU 是 0。
    """

    job_id: int
    expected_end: float
    shares: tuple[NodeShare, ...]
    partition: str = ""
    pools: tuple[tuple[str, int], ...] = ()
    ending: bool = False
    qos: str | None = None
    start_time: float = 0.0
    suspended: bool = False
    lent: tuple[tuple[int, int], ...] = ()
    reservation: str | None = None


class Cluster:
    """节点、分区与运行中的作业。"""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.index: dict[str, int] = {}
        self.kinds: dict[str, int] = {}
        self.partitions: dict[str, PartitionFacts] = {}
        self.running: dict[int, RunningJob] = {}
        # 池（许可证、上限）：此刻还剩多少，可为负；缺它时的原因码。
        self.pools: dict[str, int] = {}
        self.pool_reasons: dict[str, str] = {}
        self._pool_totals: dict[str, int] = {}
        self.reservations: dict[str, AdvanceReservation] = {}
        self.total: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self.free: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self.weight: IntArray = np.ones(INITIAL_ROWS, dtype=np.int64)
        self.disk: IntArray = np.zeros(INITIAL_ROWS, dtype=np.int64)
        self.schedulable: BoolArray = np.zeros(INITIAL_ROWS, dtype=np.bool_)
        # 运行中的份额也排成列：剖面要一次算完，不能逐个作业地走。一行一份；空行的结束时刻是 -1。
        self.run_end = np.full(INITIAL_ROWS, -1.0)
        self.run_node: IntArray = np.zeros(INITIAL_ROWS, dtype=np.int64)
        self.run_need: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self._run_rows: dict[int, list[int]] = {}
        self._run_spare: list[int] = list(range(INITIAL_ROWS))
        # 各节点上的行；占着各个池的作业 -> (预计结束, 数目)。
        self.node_rows: list[set[int]] = []
        self.pool_holders: dict[str, dict[int, tuple[float, int]]] = defaultdict(dict)
        # 计划器上次看过之后动过的节点，它看完就清空；moved_ends：运行中的作业的预计结束改过几次。
        self.touched: set[int] = set()
        # 其中归还过的：归还的作业原定最晚何时结束，此后的空闲没有变。
        self.freed_until: dict[int, float] = {}
        self.moved_ends = 0
        self.features: list[frozenset[str]] = []
        self.switches: list[str] = []
        # 结构（节点、分区、特性）的版本：变了则各形状的可用节点要重算。
        self.version = 0
        # 无论等多久都放不下的形状 -> 说明（None 是放得下）；按版本缓存。
        self.verdicts: dict[Shape, tuple[int, str | None]] = {}
        # 形状 -> (版本, 在一个节点上要多少, 怎样放置)，见 attempt.facts_of。
        self.requirements: dict[Shape, tuple[int, IntArray, int]] = {}
        self._by_partition: dict[Shape, tuple[int, list[Shape]]] = {}
        self._eligible: dict[Shape, tuple[int, BoolArray]] = {}
        self._vectors: dict[tuple[int, int, int, tuple[tuple[str, int], ...]], IntArray] = {}
        self._acceptable: dict[Shape, tuple[int, BoolArray]] = {}
        self._reserved_nodes: dict[str, tuple[int, BoolArray]] = {}
        self._ranks: tuple[int, IntArray] = (-1, np.zeros(0, dtype=np.int64))

    @property
    def count(self) -> int:
        """节点数。"""
        return len(self.names)

    @property
    def width(self) -> int:
        """资源的维数。"""
        return int(self.total.shape[1])

    # ---- 节点与分区 ----

    def upsert_node(self, facts: NodeFacts) -> None:
        """登记或更新一个节点；已分配的不变。"""
        row = self.index.get(facts.name)
        if row is None:
            row = len(self.names)
            self._grow(row + 1)
            self.names.append(facts.name)
            self.index[facts.name] = row
            self.node_rows.append(set())
            self.features.append(facts.features)
            self.switches.append(facts.switch)
        for name in facts.gres:
            self._kind(name)
        capacity = self._vector(facts.cpus, facts.memory, facts.gres)
        if (
            not np.array_equal(self.total[row], capacity)
            or bool(self.schedulable[row]) != facts.schedulable
            or self.features[row] != facts.features
            or self.switches[row] != facts.switch
            or self.weight[row] != facts.weight
            or self.disk[row] != facts.temporary_disk
        ):
            self.version += 1
        self.free[row] += capacity - self.total[row]
        self.total[row] = capacity
        self.features[row], self.switches[row] = facts.features, facts.switch
        self.weight[row], self.disk[row] = facts.weight, facts.temporary_disk
        self.schedulable[row] = facts.schedulable

    def remove_node(self, name: str) -> None:
        """删掉了的节点：什么也放不下，名字不再认得。行留着：别的行的下标不能变。"""
        if name in self.index:
            self.upsert_node(NodeFacts(name, 0, 0, schedulable=False))
            del self.index[name]
            self.version += 1

    def set_partitions(self, partitions: Iterable[PartitionFacts]) -> None:
        """全部分区。"""
        found = {partition.name: partition for partition in partitions}
        if found != self.partitions:
            self.partitions = found
            self.version += 1

    def set_reservations(self, reservations: Iterable[AdvanceReservation]) -> None:
        """全部没有结束的预留。"""
        found = {reservation.name: reservation for reservation in reservations}
        if found != self.reservations:
            self.reservations = found
            self.version += 1

    def set_pool(self, name: str, total: int, reason: str) -> None:
        """登记一个池，或改它的总量；在用的不变，所以改小了剩下的可以是负的。reason 是缺它时的原因码。"""
        if name.startswith(LICENSE) and total != self._pool_totals.get(name, total):
            # 为受阻的作业保留着的许可证要重新算。
            self.version += 1
        self.pools[name] = self.pools.get(name, 0) + total - self._pool_totals.get(name, 0)
        self._pool_totals[name] = total
        self.pool_reasons[name] = reason

    def reservations_turned(self) -> None:
        """到了某个预留的开始或结束：能用的节点变了。"""
        self.version += 1

    def reserved(self, own: str | None, start: float, end: float) -> BoolArray | None:
        """[start, end) 里被 own 之外的预留占着的节点；没有是 None。"""
        found: BoolArray | None = None
        for reservation in self.reservations.values():
            if reservation.name != own and reservation.overlaps(start, end):
                mask = self.reserved_nodes(reservation)
                found = mask if found is None else found | mask
        return found

    def reserved_nodes(self, reservation: AdvanceReservation) -> BoolArray:
        """一个预留的节点。"""
        known = self._reserved_nodes.get(reservation.name)
        if known is None or known[0] != self.version:
            known = self.version, reservation.mask(self.index, self.count)
            self._reserved_nodes[reservation.name] = known
        return known[1]

    def confined(self, shape: Shape) -> bool:
        """在预留的节点里运行：别的作业的保留用不到那些节点。只有许可证的预留不管节点。"""
        if shape.reservation is None:
            return False
        found = self.reservations.get(shape.reservation)
        return found is None or found.nodes is None or bool(found.nodes)

    def reserved_pool(self, name: str, own: str | None, start: float, end: float) -> int:
        """[start, end) 里 own 之外的预留占着一个池的几个；它们里面的作业已经用着的不算。"""
        return sum(
            self.reserved_left(reservation, name)
            for reservation in self.reservations.values()
            if reservation.name != own and reservation.overlaps(start, end)
        )

    def reserved_left(self, reservation: AdvanceReservation, name: str) -> int:
        """一个预留占着一个池的几个，里面的作业用着的不算。"""
        count = dict(reservation.licenses).get(name, 0)
        if count:
            count -= sum(
                amount
                for job_id, (_, amount) in self.pool_holders[name].items()
                if self.running[job_id].reservation == reservation.name
            )
        return max(0, count)

    def usable(self, shape: Shape, now: float, duration_s: float) -> BoolArray:
        """eligible 里从现在起 duration_s 秒没有别人的预留的节点。"""
        taken = self.reserved(shape.reservation, now, now + duration_s)
        return self.eligible(shape) if taken is None else self.eligible(shape) & ~taken

    def _grow(self, rows: int) -> None:
        if rows <= self.total.shape[0]:
            return
        more = max(rows, 2 * self.total.shape[0]) - self.total.shape[0]
        self.total = np.vstack([self.total, np.zeros((more, self.width), dtype=np.int64)])
        self.free = np.vstack([self.free, np.zeros((more, self.width), dtype=np.int64)])
        self.weight = np.concatenate([self.weight, np.ones(more, dtype=np.int64)])
        self.disk = np.concatenate([self.disk, np.zeros(more, dtype=np.int64)])
        self.schedulable = np.concatenate([self.schedulable, np.zeros(more, dtype=np.bool_)])

    def _kind(self, name: str) -> int:
        """通用资源的维；gpu:a100 同时计入 gpu，使 --gres=gpu:1 认得任何型号。"""
        for word in {name, name.split(":")[0]}:
            if word not in self.kinds:
                self.kinds[word] = self.width
                rows = self.total.shape[0]
                self.total = np.hstack([self.total, np.zeros((rows, 1), dtype=np.int64)])
                self.free = np.hstack([self.free, np.zeros((rows, 1), dtype=np.int64)])
                self.run_need = np.hstack([self.run_need, np.zeros((len(self.run_end), 1), dtype=np.int64)])
                self.version += 1
        return self.kinds[name]

    def _vector(self, cpus: int, memory: int, gres: Mapping[str, int]) -> IntArray:
        found = np.zeros(self.width, dtype=np.int64)
        found[CPU], found[MEMORY] = cpus, memory
        for name, amount in gres.items():
            base = name.split(":")[0]
            for word in {name, base}:
                if word in self.kinds:
                    found[self.kinds[word]] += amount
        return found

    # ---- 分配 ----

    def share_vector(self, share: NodeShare) -> IntArray:
        """份额的资源向量，只读。"""
        key = (self.width, share.cpus, share.memory, share.gres)
        found = self._vectors.get(key)
        if found is None:
            if len(self._vectors) > 10_000:
                self._vectors.clear()
            found = self._vectors[key] = self._vector(share.cpus, share.memory, dict(share.gres))
            found.flags.writeable = False
        return found

    def allocate(self, job: RunningJob) -> None:
        """记下一个运行中的作业；同号的先归还。份额没有变的只改别的。"""
        known = self.running.get(job.job_id)
        if known is not None and known.shares == job.shares and known.pools == job.pools:
            if abs(known.expected_end - job.expected_end) > END_TOLERANCE_S:
                self._move_end(job)
            else:
                job = replace(job, expected_end=known.expected_end)
            self.running[job.job_id] = job
            return
        self.release(job.job_id)
        rows = self._run_rows[job.job_id] = []
        for share in job.shares:
            need = self.share_vector(share)
            self.free[share.node] -= need
            row = self._spare_row()
            self.run_end[row], self.run_node[row], self.run_need[row] = job.expected_end, share.node, need
            self.node_rows[share.node].add(row)
            self.touched.add(share.node)
            rows.append(row)
        for name, amount in job.pools:
            self.pools[name] = self.pools.get(name, 0) - amount
            self.pool_holders[name][job.job_id] = (job.expected_end, amount)
        self.running[job.job_id] = job

    def release(self, job_id: int) -> RunningJob | None:
        """归还；不在运行则什么也不做。"""
        job = self.running.pop(job_id, None)
        if job is not None:
            for row in self._run_rows.pop(job_id):
                node = int(self.run_node[row])
                self.free[node] += self.run_need[row]
                self.run_end[row] = -1.0
                self.node_rows[node].discard(row)
                self.touched.add(node)
                self.freed_until[node] = max(self.freed_until.get(node, 0.0), job.expected_end)
                self._run_spare.append(row)
            for name, amount in job.pools:
                self.pools[name] = self.pools.get(name, 0) + amount
                self.pool_holders[name].pop(job_id, None)
        return job

    def _spare_row(self) -> int:
        if not self._run_spare:
            size = len(self.run_end)
            self.run_end = np.concatenate([self.run_end, np.full(size, -1.0)])
            self.run_node = np.concatenate([self.run_node, np.zeros(size, dtype=np.int64)])
            self.run_need = np.vstack([self.run_need, np.zeros((size, self.width), dtype=np.int64)])
            self._run_spare.extend(range(size, 2 * size))
        return self._run_spare.pop()

    def _move_end(self, job: RunningJob) -> None:
        """时限改了，或要提前结束。"""
        self.moved_ends += 1
        for row in self._run_rows[job.job_id]:
            self.run_end[row] = job.expected_end
        for name, amount in job.pools:
            self.pool_holders[name][job.job_id] = (job.expected_end, amount)

    @property
    def ranks(self) -> IntArray:
        """各节点不看空闲时的名次：权重，再登记的先后。"""
        if self._ranks[0] != self.version:
            found = np.empty(self.count, dtype=np.int64)
            found[np.argsort(self.weight[: self.count], kind="stable")] = np.arange(self.count)
            self._ranks = (self.version, found)
        return self._ranks[1]

    # ---- 形状 ----

    def eligible(self, shape: Shape) -> BoolArray:
        """这个形状能用的节点（不看空闲）：分区、特性、指名、排除、最少 CPU、总量够。"""
        known = self._eligible.get(shape)
        if known is not None and known[0] == self.version:
            return known[1]
        if len(self._eligible) > 10_000:
            self._eligible.clear()
        mask = self.schedulable[: self.count] & self.acceptable(shape)
        self._eligible[shape] = (self.version, mask)
        return mask

    def partitions_of(self, shape: Shape) -> list[PartitionFacts]:
        """这个形状列出的、还在的分区。"""
        return [self.partitions[name] for name in shape.partition.split(",") if name in self.partitions]

    def by_partition(self, shape: Shape) -> list[Shape]:
        """列了几个分区的：各个分区里的形状，层级高的在前，同层级按写的次序；只有一个的就是它自己。"""
        if "," not in shape.partition:
            return [shape]
        known = self._by_partition.get(shape)
        if known is not None and known[0] == self.version:
            return known[1]
        if len(self._by_partition) > 10_000:
            self._by_partition.clear()
        named = sorted(self.partitions_of(shape), key=lambda partition: -partition.tier)
        found = [replace(shape, partition=partition.name) for partition in named]
        self._by_partition[shape] = (self.version, found)
        return found

    def chosen_partition(self, shape: Shape, shares: Sequence[NodeShare]) -> str:
        """这些份额是按哪个分区的规则放下的。"""
        options = self.by_partition(shape)
        for option in options:
            limit = self.partitions[option.partition].max_cpus_per_node if option.partition in self.partitions else None
            whole, acceptable = self.exclusive(option), self.acceptable(option)
            if all(
                acceptable[share.node]
                and (not whole or share.cpus == self.total[share.node, CPU])
                and (limit is None or share.cpus <= limit)
                for share in shares
            ):
                return option.partition
        return options[0].partition if options else shape.partition

    def acceptable(self, shape: Shape) -> BoolArray:
        """不看节点此刻是否可用的 eligible。"""
        known = self._acceptable.get(shape)
        if known is not None and known[0] == self.version:
            return known[1]
        if len(self._acceptable) > 10_000:
            self._acceptable.clear()
        mask = self._accepted(shape)
        self._acceptable[shape] = (self.version, mask)
        return mask

    def _accepted(self, shape: Shape) -> BoolArray:
        count = self.count
        mask = np.ones(count, dtype=np.bool_)
        if "," in shape.partition:
            mask[:] = False
            for option in self.by_partition(shape):
                mask |= self.acceptable(option)
            return mask
        named = self.partitions_of(shape)
        if named and all(partition.nodes is not None for partition in named):
            mask &= self._named(name for partition in named for name in partition.nodes or ())
        if shape.excluded_nodes:
            mask &= ~self._named(shape.excluded_nodes)
        if shape.minimum_cpus_per_node:
            mask &= self.total[:count, CPU] >= shape.minimum_cpus_per_node
        if shape.temporary_disk:
            mask &= self.disk[:count] >= shape.temporary_disk
        if shape.constraints:
            expression = feature_expressions.parse_features(shape.constraints)
            mask &= np.fromiter(
                (feature_expressions.satisfied(expression, found) for found in self.features), np.bool_, count
            )
        if shape.required_nodes and shape.maximum_nodes == len(shape.required_nodes):
            mask &= self._named(shape.required_nodes)
        if any(name not in self.kinds for name in shape.gres_names):
            mask[:] = False
        if shape.reservation in self.reservations and self.confined(shape):
            mask &= self.reserved_nodes(self.reservations[shape.reservation])
        if self.exclusive(shape):
            return mask & (self.capacity(shape, self.total[:count]) >= 1)
        # 空着时至少放得下一个任务；比 capacity 省。
        least = shape.per_node(self.kinds, self.width) + shape.per_task(self.kinds, self.width)
        for dimension, amount in enumerate(least.tolist()):
            if amount:
                mask &= self.total[:count, dimension] >= amount
        partition = self.partitions.get(shape.partition)
        if partition is not None and partition.max_cpus_per_node is not None:
            mask &= partition.max_cpus_per_node >= shape.cpus_per_task
        return mask

    def _named(self, names: Iterable[str]) -> BoolArray:
        mask = np.zeros(self.count, dtype=np.bool_)
        for name in names:
            if name in self.index:
                mask[self.index[name]] = True
        return mask

    def capacity(self, shape: Shape, free: IntArray) -> IntArray:
        """各节点按 free（行对应节点）此刻能放这个形状的几个任务；放不下是 0。"""
        rows = free.shape[0]
        total = self.total[:rows]
        if self.exclusive(shape):
            idle = (free >= total).all(axis=1)
            return np.where(idle, self._tasks_within(shape, total), 0)
        return self._tasks_within(shape, free)

    def capacity_at(self, shape: Shape, node: int, free: IntArray) -> int:
        """一个节点的 capacity；free 是这个节点的一行。"""
        total = self.total[node : node + 1]
        row = free.reshape(1, -1)
        if self.exclusive(shape):
            if not bool((row >= total).all()):
                return 0
            row = total
        return int(self._tasks_within(shape, row, total)[0])

    def exclusive(self, shape: Shape) -> bool:
        """要独占整个节点：作业要求的，或分区规定的。"""
        partition = self.partitions.get(shape.partition)
        return shape.exclusive or (partition is not None and partition.exclusive)

    def _tasks_within(self, shape: Shape, free: IntArray, total: IntArray | None = None) -> IntArray:
        total = self.total[: free.shape[0]] if total is None else total
        task, node = shape.per_task(self.kinds, self.width), shape.per_node(self.kinds, self.width)
        found = np.full(free.shape[0], shape.tasks_per_node or shape.tasks, dtype=np.int64)
        for dimension in range(self.width):
            rest = free[:, dimension] - node[dimension] if node[dimension] else free[:, dimension]
            if task[dimension]:
                np.minimum(found, rest // task[dimension], out=found)
            elif node[dimension]:
                found[rest < 0] = 0
        if shape.memory_per_node == 0:
            found[free[:, MEMORY] < total[:, MEMORY]] = 0
        if shape.minimum_cpus_per_node > shape.cpus_per_task:
            found[free[:, CPU] < shape.minimum_cpus_per_node] = 0
        partition = self.partitions.get(shape.partition)
        if partition is not None and partition.max_cpus_per_node is not None:
            np.minimum(found, partition.max_cpus_per_node // shape.cpus_per_task, out=found)
        return np.maximum(found, 0)

    def share(self, shape: Shape, node: int, tasks: int, free: IntArray) -> NodeShare:
        """在一个节点上放 tasks 个任务实际占用多少；free 是这个节点的空闲（计划中的，不是现状）。"""
        total = self.total[node]
        gres: dict[str, int] = {}
        for name, amount in (*shape.gres_per_node, *((name, each * tasks) for name, each in shape.gres_per_task)):
            for typed, count in self._concrete(node, name, amount, free).items():
                gres[typed] = gres.get(typed, 0) + count
        if self.exclusive(shape):
            # 独占：整个节点都算它的，通用资源也是。
            whole = {name: int(total[column]) for name, column in self.kinds.items() if total[column] and ":" in name}
            models = {name.split(":")[0] for name in whole}
            whole |= {
                name: int(total[column])
                for name, column in self.kinds.items()
                if total[column] and ":" not in name and name not in models
            }
            return NodeShare(node, int(total[CPU]), int(total[MEMORY]), tuple(sorted(whole.items())), tasks)
        need = shape.per_node(self.kinds, self.width) + tasks * shape.per_task(self.kinds, self.width)
        memory = int(total[MEMORY]) if shape.memory_per_node == 0 else int(need[MEMORY])
        cpus = max(int(need[CPU]), shape.minimum_cpus_per_node)
        return NodeShare(node, cpus, memory, tuple(sorted(gres.items())), tasks)

    def _concrete(self, node: int, name: str, amount: int, free: IntArray) -> dict[str, int]:
        """不带型号的要求落到这个节点的具体型号上：节点行与分配行记的都是型号。"""
        typed = [word for word in self.kinds if word.startswith(f"{name}:") and self.total[node, self.kinds[word]]]
        if ":" in name or not typed:
            return {name: amount}
        found: dict[str, int] = {}
        for word in typed:
            count = min(amount, int(free[self.kinds[word]]))
            if count > 0:
                found[word] = count
                amount -= count
        if amount:
            found[typed[0]] = found.get(typed[0], 0) + amount
        return found

    def node_names(self, shares: Sequence[NodeShare]) -> list[str]:
        """份额所在的节点名。"""
        return [self.names[share.node] for share in shares]
