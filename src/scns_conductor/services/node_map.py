"""节点的简表：一个节点一行数，几千个也小；节点图看它。"""

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.reports import NodeMap
from scns_conductor.core.hostlist import expand
from scns_conductor.core.states import node_state
from scns_conductor.services.partitions import list_partitions
from scns_conductor.statements.nodes import NODE_MAP

FIELDS = (
    "name", "state", "availability", "drain", "reason", "cpus", "allocated_cpus", "memory", "allocated_memory", "gpus",
    "allocated_gpus", "partitions", "spool_free",
)  # fmt: skip


async def node_map(engine: AsyncEngine) -> NodeMap:
    """内存的单位是 MiB，partitions 是所属分区的名字，逗号分隔。

    spool_free 是工作目录的盘还有多少（MiB），没有报过是 null。
    """
    partitions = await list_partitions(engine)
    everywhere = [each["name"] for each in partitions if each["nodes"] == "ALL"]
    owners: dict[str, list[str]] = {}
    for each in partitions:
        if each["nodes"] != "ALL":
            for name in dict.fromkeys(expand(each["nodes"])):
                owners.setdefault(name, []).append(each["name"])
    async with engine.connect() as connection:
        rows = (await connection.execute(NODE_MAP)).all()
    nodes = [
        [
            row.name,
            node_state(row._asdict()),
            row.state,
            row.drain,
            row.reason,
            row.cpus,
            row.allocated_cpus,
            row.memory,
            row.allocated_memory,
            _gpus(row.gres),
            _gpus(row.allocated_gres),
            ",".join(owners.get(row.name, []) + everywhere),
            row.spool_free,
        ]
        for row in rows
    ]
    return {"fields": list(FIELDS), "nodes": nodes}


def _gpus(gres: dict[str, int]) -> int:
    return sum(count for name, count in gres.items() if name.partition(":")[0] == "gpu")
