"""按核留的预留（CoreCnt=）在各节点上各留几个 CPU：照写的，或系统挑的；够不够。"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.statements.nodes import CPUS_OF_NODES


async def cpus_per_core(connection: AsyncConnection) -> dict[str, tuple[int, int]]:
    """节点 -> (CPU 数, 一个核是几个 CPU)。"""
    return {row.name: (row.cpus, row.cpus_per_core) for row in await connection.execute(CPUS_OF_NODES)}


@dataclass(frozen=True, slots=True)
class Room:
    """nodes 是节点 -> (CPU 数, 一个核是几个 CPU)；taken 是到时已经有主的 CPU。"""

    nodes: Mapping[str, tuple[int, int]]
    taken: Mapping[str, int]

    def cores(self, name: str) -> int:
        """还留得出几个核；没有的节点是 0。"""
        cpus, each = self.nodes.get(name, (0, 1))
        return max(0, cpus - self.taken.get(name, 0)) // each

    def cpus(self, cores: Mapping[str, int]) -> dict[str, int]:
        """几个核是几个 CPU。"""
        return {name: count * self.nodes.get(name, (0, 1))[1] for name, count in cores.items()}

    def check(self, node_cpus: Mapping[str, int]) -> None:
        """留不出抛 Conflict，节点没有那么大抛 InvalidRequest。"""
        for name, wanted in node_cpus.items():
            if name not in self.nodes:
                raise InvalidRequest("nodes", f"没有节点 {name}", code="node_not_found")
            cpus, taken = self.nodes[name][0], self.taken.get(name, 0)
            if wanted > cpus:
                raise InvalidRequest("core_count", f"节点 {name} 只有 {cpus} 个 CPU", code="reservation_too_large")
            if wanted > cpus - taken:
                raise Conflict(
                    f"节点 {name} 的 {cpus} 个 CPU 到时已有 {taken} 个归别的预留或跑不完的作业，留不出 {wanted} 个；"
                    "少留一些、推迟开始，或加 IGNORE_JOBS、OVERLAP",
                    code="reservation_nodes_busy",
                )


def reserve_cores(
    wanted: int | Sequence[int], count: int | None, named: Sequence[str], pool: Sequence[str], room: Room
) -> dict[str, int]:
    """节点 -> 留几个 CPU。

    wanted 是一共几个核，或指名的节点（named）各几个；count 是分到几个节点上。没有指名的从 pool 里挑，先写的先用。
    """
    if isinstance(wanted, int):
        if named and count is None:
            return room.cpus(_even(wanted, named))
        if count is not None:
            return room.cpus(_on(count, wanted, pool, room))
        return room.cpus(_fewest(wanted, pool, room))
    if not named or len(wanted) != len(named):
        raise InvalidRequest(
            "core_count",
            f"写了 {len(wanted)} 个数，节点有 {len(named)} 个：一个节点一个数，或只写总数",
            code="core_count_mismatch",
        )
    return room.cpus(dict(zip(named, wanted, strict=True)))


def _even(cores: int, names: Sequence[str]) -> dict[str, int]:
    """平分；除不尽的前面的多一个。"""
    each, more = divmod(cores, len(names))
    if not each:
        raise InvalidRequest("core_count", f"{cores} 个核不够 {len(names)} 个节点各留一个", code="core_count_mismatch")
    return {name: each + (place < more) for place, name in enumerate(names)}


def _on(count: int, cores: int, pool: Sequence[str], room: Room) -> dict[str, int]:
    """平分到 count 个节点上：留得出最多的一份的就行。"""
    most = -(-cores // count)
    chosen = [name for name in pool if room.cores(name) >= most][:count]
    if len(chosen) < count:
        raise Conflict(
            f"要 {count} 个各留得出 {most} 个核的节点，那段时间只有 {len(chosen)} 个", code="reservation_too_large"
        )
    return _even(cores, chosen)


def _fewest(cores: int, pool: Sequence[str], room: Room) -> dict[str, int]:
    """一个节点留得出就在一个上；不然从留得出最多的起凑。"""
    whole = next((name for name in pool if room.cores(name) >= cores), None)
    if whole is not None:
        return {whole: cores}
    found: dict[str, int] = {}
    for name in sorted(pool, key=room.cores, reverse=True):
        taken = min(cores - sum(found.values()), room.cores(name))
        if taken:
            found[name] = taken
    total = sum(found.values())
    if total < cores:
        raise Conflict(f"要 {cores} 个核，那段时间只留得出 {total} 个", code="reservation_too_large")
    return found
