"""节点、分区、预留、许可证、总览。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, described, field, page_of, row_of
from scns_conductor.core.answers.cluster import (
    Capacity,
    Cause,
    ClusterApplied,
    ClusterChange,
    ClusterField,
    ClusterWhy,
    Dashboard,
    License,
    Licenses,
    NodeEvent,
    NodeEvents,
    Usage,
    UsageRow,
    UsageSeries,
    UsageSlot,
)
from scns_conductor.core.models import Node, Partition, Reservation

NODE = row_of(
    Node,
    "Node",
    changed={"state": (str, "scontrol 的状态，如 IDLE、MIXED、ALLOCATED+DRAIN、DOWN")},
    added={
        "availability": field(str, "UP、DOWN、UNKNOWN"),
        "jobs": field(list[str], "其上的作业号"),
    },
)
NODES = page_of("Nodes", "nodes", NODE, "全部节点")
NODE_EVENT = described(NodeEvent)
NODE_EVENTS = described(NodeEvents)
PARTITION = row_of(Partition, "Partition")
PARTITIONS = page_of("Partitions", "partitions", PARTITION, "全部分区")
RESERVATION = row_of(
    Reservation,
    "Reservation",
    added={
        "state": field(str, "INACTIVE（还没有开始）、ACTIVE 或 ENDED"),
        "node_list": field(str, "此刻的节点，压缩写法"),
    },
)
RESERVATIONS = page_of("Reservations", "reservations", RESERVATION, "全部预留")
LICENSE = described(License)
LICENSES = described(Licenses)
DASHBOARD = described(Dashboard)
CLUSTER_FIELD = described(ClusterField)
CLUSTER_CHANGE = described(ClusterChange)
CLUSTER_APPLIED = described(ClusterApplied)
USAGE_ROW = described(UsageRow)
CAPACITY = described(Capacity)
USAGE = described(Usage)
USAGE_SLOT = described(UsageSlot)
USAGE_SERIES = described(UsageSeries)
NodeAnswer = Annotated[dict[str, Any], Shown(NODE)]
ClusterAppliedAnswer = Annotated[ClusterApplied, Shown(CLUSTER_APPLIED)]
NodesAnswer = Annotated[dict[str, Any], Shown(NODES)]
NodeEventsAnswer = Annotated[NodeEvents, Shown(NODE_EVENTS)]
PartitionAnswer = Annotated[dict[str, Any], Shown(PARTITION)]
PartitionsAnswer = Annotated[dict[str, Any], Shown(PARTITIONS)]
ReservationAnswer = Annotated[dict[str, Any], Shown(RESERVATION)]
ReservationsAnswer = Annotated[dict[str, Any], Shown(RESERVATIONS)]
CAUSE = described(Cause)
CLUSTER_WHY = described(ClusterWhy)
ClusterWhyAnswer = Annotated[ClusterWhy, Shown(CLUSTER_WHY)]
LicensesAnswer = Annotated[Licenses, Shown(LICENSES)]
DashboardAnswer = Annotated[Dashboard, Shown(DASHBOARD)]
UsageAnswer = Annotated[Usage, Shown(USAGE)]
UsageSeriesAnswer = Annotated[UsageSeries, Shown(USAGE_SERIES)]
