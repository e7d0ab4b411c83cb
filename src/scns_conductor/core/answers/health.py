"""就绪检查的回答（GET /health/ready）。"""

from typing import Any, NotRequired, TypedDict


class DatabaseHealth(TypedDict):
    """status 是 ok、degraded（有不够的）、full（盘满了：照样读得到，收不下新的）、read_only、too_old。"""

    status: str
    version: str
    instance: str
    shortfalls: list[str]
    remedy: NotRequired[str]
    roundtrip_ms: NotRequired[float]


class SchemaHealth(TypedDict):
    """数据库的结构：现在的与要的版本。"""

    status: str
    current: str | None
    expected: str
    remedy: NotRequired[str]


class Block(TypedDict):
    """一个锁着我们的行的会话：rows 是锁着的（至多几个，空的是整张表），count 是一共几行；看不见的是 None。"""

    table: str
    rows: list[str]
    count: NotRequired[int]
    pid: int
    application_name: str | None
    user_name: str | None


class SchedulerHealth(TypedDict):
    """status 是 ok、degraded（绕开了几行）、blocked、absent；blocked_by 是锁着它们的会话。"""

    status: str
    holder: str | None
    blocked_by: NotRequired[list[Block]]


class NodesHealth(TypedDict):
    """节点：一共几个，哪些没有心跳。"""

    status: str
    total: int
    down: list[str]


class LocksHealth(TypedDict):
    """别的会话的事务锁着我们的行一秒以上的；held_s 看不见（别的用户的）是空。"""

    status: str
    held: list[dict[str, object]]


class NotifyHealth(TypedDict):
    """通知的队列用了几成。"""

    status: str
    usage: float
    remedy: NotRequired[str]


class ValkeyHealth(TypedDict):
    """status 是 ok、degraded（有不够的）、unavailable（remedy 说为什么、此时什么照常）；看不见的是空。

    waiting 是还没有人取的消息；eviction_policy 是 maxmemory-policy。
    """

    status: str
    version: str | None
    eviction_policy: str | None
    waiting: int | None
    shortfalls: list[str]
    remedy: NotRequired[str]


class Checks(TypedDict):
    """各项检查；containment 是缺了约束的节点各缺什么。"""

    database: DatabaseHealth
    schema: SchemaHealth
    scheduler: SchedulerHealth
    nodes: NodesHealth
    locks: LocksHealth
    notify_queue: NotifyHealth
    valkey: ValkeyHealth
    containment: dict[str, Any]


class Readiness(TypedDict):
    """status 是 ok 或 unavailable。"""

    status: str
    checks: Checks
