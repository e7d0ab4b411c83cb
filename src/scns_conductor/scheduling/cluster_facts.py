"""集群里的事实：节点、分区、份额、运行中的作业。都是不变的值，与矩阵无关。"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NEVER_ENDS = 1e15


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """一个节点：内存 MiB；gres 如 {'gpu:a100': 4}；schedulable 为假时不接新作业（下线、排空）。

    layout 是（插槽, 每插槽的核, 每核的线程）；None 是一个插槽、CPU 数个核。
    """

    name: str
    cpus: int
    memory: int
    gres: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    weight: int = 1
    switch: str = ""
    temporary_disk: int = 0
    schedulable: bool = True
    layout: tuple[int, int, int] | None = None
    # 还要多久才能用（秒）：关着、在开机的；不是的是 0。
    boot_s: float = 0.0


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
    preempt_exempt_time: int | None = None
    # 一个 CPU 至多分给几个作业，轮流用；1 是不共用。share_asked：只有要了 --oversubscribe 的才与人共用。
    share_most: int = 1
    share_asked: bool = False

    def shares(self, asked: bool) -> bool:
        """这样的作业（asked：要了 --oversubscribe）与别的作业轮流用 CPU。"""
        return self.share_most > 1 and (asked or not self.share_asked)


@dataclass(frozen=True, slots=True)
class NodeShare:
    """在一个节点上的份额；内存 MiB。component 是异构作业的第几个部分，几个部分可以在同一个节点上。

    reserved 是 CPU 从哪个按核留的预留里出；不是的是 None。
    """

    node: int
    cpus: int
    memory: int
    gres: tuple[tuple[str, int], ...] = ()
    tasks: int = 1
    component: int = 0
    reserved: str | None = None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """占着资源的作业；expected_end 是 Unix 秒，不限时的是 NEVER_ENDS；ending 表示已经有人要求它结束。

    lent 是挂起时在各节点（下标）借出的 CPU 数：这时 shares 里的 CPU 是 0；resuming 是借出了、等 CPU 空出来就恢复
    （因抢占而挂起的一直是；人挂起的，要了恢复才是）。
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
    resuming: bool = True
    reservation: str | None = None
    # 要了 --oversubscribe；优先级（只在同一个 QOS 里抢占时看）。
    oversubscribe: bool = False
    priority: float = 0.0
    # 它算谁的（user:名字、mcs:标签）；它的节点只许谁的作业一起用，None 是不管。
    owners: tuple[str, ...] = ()
    exclusive_to: str | None = None
