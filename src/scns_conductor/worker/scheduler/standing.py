"""到时、遇事提交的作业：crontab 的上一次结束了就提交下一次（在那个时刻才开始），触发的事发生了就提交它的程序。

都是平常的作业：属于定下它的人，照常排队，由节点换成那个人的身份运行；提交与划掉触发是一个事务，重启、换领导者都不会多做、少做。
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core import hostlist
from scns_conductor.core.cron import next_run
from scns_conductor.core.node_events import CLUSTER_EVENTS, NODE_EVENTS
from scns_conductor.statements.standing import (
    CLUSTER_EVENTS_NOTED,
    CRON_DISABLE,
    CRON_DUE,
    CRON_RUNS,
    DEFAULTS,
    JOB_TRIGGERS,
    NODE_STATES,
    NODE_TRIGGERS,
    STANDING_EXISTS,
    TRIGGER_RUNS,
    TRIGGERS_DELETE,
    TRIGGERS_SEEN,
)

# 有 crontab、有触发时隔这么久（秒）看一次。
LOOK_S = 3.0

logger = logging.getLogger(__name__)


class StandingOrders:
    """领导者看着的；没有人用 scrontab、strigger 时什么也不问。"""

    def __init__(self) -> None:
        self._any = True
        self._looked = float("-inf")

    def changed(self) -> None:
        """有人改了 crontab、触发，或刚当选：马上看。"""
        self._any, self._looked = True, float("-inf")

    def due(self, now_s: float) -> bool:
        """该看了没有；now_s 是 time.monotonic。"""
        return self._any and now_s - self._looked >= LOOK_S

    def look(self, connection: Connection, now_s: float, clock: float) -> list[int]:
        """看一遍，返回新提交的作业号；clock 是数据库的此刻（Unix 秒）。"""
        self._looked = now_s
        with connection.begin():
            self._any = bool(connection.scalar(STANDING_EXISTS))
        if not self._any:
            return []
        return [*_cron_runs(connection, clock), *_trigger_runs(connection, clock)]


def _cron_runs(connection: Connection, clock: float) -> list[int]:
    with connection.begin():
        rows = connection.execute(CRON_DUE).all()
    stopped = [row.entry_id for row in rows if row.stopped]
    wanted: list[tuple[int, int, datetime]] = []
    for row in rows:
        if row.stopped:
            continue
        after = datetime.fromtimestamp(clock, UTC) if row.after is None else row.after
        try:
            wanted.append((row.entry_id, row.job_id or 0, next_run(row.schedule, row.timezone, after)))
        except ValueError as error:
            # 定下时核对过：多半是这台机器没有那个时区的资料。
            logger.warning("cron_entry_unreadable", extra={"entry_id": row.entry_id, "error": str(error)})
            stopped.append(row.entry_id)
    if stopped:
        with connection.begin():
            connection.execute(CRON_DISABLE, {"entry_ids": stopped})
        logger.info("cron_entries_disabled", extra={"entry_ids": stopped})
    return _submitted(connection, CRON_RUNS, ("entry_ids", "former_ids", "begin_times"), wanted, CRON_DISABLE)


def _trigger_runs(connection: Connection, clock: float) -> list[int]:
    """作业的与节点的；不会再发生的（作业已经结束）划掉。"""
    fired: list[tuple[int, str, str]] = []
    over: list[int] = []
    with connection.begin():
        for row in connection.execute(JOB_TRIGGERS).all():
            ended = not row.rows or row.ended
            moment = (row.end_time if row.rows else None) if row.event == "fini" else row.limit_time
            happened = ended if row.event == "fini" else row.event == "time" and moment is not None
            reached = clock if moment is None else moment.timestamp() + row.offset_s
            if happened and reached <= clock:
                fired.append((row.trigger_id, str(row.job_id), "[]"))
            elif ended and row.event != "fini":
                over.append(row.trigger_id)
        if over:
            connection.execute(TRIGGERS_DELETE, {"trigger_ids": over})
        fired += _node_events(connection, clock)
    return _submitted(connection, TRIGGER_RUNS, ("trigger_ids", "resources", "done"), fired, TRIGGERS_DELETE)


def _node_events(connection: Connection, clock: float) -> list[tuple[int, str, str]]:
    """变成了触发要看的样子的节点；记下此刻哪些是那样，下次只看新的。做过的由 TRIGGER_RUNS 划掉。"""
    triggers = connection.execute(NODE_TRIGGERS).all()
    if not triggers:
        return []
    nodes = connection.execute(NODE_STATES).all()
    like = {event: {node.name for node in nodes if test(node)} for event, test in NODE_EVENTS.items()}
    noted = sorted({CLUSTER_EVENTS[row.event] for row in triggers if row.event in CLUSTER_EVENTS})
    if noted:
        # 出过的一件一件，同变了样子的节点一样：没有看过的就是新的。
        found = connection.execute(CLUSTER_EVENTS_NOTED, {"events": noted}).all()
        like |= {
            name: {each.event_id for each in found if each.event == event} for name, event in CLUSTER_EVENTS.items()
        }
    fired, changed = [], []
    for row in triggers:
        if row.event not in like:
            # 新一版的程序定下的：这一版不懂，留给它。
            continue
        matching = like[row.event] if row.nodes is None else like[row.event] & set(row.nodes)
        hits: Mapping[str, float] = row.hits
        if row.event == "idle":
            hits = {name: due for name, due in hits.items() if name in matching}
        wait_s = max(row.offset_s, 0)
        hits = {**hits, **dict.fromkeys(matching - set(row.seen), clock + wait_s)}
        if matching != set(row.seen) or hits != row.hits:
            changed.append((row.trigger_id, json.dumps(sorted(matching)), json.dumps(hits)))
        ready = sorted(name for name, due in hits.items() if due <= clock)
        if ready:
            resource = "*" if row.event in CLUSTER_EVENTS else hostlist.compress(ready)
            fired.append((row.trigger_id, resource, json.dumps(ready)))
    if changed:
        connection.execute(TRIGGERS_SEEN, _columns(("trigger_ids", "seen", "hits"), changed))
    return fired


def _submitted(
    connection: Connection,
    statement: sa.TextClause,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    give_up: sa.TextClause,
) -> list[int]:
    """一条语句全部提交；有一个存下的作业数据库不收，就对半分开再来，不收的那个不再做（give_up）。"""
    if not rows:
        return []
    try:
        with connection.begin():
            return list(connection.scalars(statement, {**DEFAULTS, **_columns(names, rows)}))
    except (sa.exc.DataError, sa.exc.IntegrityError) as error:
        if len(rows) > 1:
            middle = len(rows) // 2
            halves = rows[:middle], rows[middle:]
            return [job for half in halves for job in _submitted(connection, statement, names, half, give_up)]
        logger.warning("standing_order_refused", extra={names[0]: rows[0][0], "error": str(error.orig)})
        key = "entry_ids" if give_up is CRON_DISABLE else "trigger_ids"
        with connection.begin():
            connection.execute(give_up, {key: [rows[0][0]]})
        return []


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    columns: Iterable[tuple[Any, ...]] = zip(*rows, strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}
