"""给节点送消息：只是提示，送不出去的节点自己核对数据库补上。"""

import contextlib
import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence

from sqlalchemy.engine import Connection

from scns_conductor.core.logging import REPEAT_S
from scns_conductor.statements.allocations import HOLDING_NODES
from scns_conductor.statements.starts import Start, Started
from scns_conductor.timing import Trouble
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.wire.bus_messages import ChangedJobs, LaunchJobs

MOST_NAMED = 5

logger = logging.getLogger(__name__)


def to_holders(connection: Connection, function: str, job_ids: Sequence[int]) -> dict[str, list[Message]]:
    """告诉占着这些作业的各个节点：对它们做什么（suspend、resume、cancel）。"""
    rows = connection.execute(HOLDING_NODES, {"job_ids": list(job_ids)})
    return {row.node_name: [Message.of(ChangedJobs(job_ids=row.job_ids), function)] for row in rows}


class Dispatcher:
    """领导者一侧的总线。"""

    def __init__(self, redis_url: str, incarnation: Callable[[], str | None], timing: Trouble | None = None) -> None:
        self._publisher = Publisher(redis_url, incarnation)
        self._timing = timing or Trouble()
        self._tell_again = 0.0

    def launch(self, starts: Sequence[Start], started: Sequence[Started], away: Container[str] = ()) -> None:
        """每个节点一条消息；Valkey 不在时代理靠核对数据库补上。

        有节点在 away（还没有开机）里的不送：它们登记时自己核对，都到齐了才启动。
        """
        by_node: dict[str, list[int]] = {}
        for row in started:
            if away and any(share.node_name in away for share in starts[row.index].shares):
                continue
            for share in starts[row.index].shares:
                by_node.setdefault(share.node_name, []).append(row.job_id)
        self.send({node: [Message.of(LaunchJobs(job_ids=ids), "launch")] for node, ids in by_node.items()})

    def send(self, messages: Mapping[str, Sequence[Message]]) -> None:
        """节点 -> 消息；送不出去只记一行，一分钟至多一行。"""
        try:
            with self._timing.measure() if messages else contextlib.nullcontext():
                self._publisher.send(messages)
            if messages:
                self._tell_again = 0.0
        except BusUnavailable as error:
            if time.monotonic() >= self._tell_again:
                # 一千个节点的名字、每个周期一行，不是给人看的。
                self._tell_again = time.monotonic() + REPEAT_S
                first = sorted(messages)[:MOST_NAMED]
                logger.warning("bus_unavailable", extra={"error": str(error), "nodes": len(messages), "first": first})

    def close(self) -> None:
        """断开。"""
        self._publisher.close()
