"""节点的矩阵：一行一个节点，一列一维资源；分区与预留说的也是节点。"""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts
from scns_conductor.scheduling.shape import CPU, CPUS_OF, MEMORY, BoolArray, IntArray, Shape, cpus_of

INITIAL_ROWS = 16
# 比任何权重都大。
AWAY_WEIGHT = 2**40
_PARTS = re.compile(r"(\d+)")


class NodeTable:
    """节点、分区、预留，与各节点此刻的空闲。"""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.index: dict[str, int] = {}
        self.kinds: dict[str, int] = {}
        self.partitions: dict[str, PartitionFacts] = {}
        self.reservations: dict[str, AdvanceReservation] = {}
        self.total: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self.free: IntArray = np.zeros((INITIAL_ROWS, 2), dtype=np.int64)
        self.weight: IntArray = np.ones(INITIAL_ROWS, dtype=np.int64)
        self.disk: IntArray = np.zeros(INITIAL_ROWS, dtype=np.int64)
        # 插槽、每插槽的核、每核的线程；cpu_threads 是一个核占几个 CPU（CPU 按核算的节点是 1）。
        self.layout: IntArray = np.ones((INITIAL_ROWS, 3), dtype=np.int64)
        self.cpu_threads: IntArray = np.ones(INITIAL_ROWS, dtype=np.int64)
        self.schedulable: BoolArray = np.zeros(INITIAL_ROWS, dtype=np.bool_)
        # 要先开机的节点 -> 多久（秒）。
        self.booting: dict[int, float] = {}
        self.features: list[frozenset[str]] = []
        self.switches: list[str] = []
        # 各节点上运行中的份额的行（见 Cluster）。
        self.node_rows: list[set[int]] = []
        # 结构（节点、分区、特性）的版本：变了则各形状的可用节点要重算。
        self.version = 0
        self._vectors: dict[tuple[int, int, int, tuple[tuple[str, int], ...], str | None], IntArray] = {}
        self._reserved_nodes: dict[str, tuple[int, BoolArray]] = {}
        self._ranks: tuple[int, IntArray] = (-1, np.zeros(0, dtype=np.int64))
        self._in_name_order: tuple[int, IntArray] = (-1, np.zeros(0, dtype=np.int64))

    @property
    def count(self) -> int:
        """节点数。"""
        return len(self.names)

    @property
    def width(self) -> int:
        """资源的维数。"""
        return int(self.total.shape[1])

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
        # 预留里的 CPU 不是节点自己的（见 reserved_cores）。
        for name, column in self.kinds.items():
            if name.startswith(CPUS_OF):
                capacity[column] = self.total[row, column]
        layout = facts.layout or (1, facts.cpus, 1)
        # 开着的总在要开机的前面。
        weight = facts.weight + (AWAY_WEIGHT if facts.boot_s else 0)
        if (
            not np.array_equal(self.total[row], capacity)
            or bool(self.schedulable[row]) != facts.schedulable
            or self.features[row] != facts.features
            or self.switches[row] != facts.switch
            or self.weight[row] != weight
            or self.disk[row] != facts.temporary_disk
            or not np.array_equal(self.layout[row], layout)
        ):
            self.version += 1
        self.free[row] += capacity - self.total[row]
        self.total[row] = capacity
        self.features[row], self.switches[row] = facts.features, facts.switch
        self.weight[row], self.disk[row] = weight, facts.temporary_disk
        self.booting.pop(row, None)
        if facts.boot_s:
            self.booting[row] = facts.boot_s
        self.schedulable[row] = facts.schedulable
        self.layout[row] = layout
        self.cpu_threads[row] = layout[2] if layout[0] * layout[1] * layout[2] == facts.cpus else 1

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

    def reservations_turned(self) -> None:
        """到了某个预留的开始或结束：能用的节点变了。"""
        self.version += 1

    def reserved(self, own: str | None, start: float, end: float) -> BoolArray | None:
        """[start, end) 里被 own 之外的预留整个占着的节点；没有是 None。"""
        found: BoolArray | None = None
        for reservation in self.reserving(own, start, end):
            mask = self.reserved_nodes(reservation)
            found = mask if found is None else found | mask
        return found

    def reserving(self, own: str | None, start: float, end: float) -> list[AdvanceReservation]:
        """own 之外的，[start, end) 里整个占着节点的预留。"""
        return [
            each
            for each in self.reservations.values()
            if each.name != own and not each.cores and each.overlaps(start, end)
        ]

    def reserved_nodes(self, reservation: AdvanceReservation) -> BoolArray:
        """一个预留的节点。"""
        known = self._reserved_nodes.get(reservation.name)
        if known is None or known[0] != self.version:
            known = self.version, reservation.mask(self.index, self.count)
            self._reserved_nodes[reservation.name] = known
        return known[1]

    def idle(self, free: IntArray, total: IntArray) -> BoolArray:
        """free 的各行是不是整个空着；total 是它们的总量。预留里的 CPU 不是节点自己的，不看。"""
        whole = free >= total
        for name, column in self.kinds.items():
            if name.startswith(CPUS_OF):
                whole[:, column] = True
        found: BoolArray = np.all(whole, axis=1)
        return found

    @property
    def ranks(self) -> IntArray:
        """各节点不看空闲时的名次：权重，再登记的先后。"""
        if self._ranks[0] != self.version:
            found = np.empty(self.count, dtype=np.int64)
            found[np.argsort(self.weight[: self.count], kind="stable")] = np.arange(self.count)
            self._ranks = (self.version, found)
        return self._ranks[1]

    @property
    def in_name_order(self) -> IntArray:
        """还在的节点，按名字的次序（数按大小比）：挨着的节点看它。"""
        if self._in_name_order[0] != self.version:
            order = sorted(self.index, key=_in_name_order)
            self._in_name_order = (self.version, np.array([self.index[name] for name in order], dtype=np.int64))
        return self._in_name_order[1]

    def boot_s(self, shares: Iterable[NodeShare]) -> float:
        """这些份额要先等多久开机（秒）。"""
        return max((self.booting.get(share.node, 0.0) for share in shares), default=0.0) if self.booting else 0.0

    def partitions_of(self, shape: Shape) -> list[PartitionFacts]:
        """这个形状列出的、还在的分区。"""
        return [self.partitions[name] for name in shape.partition.split(",") if name in self.partitions]

    def node_names(self, shares: Sequence[NodeShare]) -> list[str]:
        """份额所在的节点名，按名字的次序。"""
        return sorted((self.names[share.node] for share in shares), key=_in_name_order)

    def _grow(self, rows: int) -> None:
        if rows <= self.total.shape[0]:
            return
        more = max(rows, 2 * self.total.shape[0]) - self.total.shape[0]
        self.total = np.vstack([self.total, np.zeros((more, self.width), dtype=np.int64)])
        self.free = np.vstack([self.free, np.zeros((more, self.width), dtype=np.int64)])
        self.weight = np.concatenate([self.weight, np.ones(more, dtype=np.int64)])
        self.disk = np.concatenate([self.disk, np.zeros(more, dtype=np.int64)])
        self.layout = np.vstack([self.layout, np.ones((more, 3), dtype=np.int64)])
        self.cpu_threads = np.concatenate([self.cpu_threads, np.ones(more, dtype=np.int64)])
        self.schedulable = np.concatenate([self.schedulable, np.zeros(more, dtype=np.bool_)])

    def _kind(self, name: str) -> int:
        """通用资源的维；gpu:a100 同时计入 gpu，使 --gres=gpu:1 认得任何型号。"""
        for word in {name, name.split(":")[0]}:
            if word not in self.kinds:
                self.kinds[word] = self.width
                self._widen()
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

    def share_vector(self, share: NodeShare) -> IntArray:
        """份额的资源向量，只读。"""
        key = (self.width, share.cpus, share.memory, share.gres, share.reserved)
        found = self._vectors.get(key)
        if found is None:
            if len(self._vectors) > 10_000:
                self._vectors.clear()
            found = self._vectors[key] = self._vector(share.cpus, share.memory, dict(share.gres))
            column = self.kinds.get(cpus_of(share.reserved)) if share.reserved is not None else None
            if column is not None:
                found[CPU], found[column] = 0, share.cpus
            found.flags.writeable = False
        return found

    def _widen(self) -> None:
        """多一维资源。"""
        rows = self.total.shape[0]
        self.total = np.hstack([self.total, np.zeros((rows, 1), dtype=np.int64)])
        self.free = np.hstack([self.free, np.zeros((rows, 1), dtype=np.int64)])


def _in_name_order(name: str) -> list[tuple[bool, str]]:
    """n2 在 n10 前面。"""
    return [(part.isdigit(), part.zfill(20)) for part in _PARTS.split(name)]
