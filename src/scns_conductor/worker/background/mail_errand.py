"""后台的邮件：触发器记下的变化 → 定下要发的 → 到时候的排进队列；另一个线程取来发。"""

import logging

from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import BACKGROUND
from scns_conductor.statements import notifications
from scns_conductor.worker.background.delivery import Delivery
from scns_conductor.worker.background.occasions import FAILURES, Change, Due, due, ended_arrays
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.wire.bus_messages import Deliver

# 一次看这么多变化，一条消息带这么多封。
CHANGES_MOST = 1000
DUE_MOST = 500
BATCH = 50
# 排出去这么久没有结果，就当发的一方死了，再排。
LEASE_S = 300.0

logger = logging.getLogger(__name__)


class MailErrand:
    """邮件。"""

    queue = BACKGROUND
    function = Deliver.function

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._delivery = Delivery(engine, settings)

    def look(self, publisher: Publisher) -> None:
        """看一遍：定下要发的，到时候的排进队列；队列不在就当场发。"""
        with self._engine.begin() as connection:
            while _decide(connection, self._settings) == CHANGES_MOST:
                pass
        with self._engine.begin() as connection:
            found = connection.execute(notifications.TAKE_DUE, {"lease_s": LEASE_S, "most": DUE_MOST})
            ids = sorted(found.scalars())
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        if not batches:
            return
        try:
            publisher.send({self.queue: [Message.of(Deliver(notification_ids=batch)) for batch in batches]})
        except BusUnavailable as error:
            logger.warning("bus_unavailable", extra={"error": str(error)})
            for batch in batches:
                self._delivery.deliver(batch)

    def handle(self, message: Deliver) -> None:
        """发这些。"""
        self._delivery.deliver(message.notification_ids)

    def stop(self) -> None:
        """没有要停的：一封在发就发完。"""


def _decide(connection: Connection, settings: Settings) -> int:
    """触发器记下的变化 -> 要发的，在一个事务里：看过与定下要么都有，要么都没有。返回看了几个。"""
    rows = connection.execute(notifications.TAKE_NOTICES, {"most": CHANGES_MOST}).all()
    changes = [Change(**row._mapping) for row in rows]
    arrays = ended_arrays(changes)
    unfinished: set[int] = set()
    failed: set[int] = set()
    if arrays:
        named = {"array_job_ids": arrays}
        unfinished = set(connection.execute(notifications.UNFINISHED_ARRAYS, named).scalars())
        failed = set(connection.execute(notifications.FAILED_ARRAYS, {**named, "failures": sorted(FAILURES)}).scalars())
    wanted = due(changes, unfinished, failed)
    wanted += [
        Due(row.job_id, row.restart_count, row.occasion, row.mail_user or row.user_name, row.user_name)
        for row in connection.execute(notifications.TIME_LIMITS_REACHED)
    ]
    if wanted:
        connection.execute(
            notifications.ADD,
            {
                "job_ids": [one.job_id for one in wanted],
                "restart_counts": [one.restart_count for one in wanted],
                "occasions": [one.occasion for one in wanted],
                "recipients": [one.recipients for one in wanted],
                "user_names": [one.user_name for one in wanted],
                "hourly_limit": settings.mail_hourly_limit,
                "refusal": f"一小时里超过了 {settings.mail_hourly_limit} 封（mail_hourly_limit）",
            },
        )
    return len(rows)
