"""分区：列出、新建、修改、删除，以及提交与预留要看的部分。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.models import Partition
from scns_conductor.statements.conditions import LIVE
from scns_conductor.statements.reservations import RESERVATION_LIVES

# 全部分区，或叫 :name 的。
LIST_PARTITIONS = sa.text("SELECT * FROM partitions WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name")
# 与提交有关的列，次序同 services.cluster_limits.PartitionLimits。
PARTITION_LIMITS = sa.text(
    "SELECT name, is_default, max_time, default_time, min_nodes, max_nodes, allow_accounts, deny_accounts, allow_qos, "
    "state, nodes, max_cpus_per_node, exclusive FROM partitions"
)
# 各分区有哪些节点，哪个是缺省的。
MEMBERS = sa.text("SELECT name, nodes, is_default FROM partitions")
# 这个分区里没有结束的作业数。
COUNT_JOBS_IN_PARTITION = sa.text(
    f"SELECT count(*) FROM jobs WHERE state IN {LIVE} AND :name = ANY(string_to_array(partition, ','))"
)
# 用着这个分区的没有结束的预留的名字；没有是 NULL。
FIRST_RESERVATION = sa.text(f"SELECT min(name) FROM reservations WHERE partition = :name AND {RESERVATION_LIVES}")
# 缺省分区只有一个：设新的之前去掉旧的。
CLEAR_DEFAULT = sa.text("UPDATE partitions SET is_default = false WHERE is_default")

# 写明节点的分区，加锁。
PARTITIONS_WITH_NODES = sa.text("SELECT name, nodes FROM partitions WHERE nodes <> 'ALL' ORDER BY name FOR UPDATE")
# 这些名字里还没有登记的节点。
UNKNOWN_NODES = sa.text("SELECT unnest(CAST(:names AS text[])) EXCEPT SELECT name FROM nodes ORDER BY 1")


def partition_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个分区。"""
    return sa.insert(Partition).values(**values)


def partition_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个分区。"""
    return sa.update(Partition).where(sa.column("name") == name).values(**values)


def partition_delete(name: str) -> sa.Delete:
    """删除一个分区。"""
    return sa.delete(Partition).where(sa.column("name") == name)
