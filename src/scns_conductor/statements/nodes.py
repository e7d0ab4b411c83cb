"""节点：列出、修改，以及提交、总览、报告要看的部分。"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from scns_conductor.core.models import Node

# 状态词（core.states.node_state）要看的列。
STATE_COLUMNS = "state, drain, cloud, power_state, power_request, planned, reboot, cpus, allocated_cpus"
# 数据库的此刻，写进 reason_time。
NOW = sa.func.clock_timestamp()
# 恢复之后的状态：心跳还新鲜的立即可用；失联的等它自己登记；关着机的不是下线。
RESUMED_STATE = sa.text(
    "CASE WHEN state = 'DOWN' AND (power_state <> 'ON' OR power_request IN ('DOWN', 'ASAP', 'FORCE')) THEN 'UNKNOWN' "
    "WHEN state = 'DOWN' AND last_heartbeat > clock_timestamp() - interval '1 minute' THEN 'UP' ELSE state END"
)
# 全部节点，或叫 :name 的，连同其上的作业号。
LIST_NODES = sa.text(
    """
    SELECT n.*, (SELECT coalesce(array_agg(job_id::text ORDER BY job_id), '{}') FROM resource_allocations AS a
                 WHERE a.node_name = n.name AND a.released_at IS NULL) AS jobs
    FROM nodes AS n WHERE CAST(:name AS text) IS NULL OR n.name = :name ORDER BY n.name
    """
)
# 大小与特性都相同的节点合成一行：一万个节点通常只有几行。
NODE_GROUPS = sa.text(
    "SELECT cpus, memory, temporary_disk, features, gres::text AS gres_text, sockets, cores_per_socket, "
    "threads_per_core, array_agg(name ORDER BY name) AS names "
    "FROM nodes GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 9".replace("::", r"\:\:")
)
# 各节点的特性、权重、位置。
TRAITS_OF_NODES = sa.text("SELECT name, features, weight, topology FROM nodes ORDER BY name")
# 节点名，占用的 CPU 少的在前。
NAMES_EMPTIEST_FIRST = sa.text("SELECT name FROM nodes ORDER BY allocated_cpus, name")
# 各节点的 CPU 数，一个核是几个。
CPUS_OF_NODES = sa.text(
    "SELECT name, cpus, CASE WHEN sockets * cores_per_socket * threads_per_core = cpus THEN threads_per_core ELSE 1 END"
    " AS cpus_per_core FROM nodes"
)
# 各节点的状态、总量与用量。
USAGE_OF_NODES = sa.text(f"SELECT name, {STATE_COLUMNS}, memory, gres, allocated_memory, allocated_gres FROM nodes")
# 各节点的简表。
NODE_MAP = sa.text(
    f"SELECT name, {STATE_COLUMNS}, reason, memory, allocated_memory, gres, allocated_gres, spool_free FROM nodes "
    "ORDER BY name"
)
# 一个节点出过的事，新的在前；留三十天。空下来不算：那是 webhook 要的。
NODE_EVENTS = sa.text(
    """
    SELECT event_id, created_at, substr(event, 6) AS event, detail ->> 'reason' AS reason,
      detail ->> 'reason_user' AS reason_user
    FROM cluster_events WHERE subject = :name AND starts_with(event, 'node.') AND event <> 'node.idle'
    ORDER BY event_id DESC LIMIT :limit
    """
)
# 登记了的节点的总量。
CAPACITY = sa.text(
    "SELECT coalesce(sum(cpus), 0)::bigint AS cpus, coalesce(sum(memory), 0)::bigint AS memory_mb, "
    "count(*) AS nodes, coalesce(sum((SELECT sum(CAST(value AS bigint)) FROM jsonb_each_text(gres) "
    "WHERE key = 'gpu' OR key LIKE 'gpu:%')), 0)::bigint AS gpus FROM nodes"
)

# 没有人要它重启。
NO_REBOOT: Mapping[str, Any] = {
    "reboot": None,
    "reboot_asap": False,
    "reboot_next_state": None,
    "reboot_reason": None,
    "reboot_since": None,
}
# 人要开、要关：已经在办的、已经是那样的不必再要。强行关的，其上的作业按节点故障结束。
POWER_REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "POWER_UP": {"power_request": sa.text("CASE WHEN power_state IN ('OFF', 'POWERING_DOWN') THEN 'UP' END")},
    "POWER_DOWN": {"power_request": sa.text("CASE WHEN power_state IN ('ON', 'POWERING_UP') THEN 'DOWN' END")},
    "POWER_DOWN_ASAP": {"power_request": sa.text("CASE WHEN power_state IN ('ON', 'POWERING_UP') THEN 'ASAP' END")},
    "POWER_DOWN_FORCE": {
        "power_request": sa.text("CASE WHEN power_state <> 'OFF' THEN 'FORCE' END"),
        "state": sa.text("CASE WHEN power_state = 'OFF' THEN 'UNKNOWN' ELSE 'DOWN' END"),
    },
}
# 要改的节点，加锁。
NODES_TO_CHANGE = sa.text(
    "SELECT name, state, reboot, power_state, cloud FROM nodes WHERE name = ANY(CAST(:names AS text[])) "
    "ORDER BY name FOR NO KEY UPDATE"
)
# 要删的节点，加锁；serving 是还在接作业。
# 排空的、下线的不接作业，代理还在也可以删：它发现自己没有了，就不再登记，直到重新启动。
DELETABLE_NODES = sa.text(
    """
    SELECT name, state = 'UP' AND NOT drain AND last_heartbeat > clock_timestamp() - make_interval(secs => :timeout)
      AS serving FROM nodes WHERE name = ANY(CAST(:names AS text[])) ORDER BY name FOR UPDATE
    """
)
# 这些节点上还有几个作业。
NODES_IN_USE = sa.text(
    "SELECT node_name, count(DISTINCT job_id) AS jobs FROM resource_allocations "
    "WHERE node_name = ANY(CAST(:names AS text[])) AND released_at IS NULL GROUP BY 1 ORDER BY 1"
)


def node_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个节点。"""
    return sa.update(Node).where(sa.column("name") == name).values(**values)


def nodes_pin(names: Sequence[str], traits: Mapping[str, Any]) -> sa.Update:
    """写定几个节点的特性、权重、位置。"""
    pinned = sa.cast(sa.literal(dict.fromkeys(traits, True), JSONB), JSONB)
    return sa.update(Node).where(sa.column("name").in_(names)).values(**traits, pinned=Node.pinned.op("||")(pinned))  # type: ignore[attr-defined]


def nodes_insert(rows: Sequence[Mapping[str, Any]]) -> sa.Insert:
    """声明几个节点。"""
    return sa.insert(Node).values(list(rows))


def nodes_update(names: Sequence[str], values: Mapping[str, Any]) -> sa.Update:
    """改几个节点。"""
    return sa.update(Node).where(sa.column("name").in_(names)).values(**values)


def nodes_delete(names: Sequence[str]) -> sa.Delete:
    """删除几个节点。"""
    return sa.delete(Node).where(sa.column("name").in_(names))
