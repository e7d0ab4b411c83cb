"""预留自己的事，领导者隔一会儿看一遍：闲久了的清掉（PURGE_COMP），坏了的、被占用了的节点换一个（REPLACE、REPLACE_DOWN），
结束了的不再叫排队的作业等它（NO_HOLD_JOBS_AFTER）。"""

import logging
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy.engine import Connection

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.recurrence import occurrences, recurrence
from scns_conductor.core.reservation_flags import purge_after_s, replaces_down
from scns_conductor.scheduling.advance import replenished
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.shape import CPU, BoolArray, cpus_of
from scns_conductor.statements.queue import ALL_RESERVATIONS
from scns_conductor.statements.reservations import (
    LET_GO,
    LETTING_GO,
    RESERVATIONS_USED,
    reservation_delete,
    reservation_update,
)
from scns_conductor.worker.scheduler.memory import QueueMemory

logger = logging.getLogger(__name__)


class ReservationUpkeep:
    """idle_since 是各预留从何时（Unix 秒）起没有作业；换了领导者从头数起。"""

    def __init__(self) -> None:
        self._idle_since: dict[str, float] = {}
        # 结束了、已经没有作业等的：结束了的不能再指名，不必再看。
        self._let_go: set[str] = set()

    def look(self, connection: Connection, memory: QueueMemory, now: float) -> bool:
        """看一遍，返回有没有改动；在调用者的事务里。没有预留的只问一句。"""
        freed, cluster = self._let_jobs_go(connection), memory.cluster
        memory.refresh(connection, freed, now)
        changed = bool(freed)
        if not cluster.reservations:
            self._idle_since.clear()
            return changed
        rows = [dict(row) for row in connection.execute(ALL_RESERVATIONS).mappings()]
        used = set(connection.scalars(RESERVATIONS_USED)) | {job.reservation for job in cluster.running.values()}
        for row in rows:
            name, after = row["name"], purge_after_s(row["flags"])
            found = cluster.reservations.get(name)
            if found is None or found.start > now or name in used or after is None:
                self._idle_since.pop(name, None)
            elif now - self._idle_since.setdefault(name, now) >= after:
                del self._idle_since[name]
                self._purge(connection, row, now)
                changed = True
                continue
            if found is not None and row["nodes"] and replaces_down(row["flags"]):
                changed |= _replace(connection, row, cluster)
        return changed

    def _let_jobs_go(self, connection: Connection) -> list[int]:
        """刚结束的：排队的作业去掉它，从此在外面运行；返回这些作业。"""
        ended = set(connection.scalars(LETTING_GO))
        freed: list[int] = []
        for name in sorted(ended - self._let_go):
            jobs = list(connection.scalars(LET_GO, {"name": name}))
            freed += jobs
            if jobs:
                logger.info("reservation_let_jobs_go", extra={"reservation": name, "jobs": len(jobs)})
            else:
                self._let_go.add(name)
        self._let_go &= ended
        return freed

    def _purge(self, connection: Connection, row: dict[str, object], now: float) -> None:
        """不重复的删掉，重复的这一次到此为止。"""
        name, flags = str(row["name"]), row["flags"]
        assert isinstance(flags, list)
        if recurrence(flags) is None:
            connection.execute(reservation_delete(name))
        else:
            start, end = row["start_time"], row["end_time"]
            assert isinstance(start, datetime)
            assert isinstance(end, datetime)
            following = occurrences(start, end, flags, datetime.fromtimestamp(now, UTC))
            begin, until = next(islice(following, 1, None))
            connection.execute(reservation_update(name, {"start_time": begin, "end_time": until}))
        logger.info("reservation_purged", extra={"reservation": name})


def _replace(connection: Connection, row: dict[str, object], cluster: Cluster) -> bool:
    """换掉用不了的节点：REPLACE_DOWN 是停着的，REPLACE 还有被占用的；从分区里空着、没有预留的里面换。"""
    name, flags, partition = str(row["name"]), row["flags"], row["partition"]
    assert isinstance(flags, list)
    if row["node_cpus"]:
        return _replace_cores(connection, row, cluster)
    own = expand(str(row["nodes"]))
    count = cluster.count
    idle: BoolArray = cluster.idle(cluster.free[:count], cluster.total[:count])
    up = cluster.schedulable[:count]
    good: BoolArray = up & idle if "REPLACE" in flags else up
    bad = {node for node in own if node not in cluster.index or not good[cluster.index[node]]}
    if not bad:
        return False
    this = cluster.reservations[name]
    taken = cluster.reserved(name, this.start, this.end)
    members = cluster.partitions[str(partition)].nodes if str(partition) in cluster.partitions else None
    spare = [
        node
        for node, place in sorted(cluster.index.items())
        if up[place] and idle[place] and (taken is None or not taken[place]) and (members is None or node in members)
    ]
    nodes = replenished(own, bad, spare)
    if nodes == own:
        return False
    connection.execute(reservation_update(name, {"nodes": compress(sorted(nodes))}))
    logger.info("reservation_nodes_replaced", extra={"reservation": name, "nodes": nodes})
    return True


def _replace_cores(connection: Connection, row: dict[str, object], cluster: Cluster) -> bool:
    """按核留的：停着的节点（REPLACE 的还有留的核都被用着的）上留的，换到空着这么多 CPU、没有别的预留的节点上。"""
    name, flags, kept = str(row["name"]), row["flags"], row["node_cpus"]
    assert isinstance(flags, list)
    assert isinstance(kept, dict)
    column, partition = cluster.kinds.get(cpus_of(name)), cluster.partitions.get(str(row["partition"]))
    if column is None:
        # 刚改的，记忆还没有看到。
        return False
    members = None if partition is None else partition.nodes
    others = [each.mask(cluster.index, cluster.count) for each in cluster.reservations.values() if each.name != name]
    replaced: dict[str, int] = {}
    for node, cpus in kept.items():
        place = cluster.index.get(node)
        up = place is not None and bool(cluster.schedulable[place])
        if up and not ("REPLACE" in flags and cluster.free[place, column] <= 0):
            replaced[node] = cpus
            continue
        spare = (
            other
            for other, at in sorted(cluster.index.items())
            if cluster.schedulable[at]
            and cluster.free[at, CPU] >= cpus
            and other not in kept
            and other not in replaced
            and not any(mask[at] for mask in others)
            and (members is None or other in members)
        )
        replaced[next(spare, node)] = cpus
    if replaced == kept:
        return False
    values = {"node_cpus": replaced, "nodes": compress(sorted(replaced))}
    connection.execute(reservation_update(name, values))
    logger.info("reservation_nodes_replaced", extra={"reservation": name, "nodes": sorted(replaced)})
    return True
