"""一个形状在节点上的规矩：能用哪些节点，各放得下几个任务，实际占多少。按结构的版本缓存。"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from scns_conductor.core import features as feature_expressions
from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.scheduling.node_table import NodeTable
from scns_conductor.scheduling.shape import CPU, CPUS_OF, MEMORY, BoolArray, IntArray, Shape


class ShapeRules(NodeTable):
    """节点的矩阵，会回答形状的问题。"""

    def __init__(self) -> None:
        super().__init__()
        # 无论等多久都放不下的形状 -> 说明（None 是放得下）。
        self.verdicts: dict[Shape, tuple[int, str | None]] = {}
        # 形状 -> (版本, 在一个节点上要多少, 怎样放置)，见 attempt.facts_of。
        self.requirements: dict[Shape, tuple[int, IntArray, int]] = {}
        self._by_partition: dict[Shape, tuple[int, list[Shape]]] = {}
        self._eligible: dict[Shape, tuple[int, BoolArray]] = {}
        self._acceptable: dict[Shape, tuple[int, BoolArray]] = {}

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

    def confined(self, shape: Shape) -> bool:
        """在预留的节点里运行：别的作业的保留用不到那些节点。只有许可证的预留不管节点。"""
        if shape.reservation is None or shape.roams:
            return False
        found = self.reservations.get(shape.reservation)
        return found is None or found.nodes is None or bool(found.nodes)

    def secluded(self, shape: Shape) -> bool:
        """confined，而且节点整个是预留的：不必看别人的保留，也不为它保留。"""
        return not shape.by_reserved_cores and self.confined(shape)

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
        if shape.by_reserved_cores and not shape.roams and (self.exclusive(shape) or shape.exclusive_to is not None):
            # 只留了节点的一部分，独占不了。
            mask[:] = False
            return mask
        if shape.components or shape.spreads or "," in shape.partition:
            mask[:] = False
            for option in shape.components or shape.spreads or self.by_partition(shape):
                mask |= self.acceptable(option)
            return mask
        named = self.partitions_of(shape)
        if named and all(partition.nodes is not None for partition in named):
            mask &= self._named(name for partition in named for name in partition.nodes or ())
        if shape.excluded_nodes:
            mask &= ~self._named(shape.excluded_nodes)
        for column, wanted in enumerate((shape.sockets_per_node, shape.cores_per_socket, shape.threads_per_core or 1)):
            if wanted > 1:
                mask &= self.layout[:count, column] >= wanted
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
        if self.exclusive(shape) or self.by_core(shape):
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
        """各节点按 free（行对应节点）此刻能放这个形状的几个任务；放不下是 0。异构的、能摊开的看最放得下的那个。"""
        if shape.components or shape.spreads:
            options = shape.components or shape.spreads
            most: IntArray = np.max([self.capacity(option, free) for option in options], axis=0)
            return most
        rows = free.shape[0]
        total = self.total[:rows]
        if self.exclusive(shape):
            idle = self.idle(free, total)
            return np.where(idle, self._tasks_within(shape, total, slice(rows)), 0)
        return self._tasks_within(shape, free, slice(rows))

    def capacity_at(self, shape: Shape, node: int, free: IntArray) -> int:
        """一个节点的 capacity；free 是这个节点的一行。"""
        if shape.components or shape.spreads:
            return max(self.capacity_at(option, node, free) for option in shape.components or shape.spreads)
        total = self.total[node : node + 1]
        row = free.reshape(1, -1)
        if self.exclusive(shape):
            if not self.idle(row, total)[0]:
                return 0
            row = total
        return int(self._tasks_within(shape, row, slice(node, node + 1))[0])

    def exclusive(self, shape: Shape) -> bool:
        """要独占整个节点：作业要求的，或分区规定的。"""
        partition = self.partitions.get(shape.partition)
        return shape.exclusive or (partition is not None and partition.exclusive)

    def by_core(self, shape: Shape) -> bool:
        """要几个 CPU 看节点的核怎样布局：一个核只用几个线程、一个核（插槽）至多几个任务。"""
        per_core = shape.threads_per_core is not None or shape.tasks_per_core is not None
        return shape.tasks_per_socket is not None or (per_core and bool((self.cpu_threads[: self.count] > 1).any()))

    def _task_cpus(self, shape: Shape, nodes: slice) -> IntArray:
        """一个任务在各节点上占几个 CPU：不用的线程也占着，别的作业用不到。"""
        threads = self.cpu_threads[nodes]
        cpus = np.full(threads.shape, shape.cpus_per_task, dtype=np.int64)
        if shape.threads_per_core is not None:
            used = np.minimum(threads, shape.threads_per_core)
            cpus = -(-cpus // used) * threads
        if shape.tasks_per_core is not None:
            cpus = np.maximum(cpus, -(-threads // shape.tasks_per_core))
        return cpus

    def _spared(self, shape: Shape, nodes: slice) -> IntArray:
        """留给系统、作业用不到的 CPU。"""
        return shape.spared_cores * self.cpu_threads[nodes] + shape.spared_threads

    def _tasks_within(self, shape: Shape, free: IntArray, nodes: slice) -> IntArray:
        """free 的各行是 nodes 这些节点的。"""
        total = self.total[nodes]
        task, node = shape.per_task(self.kinds, self.width), shape.per_node(self.kinds, self.width)
        found = np.full(free.shape[0], shape.tasks_per_node or shape.tasks, dtype=np.int64)
        column = shape.cpu_column(self.kinds)
        if column is None:
            return np.zeros(free.shape[0], dtype=np.int64)
        for dimension in range(self.width):
            rest = free[:, dimension] - node[dimension] if node[dimension] else free[:, dimension]
            if dimension == column:
                spared = rest - self._spared(shape, nodes) if shape.spared_cores or shape.spared_threads else rest
                cpus = self._task_cpus(shape, nodes) if self.by_core(shape) else shape.cpus_per_task
                np.minimum(found, spared // cpus, out=found)
            elif task[dimension]:
                np.minimum(found, rest // task[dimension], out=found)
            elif node[dimension]:
                found[rest < 0] = 0
        if shape.tasks_per_socket is not None:
            np.minimum(found, shape.tasks_per_socket * self.layout[nodes, 0], out=found)
        if shape.memory_per_node == 0:
            found[free[:, MEMORY] < total[:, MEMORY]] = 0
        if shape.minimum_cpus_per_node > shape.cpus_per_task:
            found[free[:, column] < shape.minimum_cpus_per_node] = 0
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
            counts = {
                name: int(total[column])
                for name, column in self.kinds.items()
                if total[column] and not name.startswith(CPUS_OF)
            }
            models = {name.split(":")[0] for name in counts if ":" in name}
            whole = {name: count for name, count in counts.items() if ":" in name or name not in models}
            return NodeShare(node, int(total[CPU]), int(total[MEMORY]), tuple(sorted(whole.items())), tasks)
        column, reserved = shape.cpu_column(self.kinds), shape.reservation if shape.by_reserved_cores else None
        need = shape.per_node(self.kinds, self.width) + tasks * shape.per_task(self.kinds, self.width)
        memory = int(total[MEMORY]) if shape.memory_per_node == 0 else int(need[MEMORY])
        assert column is not None
        cpus = (
            tasks * int(self._task_cpus(shape, slice(node, node + 1))[0]) if self.by_core(shape) else int(need[column])
        )
        cpus = max(cpus, shape.minimum_cpus_per_node)
        return NodeShare(node, cpus, memory, tuple(sorted(gres.items())), tasks, reserved=reserved)

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
