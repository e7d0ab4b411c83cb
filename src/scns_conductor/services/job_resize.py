"""运行中的作业变小（scontrol update NumNodes=、NodeList=）：交还的节点上作业的进程由那里的代理结束。"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.hostlist import expand
from scns_conductor.services.job_rows import JobRow
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_resize import NODES_HELD, SHRINK, shrink_values

# 改运行中的作业的这几项就是变小。
RESIZES = frozenset({"minimum_nodes", "maximum_nodes", "required_nodes"})


async def shrink(connection: AsyncConnection, row: JobRow, changes: Mapping[str, Any], actor: str) -> None:
    """只留下 changes 里的节点数、节点；多要的、脚本所在的节点不在其中的抛 InvalidRequest、Conflict。

    在调用者的事务里，row 已经加锁。
    """
    attempt = {"job_id": row.job_id, "restart_count": row.restart_count}
    held = (await connection.execute(NODES_HELD, attempt)).all()
    names = [each.node_name for each in held]
    kept = _kept(row, names, changes)
    gone = [name for name in names if name not in kept]
    if not gone:
        return
    values = shrink_values(held, gone)
    message = f"交还了 {len(gone)} 个节点"
    await connection.execute(SHRINK, {**attempt, **values, "lost": False, "actor": actor, "message": message})
    # 分配已经不是它们的了：核对时结束作业在那里的进程。
    await tell_scheduler(connection, inbox_insert("update", job_ids=[row.job_id], node_names=gone))


def _kept(row: JobRow, names: list[str], changes: Mapping[str, Any]) -> list[str]:
    kept = names
    if changes.get("required_nodes"):
        wanted = set(expand(changes["required_nodes"]))
        strange = sorted(wanted - set(names))
        if strange:
            raise InvalidRequest(
                "required_nodes",
                f"运行中的作业只能减少节点，{strange[0]} 不是作业 {row.label} 的",
                code="node_unknown",
            )
        kept = [name for name in names if name in wanted]
    count = changes.get("maximum_nodes") or changes.get("minimum_nodes")
    if count is not None:
        if count > len(kept):
            raise InvalidRequest(
                "nodes", f"运行中的作业只能减少节点，作业 {row.label} 有 {len(kept)} 个", code="node_count_invalid"
            )
        kept = kept[:count]
    if kept[:1] != names[:1]:
        raise Conflict(f"节点 {names[0]} 运行着作业 {row.label} 的脚本，不能交还", code="node_busy")
    return kept
