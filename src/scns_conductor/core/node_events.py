"""触发（strigger）看的事：哪些是作业的、节点的、集群的；节点此刻符不符合一件事。"""

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
# 集群的：cluster_events 里叫什么，webhook 送的也是它。候选者不分主备，所以几个名字是同一件事。
CLUSTER_EVENTS: Mapping[str, str] = {
    "primary_slurmctld_failure": "scheduler.failed",
    "backup_slurmctld_failure": "scheduler.failed",
    "primary_slurmctld_resumed_operation": "scheduler.elected",
    "primary_slurmctld_resumed_control": "scheduler.elected",
    "backup_slurmctld_resumed_operation": "scheduler.elected",
    "backup_slurmctld_assumed_control": "scheduler.elected",
    "reconfig": "setting.updated",
}
EVENTS = (*JOB_EVENTS, *NODE_EVENTS, *CLUSTER_EVENTS)
