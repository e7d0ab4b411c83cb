"""别人的数据库服务器：会话自己设不了的那些，够不够；不够的说出要改 postgresql.conf 的哪一行。"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.answers.health import DatabaseHealth, NotifyHealth
from scns_conductor.core.database import MINIMUM_VERSION
from scns_conductor.statements.inbox import NOTIFY_CROWDED

LEAST_SHARED_BUFFERS = 128 * 1024**2
# 每个节点的代理至多几条会话；另有 API、调度器、迁移与管理员的。
# 闲着的至多一条，忙时再开；经 PgBouncer（事务模式）的不按节点数。
SESSIONS_PER_NODE = 2
SESSIONS_BESIDE = 30

_WHY = {
    "fsync": "断电时会丢掉已经答应的作业，甚至毁掉整个库",
    "full_page_writes": "断电时写了一半的页会毁掉数据",
    "autovacuum": "死行不清理，越用越慢",
    "track_counts": "没有它 autovacuum 不工作：死行不清理，越用越慢",
}
# 改了要重启服务器才生效的；别的重新载入就行。
_NEEDS_RESTART = frozenset({"shared_buffers", "max_connections"})
NOTIFY_REMEDY = (
    "有会话停在事务里、占着通知的队列（哪个库的都算）；找出来结束它：SELECT pid, datname, application_name, xact_start "
    "FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY xact_start"
)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """一处不够：value 是现在的值，why 为什么不行，line 是 postgresql.conf 里应写的一行。"""

    setting: str
    value: str
    why: str
    line: str

    def __str__(self) -> str:
        now = f"{self.setting} = {self.value}"
        if self.setting in _NEEDS_RESTART:
            return f"{now}：{self.why}；请在 postgresql.conf 里改成 {self.line}，然后重启 PostgreSQL"
        return f"{now}：{self.why}；请在 postgresql.conf 里改成 {self.line}，然后 SELECT pg_reload_conf()"


def shortfalls(facts: Mapping[str, Any], nodes: int, pool_size: int) -> list[Shortfall]:
    """facts 是 SERVER_FACTS 的一行。"""
    found = [Shortfall(name, facts[name], why, f"{name} = on") for name, why in _WHY.items() if facts[name] != "on"]
    if facts["shared_buffers_bytes"] < LEAST_SHARED_BUFFERS:
        found.append(
            Shortfall("shared_buffers", facts["shared_buffers"], "热表放不下，读写都要碰盘", "shared_buffers = 128MB")
        )
    needed = SESSIONS_PER_NODE * nodes + 2 * pool_size + SESSIONS_BESIDE
    if facts["max_connections"] < needed:
        found.append(
            Shortfall(
                "max_connections",
                str(facts["max_connections"]),
                f"{nodes} 个节点与一个 API 至多要 {needed} 条会话",
                f"max_connections = {needed}",
            )
        )
    return found


def database_report(facts: Mapping[str, Any], nodes: int, pool_size: int) -> DatabaseHealth:
    """健康检查里 database 那一项：status 是 ok、degraded（有不够的）、read_only、too_old。"""
    lacking = shortfalls(facts, nodes, pool_size)
    status, remedy = "degraded" if lacking else "ok", None
    if facts["major"] < MINIMUM_VERSION:
        status, remedy = "too_old", f"需要 PostgreSQL {MINIMUM_VERSION} 以上"
    elif facts["read_only"]:
        what = "这是备库" if facts["standby"] else "default_transaction_read_only = on"
        status, remedy = "read_only", f"{what}；请让 SCNS_DATABASE_URL 指向可写的主库"
    found: DatabaseHealth = {
        "status": status,
        "version": facts["version"],
        "instance": facts["instance"],
        "shortfalls": [str(each) for each in lacking],
    }
    if remedy:
        found["remedy"] = remedy
    return found


def notify_report(facts: Mapping[str, Any]) -> NotifyHealth:
    """健康检查里 notify_queue 那一项。"""
    usage = float(facts["notify_usage"])
    crowded = usage >= NOTIFY_CROWDED
    found: NotifyHealth = {"status": "crowded" if crowded else "ok", "usage": round(usage, 4)}
    if crowded:
        found["remedy"] = NOTIFY_REMEDY
    return found
