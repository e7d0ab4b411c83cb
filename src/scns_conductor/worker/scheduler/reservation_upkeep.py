"""预留自己的事：闲久了的清掉（PURGE_COMP），坏了的、被占用了的节点换一个（REPLACE、REPLACE_DOWN）。领导者隔一会儿看一遍。"""

import logging
from datetime import UTC, datetime
from itertools import islice

import numpy as np
from sqlalchemy.engine import Connection

from scns_conductor.core.hostlist import compress, expand
from scns_conductor.core.recurrence import occurrences, recurrence
from scns_conductor.core.reservation_flags import purge_after_s
from scns_conductor.scheduling.advance import replenished
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.shape import BoolArray
from scns_conductor.statements.queue import ALL_RESERVATIONS
from scns_conductor.statements.reservations import RESERVATIONS_USED, reservation_delete, reservation_update

logger = logging.getLogger(__name__)


class ReservationUpkeep:
    """idle_since 是各预留从何时（Unix 秒）起没有作业；换了领导者从头数起。"""

    def __init__(self) -> None:
        self._idle_since: dict[str, float] = {}

    def look(self, connection: Connection, cluster: Cluster, now: float) -> bool:
        """看一遍，返回有没有改动；在调用者的事务里。没有预留的什么也不问。"""
        if not cluster.reservations:
            self._idle_since.clear()
            return False
        rows = [dict(row) for row in connection.execute(ALL_RESERVATIONS).mappings()]
        used = set(connection.scalars(RESERVATIONS_USED)) | {job.reservation for job in cluster.running.values()}
        changed = False
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
            if found is not None and not {"REPLACE", "REPLACE_DOWN"}.isdisjoint(row["flags"]):
                changed |= _replace(connection, row, cluster)
        return changed

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
    own = expand(str(row["nodes"]))
    count = cluster.count
    idle: BoolArray = np.all(cluster.free[:count] >= cluster.total[:count], axis=1)
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
