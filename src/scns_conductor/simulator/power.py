"""节能的「假如」：空闲够久的节点关掉，分配到关着的节点的作业先等开机。省的是关着的节点·秒，费的是等待。

放置就是线上的：开着的节点排在关着的前面。关机的那一会儿（SuspendTimeout）不算。
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare


@dataclass(frozen=True, slots=True)
class PowerSaving:
    """空闲多久关机、开机要多久（秒）。"""

    suspend_s: float
    boot_s: float


@dataclass(slots=True)
class PowerUse:
    """off_s 是关着的节点·秒，total_s 是全部节点·秒；boots 开了几次机；delayed 个作业等了开机，一共 delay_s 秒。"""

    off_s: float = 0.0
    total_s: float = 0.0
    boots: int = 0
    delayed: int = 0
    delay_s: float = 0.0


@dataclass(slots=True)
class NodePower:
    """一遍重放里各节点的电源；时刻是踪迹的秒。"""

    saving: PowerSaving
    cluster: Cluster
    facts: Sequence[NodeFacts]
    began: float
    use: PowerUse = field(default_factory=PowerUse)
    # 关着的 -> 何时关的；在开机的 -> 何时开好；空闲的 -> 第几次空闲（又忙过就不是它了）。
    off: dict[int, float] = field(default_factory=dict)
    booting: dict[int, float] = field(default_factory=dict)
    idle: dict[int, int] = field(default_factory=dict)
    _idles: int = 0

    def idle_now(self, nodes: Sequence[int]) -> list[tuple[int, int]]:
        """其中此刻空闲的，从此刻算起：（节点，第几次空闲），suspend_s 之后来问 suspend。停着的（排空、下线）不关。"""
        found = []
        for node in nodes:
            if self.facts[node].schedulable and not self.cluster.node_rows[node] and node not in self.idle:
                self._idles += 1
                self.idle[node] = self._idles
                found.append((node, self._idles))
        return found

    def suspend(self, node: int, idle: int, now: float) -> None:
        """还是那一次空闲：关掉。"""
        if self.idle.get(node) == idle:
            self.off[node] = now
            self._tell(node, self.saving.boot_s)

    def wake(self, shares: Sequence[NodeShare], now: float) -> float:
        """用到这些节点：关着的开机；返回作业要等多久（秒）。"""
        ready = now
        for share in shares:
            self.idle.pop(share.node, None)
            since = self.off.pop(share.node, None)
            if since is not None:
                self.use.off_s += now - since
                self.use.boots += 1
                self.booting[share.node] = now + self.saving.boot_s
                self._tell(share.node, 0.0)
            ready = max(ready, self.booting.get(share.node, now))
        if ready > now:
            self.use.delayed += 1
            self.use.delay_s += ready - now
        return ready - now

    def finish(self, now: float) -> PowerUse:
        """到 now 为止的合计。"""
        self.use.off_s += sum(now - since for since in self.off.values())
        self.use.total_s = (now - self.began) * len(self.facts)
        return self.use

    def _tell(self, node: int, boot_s: float) -> None:
        self.cluster.upsert_node(replace(self.facts[node], boot_s=boot_s))
