"""形状：一个作业要求的签名。形状与时限相同的作业一起计划；需要与容量都是对全部节点的向量运算。

资源的维：0 是 CPU，1 是内存（MiB），之后是各种通用资源（名字见 Cluster.kinds）。
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

CPU, MEMORY = 0, 1
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# 许可证的池名的前缀；只有这样的池为受阻的作业保留，别的（上限）不够就只是等。
LICENSE = "license:"
# 按核留的预留里的 CPU 是另一维，名字是它接上预留的名字。
CPUS_OF = "CPU@"
# --gpus 至多摊到这么多个节点上。
MOST_SPREAD = 16


def cpus_of(reservation: str | None) -> str:
    """一个按核留的预留里的 CPU 那一维的名字（Cluster.kinds）。"""
    return f"{CPUS_OF}{reservation}"


@dataclass(frozen=True)
class Shape:
    """要求。内存 MiB；memory_per_node 为 0 是整个节点的内存，三种内存都是 None 则不占内存。

    maximum_nodes 为 None 表示没有上限；exclusive 占整个节点；tasks_per_node 为 None 不限。
    """

    tasks: int = 1
    cpus_per_task: int = 1
    tasks_per_node: int | None = None
    minimum_nodes: int = 1
    maximum_nodes: int | None = None
    minimum_cpus_per_node: int = 0
    memory_per_node: int | None = None
    memory_per_cpu: int | None = None
    memory_per_gpu: int | None = None
    temporary_disk: int = 0
    gres_per_node: tuple[tuple[str, int], ...] = ()
    gres_per_task: tuple[tuple[str, int], ...] = ()
    exclusive: bool = False
    # 它算谁的，只写有人要独占的那些；--exclusive=user、mcs：节点上只许谁的作业（见 Cluster.open_to）。
    owners: tuple[str, ...] = ()
    exclusive_to: str | None = None
    # --oversubscribe：分区许的话，与别的作业轮流用 CPU。
    oversubscribe: bool = False
    constraints: str | None = None
    required_nodes: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()
    partition: str = ""
    reservation: str | None = None
    # 预留里、预留外的节点都行（FLEX，被 MAGNETIC 吸进来的）。
    roams: bool = False
    # 预留是按核留的：CPU 从它那一维出（见 reserved_cores）。
    by_reserved_cores: bool = False
    user: str | None = None
    # 只在按 QOS 抢占时写：QOS 不同的作业不在同一组。
    qos: str | None = None
    account: str | None = None
    # 要哪些池各多少：许可证（LICENSE + 名字）与 QOS、关联的上限。
    pools: tuple[tuple[str, int], ...] = ()
    # 最多跨几个交换机；None 是不限。
    switches: int | None = None
    # --gpus 而没有写节点数：整个作业要的（也已算在 gres_per_node 里），可以摊到几个节点上（见 spreads）。
    gres_per_job: tuple[tuple[str, int], ...] = ()
    # 几个节点要挨着（按名字的次序）。
    contiguous: bool = False
    # 此刻放得下的话用到几个节点（多于放得下的最少的）；0 是最少的。spread：不为凑在一个交换机下而少用。
    widest: int = 0
    spread: bool = False
    # 节点的布局：至少几个插槽、每插槽几个核。
    sockets_per_node: int = 1
    cores_per_socket: int = 1
    # 每核至少几个线程，也只用这么多；一个核、一个插槽至多几个任务。None 不限。
    threads_per_core: int | None = None
    tasks_per_core: int | None = None
    tasks_per_socket: int | None = None
    # --core-spec、--thread-spec：整个节点里留给系统的核、线程。
    spared_cores: int = 0
    spared_threads: int = 0
    # --prefer：先照它当作 constraints 来放。
    prefer: str | None = None
    # --time-min：放不下整个时限时可以短到这么多秒；None 是不可以。
    time_minimum_s: float | None = None
    # 预测的运行时间（秒），取到档（run_times）；只在按它排回填的次序时写。
    predicted_s: float | None = None
    # 异构作业的各个部分：一起放下或都不放，别的字段是合计（见 compound）。
    components: "tuple[Shape, ...]" = ()

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(value for name, value in vars(self).items() if name in self.__dataclass_fields__))

    def __hash__(self) -> int:
        # 形状是许多字典的键，而字段有二十来个：只算一次。
        return self._hash

    @cached_property
    def single_node(self) -> bool:
        """能在一个节点上放下全部任务（大多数作业）。"""
        return (
            self.minimum_nodes == 1
            and self.widest <= 1
            and (self.tasks_per_node is None or self.tasks_per_node >= self.tasks)
        )

    @cached_property
    def spreads(self) -> "tuple[Shape, ...]":
        """依次试的几种放法，没有是空的。

        （按核留的）预留里外都行的先里后外；先照 prefer 再照 constraints；gres_per_job 由一个节点到平分到几个节点上。
        """
        if self.by_reserved_cores and self.roams:
            inside = replace(self, roams=False)
            return inside, replace(self, roams=False, reservation=None, by_reserved_cores=False)
        if self.prefer is not None:
            return replace(self, prefer=None, constraints=self.prefer), replace(self, prefer=None)
        if not self.gres_per_job:
            return ()
        found = [replace(self, gres_per_job=())]
        for nodes in range(2, min(MOST_SPREAD, max(count for _, count in self.gres_per_job)) + 1):
            if any(count % nodes for _, count in self.gres_per_job):
                continue
            each = dict(self.gres_per_node)
            for name, count in self.gres_per_job:
                each[name] += count // nodes - count
            found.append(
                replace(
                    self,
                    gres_per_job=(),
                    gres_per_node=tuple(sorted(each.items())),
                    tasks=max(self.tasks, nodes),
                    minimum_nodes=nodes,
                    maximum_nodes=nodes,
                )
            )
        return tuple(reversed(found) if self.spread else found)

    def cpu_column(self, kinds: Mapping[str, int]) -> int | None:
        """它的 CPU 从哪一维出；预留已经没有了是 None。"""
        return kinds.get(cpus_of(self.reservation)) if self.by_reserved_cores else CPU

    def per_task(self, kinds: Mapping[str, int], width: int) -> IntArray:
        """每个任务的需要，长 width。"""
        need = np.zeros(width, dtype=np.int64)
        column = self.cpu_column(kinds)
        if column is not None:
            need[column] = self.cpus_per_task
        if self.memory_per_cpu:
            need[MEMORY] = self.memory_per_cpu * self.cpus_per_task
        for name, count in self.gres_per_task:
            if name in kinds:
                need[kinds[name]] += count
        if self.memory_per_gpu:
            need[MEMORY] += self.memory_per_gpu * sum(c for n, c in self.gres_per_task if n.split(":")[0] == "gpu")
        return need

    def per_node(self, kinds: Mapping[str, int], width: int) -> IntArray:
        """每个节点与任务数无关的需要，长 width。整节点内存在 Cluster 里另算。"""
        need = np.zeros(width, dtype=np.int64)
        if self.memory_per_node:
            need[MEMORY] = self.memory_per_node
        for name, count in self.gres_per_node:
            if name in kinds:
                need[kinds[name]] += count
        if self.memory_per_gpu:
            need[MEMORY] += self.memory_per_gpu * sum(c for n, c in self.gres_per_node if n.split(":")[0] == "gpu")
        return need

    @property
    def gres_names(self) -> set[str]:
        """用到的通用资源。"""
        return {name for name, _ in (*self.gres_per_node, *self.gres_per_task)}


def compound(parts: Sequence[Shape]) -> Shape:
    """异构作业的各个部分合成的一个形状；预留、用户取第一个部分的。"""
    first, pools = parts[0], Counter[str]()
    for part in parts:
        pools.update(dict(part.pools))
    return Shape(
        tasks=sum(part.tasks * part.cpus_per_task for part in parts),
        minimum_nodes=max(part.minimum_nodes for part in parts),
        partition=first.partition,
        reservation=first.reservation,
        user=first.user,
        qos=first.qos,
        account=first.account,
        owners=first.owners,
        exclusive_to=next((part.exclusive_to for part in parts if part.exclusive_to is not None), None),
        pools=tuple(sorted(pools.items())),
        predicted_s=max((part.predicted_s for part in parts if part.predicted_s is not None), default=None),
        components=tuple(parts),
    )
