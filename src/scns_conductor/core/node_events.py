"""触发（strigger）看的事：哪些是作业的，哪些是节点的；节点此刻符不符合一件事。"""

from collections.abc import Callable, Mapping
from typing import Protocol

from scns_conductor.core.states import NodeAvailability


class NodeNow(Protocol):
    """节点此刻的样子。"""

    @property
    def state(self) -> str:
        """UP、DOWN、UNKNOWN。"""

    @property
    def drain(self) -> bool:
        """不再接新作业。"""

    @property
    def used(self) -> bool:
        """有作业占着。"""


JOB_EVENTS = ("fini", "time")
# 节点从不是这样变成这样，就是出了这件事；idle 还要一直这样。
NODE_EVENTS: Mapping[str, Callable[[NodeNow], bool]] = {
    "down": lambda node: node.state == NodeAvailability.DOWN,
    "up": lambda node: node.state == NodeAvailability.UP,
    "drained": lambda node: node.drain and not node.used,
    "draining": lambda node: node.drain and node.used,
    "resume": lambda node: node.state == NodeAvailability.UP and not node.drain,
    "idle": lambda node: node.state == NodeAvailability.UP and not node.drain and not node.used,
}
EVENTS = (*JOB_EVENTS, *NODE_EVENTS)
