"""调度进程的一生：参选、当选、听收件箱、计划、提交、派发；失去领导权就重新参选。

一条会话做所有的事：它持有咨询锁，也提交计划，会话没了就什么也改不了（见 leader）。
目前只计划单节点、只要 CPU 与内存的作业；要求更多的作业留在队列里，并说明原因。
"""

import logging
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.core.statements import INBOX_CHANNEL, drain_inbox
from scns_conductor.scheduling.first_fit import Plan, plan_first_fit
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.leader import Leadership, NotLeader
from scns_conductor.worker.node_timeout import fail_silent_nodes
from scns_conductor.worker.queue_snapshot import load_nodes, load_queue, mark_waiting
from scns_conductor.worker.starts import Share, Start, Started, commit_starts

RETRY_S = 0.5
# 收件箱里要转给节点的请求；取消也只是提示，代理自己读数据库里的要求。
FORWARDED = frozenset({"cancel", "kill", "suspend", "resume", "requeue", "update", "signal", "read_log"})

logger = logging.getLogger(__name__)


class Scheduler:
    """调度进程。stop 可以从信号处理器里调用。"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher = Publisher(settings.redis_url.get_secret_value())
        self._stopping = threading.Event()

    def stop(self) -> None:
        """请求停止；当前周期做完就让位。"""
        self._stopping.set()

    def run(self) -> None:
        """参选与任职，直到停止；数据库不在时稍后再试。"""
        engine = sync_engine(self._settings, pool_size=1, role="scheduler")
        while not self._stopping.is_set():
            try:
                with engine.connect() as connection:
                    self._serve(connection)
            except (sa.exc.DBAPIError, psycopg.Error, NotLeader) as error:
                logger.warning("scheduler_interrupted", extra={"error": str(error).splitlines()[:1]})
                engine.dispose()
                self._stopping.wait(RETRY_S)
        engine.dispose()
        self._publisher.close()

    def _serve(self, connection: Connection) -> None:
        leadership = Leadership(connection, self._settings.scheduler_lease_s)
        while not leadership.acquire():
            if self._stopping.wait(RETRY_S):
                return
        with connection.begin():
            connection.execute(sa.text(f"LISTEN {INBOX_CHANNEL}"))
            # 只用套接字可读来醒，通知本身不看；挂一个处理器，psycopg 就不积压它们。
            _driver(connection).add_notify_handler(lambda _: None)
        renewed = reconciled = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if now - renewed >= self._settings.scheduler_lease_s / 3:
                leadership.renew()
                renewed = now
            if now - reconciled >= self._settings.reconcile_interval_s:
                with connection.begin():
                    silent = fail_silent_nodes(connection, self._settings.node_timeout_s)
                self._send({node: [Message("sync", {"job_ids": ids})] for node, ids in silent.to_sync.items()})
                reconciled = now
            requests = self._drain(connection)
            self._send(self._forward(connection, requests))
            if not self._cycle(connection, leadership.epoch):
                self._wait(connection)
        leadership.resign()

    def _drain(self, connection: Connection) -> list[Mapping[str, Any]]:
        with connection.begin():
            rows = [dict(row) for row in connection.execute(drain_inbox()).mappings()]
        return sorted((row for row in rows if row["kind"] in FORWARDED), key=lambda row: int(row["inbox_id"]))

    def _forward(self, connection: Connection, requests: Sequence[Mapping[str, Any]]) -> dict[str, list[Message]]:
        """把请求转给作业所在的节点。"""
        messages: dict[str, list[Message]] = {}
        for request in requests:
            with connection.begin():
                nodes = connection.scalars(
                    sa.text(
                        "SELECT DISTINCT node_name FROM resource_allocations "
                        "WHERE job_id = ANY(:job_ids) AND released_at IS NULL"
                    ),
                    {"job_ids": request["job_ids"]},
                ).all()
            message = Message(request["kind"], {"job_ids": request["job_ids"], **request["payload"]})
            for node in nodes:
                messages.setdefault(node, []).append(message)
        return messages

    def _cycle(self, connection: Connection, epoch: int) -> bool:
        """计划并提交一次；有启动时返回 True（也许还能再放）。"""
        with connection.begin():
            nodes = load_nodes(connection)
            queue = load_queue(connection, self._settings.default_memory_mb_per_cpu)
            plan = plan_first_fit(nodes, queue.needs)
            mark_waiting(connection, [*plan.waiting, *queue.waiting])
            starts = _starts(plan, queue.revisions)
            started = commit_starts(connection, epoch, starts)
        self._dispatch(starts, started)
        return bool(started)

    def _dispatch(self, starts: Sequence[Start], started: Sequence[Started]) -> None:
        """每个节点一条消息；Valkey 不在时代理靠核对数据库补上。"""
        by_node: dict[str, list[int]] = {}
        for row in started:
            for share in starts[row.index].shares:
                by_node.setdefault(share.node_name, []).append(row.job_id)
        self._send({node: [Message("launch", {"job_ids": ids})] for node, ids in by_node.items()})

    def _send(self, messages: Mapping[str, Sequence[Message]]) -> None:
        try:
            self._publisher.send(messages)
        except BusUnavailable as error:
            logger.warning("bus_unavailable", extra={"error": str(error), "nodes": sorted(messages)})

    def _wait(self, connection: Connection) -> None:
        """等收件箱的通知，或到该续租的时候。"""
        with connection.begin():
            pending = connection.scalar(sa.text("SELECT EXISTS (SELECT FROM scheduler_inbox)"))
        if pending:
            return
        # 上面的查询之后才到的通知会使套接字可读；之前到的由 pending 看见，所以不会漏。
        select.select([_driver(connection).fileno()], [], [], min(self._settings.scheduler_lease_s / 3, RETRY_S))


def _driver(connection: Connection) -> "psycopg.Connection[Any]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _starts(plan: Plan, revisions: Mapping[int, int]) -> list[Start]:
    return [
        Start(
            placement.job_id,
            revisions[placement.job_id],
            None,
            False,
            placement.node_name,
            (Share(placement.node_name, placement.cpus, placement.memory, {}, 1),),
        )
        for placement in plan.placements
    ]


def main() -> None:
    """python -m scns_conductor.worker.scheduler：只运行调度进程。"""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        scheduler = Scheduler(load_settings())
    except ConductorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.stop())
    scheduler.run()


if __name__ == "__main__":
    main()
