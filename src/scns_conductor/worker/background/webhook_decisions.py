"""webhook 要送什么：把上次之后出的事读下来，说给订阅的，在一个事务里连同读到哪里一起记下——不漏，也不多。"""

import threading

from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.webhooks import JOB_EVENTS
from scns_conductor.statements import webhook_deliveries as statements
from scns_conductor.worker.background.event_tail import EventTail
from scns_conductor.worker.background.webhook_events import (
    Subscription,
    Told,
    subscriptions,
    told_of_cluster,
    told_of_jobs,
    told_of_reservations,
)

# 一次读这么多件。
EVENTS_MOST = 1000
# 一条语句至多看过这么多个号：停了很久再起来的，也不一口气从头扫到尾。
RANGE_MOST = 100_000
# 一个地址至多积压这么多件，再多的不记，数着。
BACKLOG_MOST = 10_000
# 领导者这么多个租期没有续，也没有人接任，就算不见了。
LEASES_MISSED = 5
# 正在写历史的事务多半几毫秒就完：稍等，免得都晚一轮。
WRITERS_WAIT_S = 0.02
WRITERS_LOOKS = 10


class WebhookDecisions:
    """定下要送的。"""

    def __init__(self, engine: Engine, cluster: str, lease_s: float) -> None:
        self._engine = engine
        self._cluster = cluster
        self._silent_s = LEASES_MISSED * lease_s
        self._jobs = EventTail("job_events", statements.JOB_EVENTS_REACHED)
        self._events = EventTail("cluster_events", statements.CLUSTER_EVENTS_REACHED)

    def look(self, stopping: threading.Event) -> None:
        """看一遍。没有订阅就什么也不读；数据库不在时抛 DBAPIError。"""
        with self._engine.begin() as connection:
            rows = connection.execute(statements.ACTIVE_WEBHOOKS).all()
            if not rows:
                return
            parents: dict[str, str | None] = {}
            coordinators: set[tuple[str, str]] = set()
            if any(row.scope == "account" for row in rows):
                parents = {row.name: row.parent for row in connection.execute(statements.ACCOUNT_PARENTS)}
                coordinators = {(row.user_name, row.account) for row in connection.execute(statements.COORDINATORS)}
            hooks = subscriptions(rows, parents, coordinators)
            if not hooks:
                return
            if any("scheduler.failed" in hook.events for hook in hooks):
                connection.execute(statements.NOTE_LOST_SCHEDULER, {"silent_s": self._silent_s})
            until = self._jobs.settled(connection), self._events.settled(connection)
        for _ in range(WRITERS_LOOKS):
            if not (self._jobs.waiting or self._events.waiting) or stopping.wait(WRITERS_WAIT_S):
                break
            with self._engine.begin() as connection:
                until = self._jobs.settled(connection), self._events.settled(connection)
        while not stopping.is_set():
            with self._engine.begin() as connection:
                if not self._step(connection, hooks, until):
                    return

    def _step(self, connection: Connection, hooks: list[Subscription], until: tuple[int, int]) -> bool:
        """往前一段；还有没读完的返回 True。"""
        cursor = connection.execute(statements.LOCK_CURSOR).one_or_none()
        if cursor is None:
            # 别的后台进程正在定。
            return False
        # 没有订阅的时候没有往前读：那些事谁也不要。
        job_after = max(cursor.job_event, min(hook.after_job_event for hook in hooks))
        cluster_after = max(cursor.cluster_event, min(hook.after_cluster_event for hook in hooks))
        since = max(cursor.looked_at, min(hook.created_at for hook in hooks))
        job_rows, cluster_rows = [], []
        job_until = min(until[0], job_after + RANGE_MOST)
        about_jobs = [hook for hook in hooks if not hook.events.isdisjoint(JOB_EVENTS)]
        if job_after < job_until and about_jobs:
            job_rows = list(
                connection.execute(
                    statements.JOB_EVENTS_AFTER,
                    {
                        "after": job_after,
                        "until": job_until,
                        "everyone": any(hook.scope == "cluster" for hook in about_jobs),
                        "user_names": sorted({hook.user_name for hook in about_jobs if hook.scope == "user"}),
                        "accounts": sorted({name for hook in about_jobs for name in hook.accounts}),
                        "most": EVENTS_MOST,
                    },
                )
            )
        if cluster_after < until[1]:
            values = {"after": cluster_after, "until": until[1], "most": EVENTS_MOST}
            cluster_rows = list(connection.execute(statements.CLUSTER_EVENTS_AFTER, values))
        told = told_of_jobs(job_rows, hooks, self._cluster) + told_of_cluster(cluster_rows, hooks, self._cluster)
        timed = any(hook.scope == "cluster" and _timed(hook) for hook in hooks)
        if timed:
            found = connection.execute(statements.RESERVATIONS_NOW, {"since": since}).all()
            told += told_of_reservations(found, hooks, self._cluster, since, cursor.now)
        _add(connection, told)
        full = len(job_rows) == EVENTS_MOST, len(cluster_rows) == EVENTS_MOST
        moved = {
            "job_event": job_rows[-1].event_id if full[0] else max(cursor.job_event, job_until),
            "cluster_event": cluster_rows[-1].event_id if full[1] else max(cursor.cluster_event, until[1]),
            "looked_at": cursor.now,
        }
        if timed or (cursor.job_event, cursor.cluster_event) != (moved["job_event"], moved["cluster_event"]):
            connection.execute(statements.MOVE_CURSOR, moved)
        return any(full) or job_until < until[0]


def _timed(hook: Subscription) -> bool:
    return not hook.events.isdisjoint(("reservation.started", "reservation.ended"))


def _add(connection: Connection, told: list[Told]) -> None:
    if told:
        values = {
            "webhook_ids": [each.webhook_id for each in told],
            "events": [each.event for each in told],
            "payloads": [each.payload for each in told],
            "most": BACKLOG_MOST,
        }
        connection.execute(statements.ADD_DELIVERIES, values)
