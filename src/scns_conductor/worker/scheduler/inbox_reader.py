"""取走收件箱，更新记忆：变化照现在的重读，请求转给节点，提问交给子进程。"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.scheduling.cluster_facts import NodeShare
from scns_conductor.statements.answers import answer_insert, notify_answer
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.statements.inbox import DRAIN_INBOX, DRAIN_MOST
from scns_conductor.worker.bus import sync_message
from scns_conductor.worker.scheduler.dispatcher import Dispatcher
from scns_conductor.worker.scheduler.forwarding import FORWARDED, messages_for
from scns_conductor.worker.scheduler.questions import Questions
from scns_conductor.worker.scheduler.session import one_by_one
from scns_conductor.worker.scheduler.silent_nodes import take_back_unclaimed
from scns_conductor.worker.scheduler.state import RELAY_REST_S, REST_S, SchedulerState

QUESTIONS = frozenset({"explain", "plan", "priorities", "schedule", "shares", "utilisation"})
# 作业变了，要重读：挂起的何时结束就不知道了，恢复的又知道了。
CHANGES = frozenset({"jobs", "suspend", "resume"})

# 取到过的号，过了这么久（秒）就当作以前的都提交了；提交得更晚的，从头看时取。
SETTLED_S = 5.0

_DRAIN = HotStatement(DRAIN_INBOX)


class InboxReader:
    """收件箱的读者。"""

    def __init__(self, state: SchedulerState, dispatcher: Dispatcher, questions: Questions) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._questions = questions
        # 取到过哪里（什么时候，最大的号）；这以前的不再看。
        self._taken: deque[tuple[float, int]] = deque()
        self._floor = 0

    def look_from_the_start(self) -> None:
        """下一次从头看：号在前、提交在后的，与锁着时跳过的，也取得到。上任时与定期核对时。"""
        self._floor = 0
        self._taken.clear()

    def _rows(self, connection: Connection) -> list[dict[str, Any]]:
        with one_by_one(connection), connection.begin():
            rows = _DRAIN.mappings(connection, {"floor": self._floor})
        now = time.monotonic()
        if rows:
            self._taken.append((now, max(row["inbox_id"] for row in rows)))
        while self._taken and now - self._taken[0][0] >= SETTLED_S:
            self._floor = max(self._floor, self._taken.popleft()[1])
        return rows

    def drain(self, connection: Connection) -> bool:
        """取走收件箱，更新记忆，转发请求；返回有没有与计划有关的变化。

        各条语句自成事务：取走之后、读完之前断了线，重新上任时整个重装，什么也不漏。
        """
        rows = self._rows(connection)
        if not rows:
            return False
        # 一次取不完的，不等通知，接着取。
        self._state.notified |= len(rows) == DRAIN_MOST
        now = self._state.clock.now()
        kinds = {row["kind"] for row in rows}
        if "standing" in kinds:
            self._state.standing.changed()
        self._state.resettled |= "settings" in kinds
        if kinds & {"accounting", "config", "nodes"}:
            with connection.begin():
                self._reload(connection, rows, now)
        if "nodes" in kinds:
            # 记忆里已经不往停下了的节点上放，放上去了没有人认领的：收回。
            with connection.begin():
                returned = take_back_unclaimed(connection)
            self._dispatcher.send({node: [sync_message(ids)] for node, ids in returned.items()})
        relayed = sorted((row for row in rows if row["kind"] == "relayed"), key=lambda row: int(row["inbox_id"]))
        ended = {job_id for row in rows if row["kind"] == "ended" for job_id in row["job_ids"]}
        jobs = {job_id for row in rows if row["kind"] in CHANGES for job_id in row["job_ids"]}
        with one_by_one(connection), connection.begin():
            self._relayed(connection, relayed, now)
            for row in rows:
                if row["kind"] == "ended":
                    self._state.relay.ended(self._state.memory, row["job_ids"], row["payload"].get("ran_ms") or ())
            # 结束了又重新排队的两种都有：照现在的重读。
            self._state.memory.ended(connection, ended - jobs, now)
            self._state.memory.refresh(connection, jobs, now)
        requests = sorted((row for row in rows if row["kind"] in FORWARDED), key=lambda row: int(row["inbox_id"]))
        self._dispatcher.send(messages_for(connection, requests))
        for row in rows:
            if row["kind"] in QUESTIONS:
                self._questions.add(row["kind"], row["payload"])
            elif row["kind"] == "diag":
                self._report(connection, row["payload"])
        if jobs or ended:
            waiting_on_relay = relayed and kinds <= {"ended", "relayed"}
            self._state.rest_until = time.monotonic() + (RELAY_REST_S if waiting_on_relay else REST_S)
        return bool(jobs or ended or kinds & {"config", "nodes", "accounting"})

    def _relayed(self, connection: Connection, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """节点接力启动了的，按先后记进记忆。"""
        unknown = []
        for row in rows:
            cpus, memory, tasks = row["payload"]["share"]
            node = self._state.memory.cluster.index.get(row["node_names"][0])
            shares = () if node is None else (NodeShare(node, cpus, memory, (), tasks),)
            chains = row["payload"].get("chains") or [None] * len(row["job_ids"])
            for job_id, (origin, task_id), chain in zip(row["job_ids"], row["payload"]["from"], chains, strict=True):
                self._state.statistics.started += 1
                waited = self._state.memory.waiting.get(origin)
                if waited is not None:
                    self._state.timings.waits.observe(max(0.0, now - waited.age_from))
                if not self._state.memory.relayed(job_id, origin, task_id, shares, now, chain):
                    unknown.append(job_id)
        self._state.memory.read_running(connection, unknown)

    def _reload(self, connection: Connection, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """管理员才做的改动，不常有：记账变了整个重装，分区、节点变了重读。"""
        kinds = {row["kind"] for row in rows}
        if "accounting" in kinds:
            # 上限变了，每个作业要的池都可能变。
            self._state.memory.load_all(connection, now)
            self._state.reprioritise = True
        if "config" in kinds:
            self._state.memory.load_partitions(connection, now)
        if "nodes" in kinds:
            names = {name for row in rows if row["kind"] == "nodes" for name in row["node_names"]}
            self._state.memory.load_nodes(connection, sorted(names) or None)
            # 节点下线会结束它的作业；agent 登记也从这里来。
            self._state.memory.load_partitions(connection, now)

    def _report(self, connection: Connection, payload: Mapping[str, Any]) -> None:
        """调度器的统计：只几次除法，当场回答。"""
        now, request_id = self._state.clock.now(), str(payload["request_id"])
        with connection.begin():
            connection.execute(answer_insert(request_id, self._state.statistics.report(now)))
            connection.execute(notify_answer(request_id))
        if payload.get("reset"):
            self._state.statistics.reset(now)
