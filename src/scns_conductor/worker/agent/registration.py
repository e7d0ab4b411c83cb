"""节点登记：有什么资源、能约束什么、何时开机。登记不等于可用，恢复完成之后才标成 UP。"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from scns_conductor import __version__
from scns_conductor.core.errors import SettingsError
from scns_conductor.statements.inbox import inbox_insert, notify_inbox
from scns_conductor.statements.node_state import (
    DRAIN,
    DRAIN_UNHEALTHY,
    DRAIN_UNLESS_FAILED_ELSEWHERE,
    FAIL_REBOOT,
    ISSUE_REBOOT,
    MARK_DOWN,
    MARK_STOPPED,
    MARK_UP,
    NODE_OF_OTHER_MODE,
    OWN_BEAT,
    RECORD_CONTAINMENT,
    REGISTER_NODE,
    UNDRAIN,
    UNDRAIN_HEALTHY,
)
from scns_conductor.statements.power import ARRIVED
from scns_conductor.worker.agent.cpu_topology import CpuLayout
from scns_conductor.worker.agent.database_memory import DatabaseMemory, Seen
from scns_conductor.worker.agent.devices import NodeInventory
from scns_conductor.worker.wire.shepherd_messages import Capabilities

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

logger = logging.getLogger(__name__)

# 错过这么多次心跳，那个代理就是不在了。
_SILENT_BEATS = 3


def register_node(
    engine: Engine, settings: "Settings", inventory: NodeInventory, containment: Capabilities, beat: int
) -> tuple[float, Seen]:
    """登记或更新本节点，返回数据库的现在（Unix 秒）与看到的；beat 是记得的心跳计数，数据库里没有这个节点时接着数。

    同一个数据库上有另一种模式的节点在用时抛 SettingsError。
    """
    _require_one_mode(engine, settings)
    layout = inventory.layout or CpuLayout(1, inventory.cpus, 1)
    values = {
        "name": settings.node_name,
        "address": settings.node_address or settings.node_name,
        "cpus": inventory.cpus,
        "sockets": layout.sockets,
        "cores_per_socket": layout.cores_per_socket,
        "threads_per_core": layout.threads_per_core,
        "memory": inventory.memory_mb,
        "temporary_disk": inventory.temporary_disk_mb,
        "gres": json.dumps(inventory.gres),
        "features": settings.node_features,
        "weight": settings.node_weight,
        "topology": settings.node_topology,
        "boot_id": inventory.boot_id,
        "boot_time": inventory.boot_time,
        "agent_version": __version__,
        "architecture": inventory.architecture,
        "operating_system": inventory.operating_system,
        "containment": _containment(settings, containment),
        "beat": beat,
        "restart_is_reboot": settings.agent_restart_is_reboot,
    }
    try:
        return _register(engine, settings.node_name, {**values, "keep_gres": False})
    except IntegrityError:
        logger.warning("gres_kept_until_released", extra={"node": settings.node_name, "declared": inventory.gres})
        return _register(engine, settings.node_name, {**values, "keep_gres": True})


def require_own_name(engine: Engine, settings: "Settings", memory: DatabaseMemory, stopping: threading.Event) -> None:
    """同名的另一个代理还在跳就抛 SettingsError：登记了会把它的作业当成丢了，同一个作业两处都跑。

    自己上一个代理死了才拿得到工作目录的锁，所以心跳与记得的相接就是自己；接不上、又刚刚跳过的，看它还跳不跳。
    """
    first = _own_beat(engine, settings.node_name)
    wait_s = _SILENT_BEATS * settings.heartbeat_interval_s
    if first is None or first.silent_s is None or first.silent_s > wait_s:
        return
    if first.incarnation == memory.incarnation and 0 <= first.beat - memory.beat <= 1:
        return
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not stopping.wait(settings.heartbeat_interval_s / 4):
        now = _own_beat(engine, settings.node_name)
        if now is not None and now.beat > first.beat:
            raise SettingsError(
                f"节点名 {settings.node_name} 有人在用：地址 {now.address} 的代理还在心跳；"
                "请给本机改 SCNS_NODE_NAME，或先停掉那一个"
            )


def _own_beat(engine: Engine, name: str) -> sa.Row[Any] | None:
    with engine.begin() as connection:
        return connection.execute(OWN_BEAT, {"name": name}).one_or_none()


def record_containment(engine: Engine, settings: "Settings", containment: Capabilities) -> None:
    """牧守进程换过一个：它约束得了什么也许变了。"""
    values = {"name": settings.node_name, "containment": _containment(settings, containment)}
    with engine.begin() as connection:
        connection.execute(RECORD_CONTAINMENT, values)


def _containment(settings: "Settings", capabilities: Capabilities) -> str:
    return json.dumps({**capabilities.to_wire(), "single_user": settings.single_user})


def _require_one_mode(engine: Engine, settings: "Settings") -> None:
    with engine.begin() as connection:
        values = {"name": settings.node_name, "single_user": settings.single_user}
        other = connection.execute(NODE_OF_OTHER_MODE, values).scalar_one_or_none()
    if other is not None:
        theirs, own = ("多", "单") if settings.single_user else ("单", "多")
        raise SettingsError(
            f"节点 {other} 是{theirs}用户模式，本节点是{own}用户模式，不能用同一个数据库；"
            "请统一 SCNS_SINGLE_USER，或先停掉那个节点"
        )


def _register(engine: Engine, node_name: str, values: Mapping[str, object]) -> tuple[float, Seen]:
    with engine.begin() as connection:
        # 在等它开机的作业从此刻算起。
        arrived = list(connection.scalars(ARRIVED, {"name": node_name}))
        row = connection.execute(REGISTER_NODE, values).one()
        connection.execute(inbox_insert("nodes", node_names=[node_name]))
        if arrived:
            connection.execute(inbox_insert("jobs", job_ids=arrived))
        connection.execute(notify_inbox())
    return float(row.database_now), Seen(row.incarnation, row.beat, row.last_job_id)


def mark_up(engine: Engine, node_name: str) -> bool:
    """标成可用；管理员亲手下线的不动，返回 False。"""
    return _change(engine, MARK_UP, {"name": node_name}, node_name)


def mark_down(engine: Engine, node_name: str, reason: str) -> None:
    """标成不可用（正常停机），调度器不再往这里放作业。"""
    _change(engine, MARK_DOWN, {"name": node_name, "reason": reason, "actor": f"agent@{node_name}"}, node_name)


def mark_stopped(engine: Engine, node_name: str, reason: str) -> None:
    """代理停下了，作业由牧守进程看着；调度器把还没有认领的收回去。管理员下线的不动。"""
    _change(engine, MARK_STOPPED, {"name": node_name, "reason": reason, "actor": f"agent@{node_name}"}, node_name)


def drain_node(engine: Engine, node_name: str, reason: str, *, job_id: int | None = None) -> bool:
    """排空本节点并说明原因；已经在排空的不改原因，返回 False。

    job_id 是在这里启动失败的作业：它在别的节点上也启动失败过的，不排空。
    """
    values = {"name": node_name, "reason": reason, "actor": f"agent@{node_name}"}
    if job_id is None:
        drained = _change(engine, DRAIN, values, node_name)
    else:
        drained = _change(engine, DRAIN_UNLESS_FAILED_ELSEWHERE, {**values, "job_id": job_id}, node_name)
    if drained:
        logger.error("node_drained", extra={"node": node_name, "reason": reason})
    return drained


def undrain_node(engine: Engine, node_name: str, reason: str) -> None:
    """撤销本节点自己为这个原因（或以它开头的）做的排空；别的排空不动。"""
    _change(engine, UNDRAIN, {"name": node_name, "reason": reason, "actor": f"agent@{node_name}"}, node_name)


def drain_unhealthy(engine: Engine, node_name: str, reason: str, prefix: str) -> None:
    """健康检查没有通过：排空；自己为此排空过的（原因以 prefix 开头）换成新的原因，别人的排空不动。"""
    values = {"name": node_name, "reason": reason, "prefix": prefix, "actor": f"agent@{node_name}"}
    if _change(engine, DRAIN_UNHEALTHY, values, node_name):
        logger.error("node_unhealthy", extra={"node": node_name, "reason": reason})


def undrain_healthy(engine: Engine, node_name: str, prefix: str) -> None:
    """健康检查通过了：撤掉自己为此做的排空。"""
    values = {"name": node_name, "prefix": prefix, "actor": f"agent@{node_name}"}
    if _change(engine, UNDRAIN_HEALTHY, values, node_name):
        logger.info("node_healthy_again", extra={"node": node_name})


def issue_reboot(engine: Engine, node_name: str) -> bool:
    """有人要它重启，它也空了：从此不再有作业分配到这里，返回 True。"""
    return _change(engine, ISSUE_REBOOT, {"name": node_name}, node_name)


def fail_reboot(engine: Engine, node_name: str, reason: str) -> None:
    """重启不成：排空，说明为什么。"""
    _change(engine, FAIL_REBOOT, {"name": node_name, "reason": reason, "actor": f"agent@{node_name}"}, node_name)
    logger.error("reboot_failed", extra={"node": node_name, "reason": reason})


def _change(engine: Engine, statement: sa.TextClause, values: Mapping[str, object], node_name: str) -> bool:
    with engine.begin() as connection:
        changed = connection.execute(statement, values).rowcount > 0
        if changed:
            connection.execute(inbox_insert("nodes", node_names=[node_name]))
            connection.execute(notify_inbox())
    return changed
