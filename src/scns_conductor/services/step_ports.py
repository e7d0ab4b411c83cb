"""给作业步保留通信端口（srun --resv-ports）：一步用到的节点上都是同样的，别的步在那里用不到。"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.statements.step_ports import PORTS_IN_USE, TAKE_PORTS_TURN


async def reserve_ports(
    connection: AsyncConnection, nodes: Sequence[str], node_tasks: Sequence[int], wanted: int, ports: range
) -> list[int]:
    """wanted 个挨着的端口；0 是任务最多的节点上的任务数加一（同 Slurm）。写下这一步的事务里调用。

    范围里没有这么多抛 InvalidRequest（step_too_large），此刻被占着抛 Conflict（step_busy）。
    """
    count = wanted or max(node_tasks) + 1
    if count > len(ports):
        raise InvalidRequest(
            "resv_ports", f"要 {count} 个端口，一共只有 {len(ports)} 个（设置 mpi_ports）", code="step_too_large"
        )
    await connection.execute(TAKE_PORTS_TURN)
    used = set((await connection.execute(PORTS_IN_USE, {"nodes": list(nodes)})).scalars())
    run = 0
    for port in ports:
        run = 0 if port in used else run + 1
        if run == count:
            return list(range(port - count + 1, port + 1))
    raise Conflict("通信端口此刻被别的作业步占着；请稍后再试", code="step_busy")
