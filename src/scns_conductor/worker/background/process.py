"""后台进程的一生：看变化 → 定下要发的 → 到时候的排进队列；另一个线程取来发。节能时还有一个线程管节点的电源。"""

import logging
import signal
import sys
import threading

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.statements import notifications
from scns_conductor.worker.background.delivery import Delivery
from scns_conductor.worker.background.occasions import FAILURES, Change, Due, due, ended_arrays
from scns_conductor.worker.background.power import PowerKeeper
from scns_conductor.worker.bus import BACKGROUND, BusUnavailable, Consumer, Message, Publisher, queue_name
from scns_conductor.worker.host.thread_owner import own_every_thread
from scns_conductor.worker.wire.bus_messages import Deliver

LOOK_S = 2.0
RETRY_S = 1.0
BUS_WAIT_S = 5
# 一次看这么多变化，一条消息带这么多封。
CHANGES_MOST = 1000
DUE_MOST = 500
BATCH = 50
# 排出去这么久没有结果，就当发的一方死了，再排。
LEASE_S = 300.0

logger = logging.getLogger(__name__)


class Background:
    """后台进程。stop 可以从信号处理器里调用。"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._publisher = Publisher(settings.redis_url.get_secret_value())

    def stop(self) -> None:
        """请求停止。"""
        self._stopping.set()

    def run(self) -> None:
        """直到停止；数据库、Valkey 不在时稍后再试。"""
        engine = sync_engine(self._settings, pool_size=2, role="background")
        delivery = Delivery(engine, self._settings)
        consumer = threading.Thread(target=self._consume, args=(delivery,), name="deliver", daemon=True)
        power = PowerKeeper(self._settings, self._stopping)
        power.start()
        started = False
        while not self._stopping.is_set():
            try:
                if not started:
                    if not await_schema(engine, self._stopping):
                        break
                    consumer.start()
                    started = True
                self.look(engine, delivery)
            except sa.exc.SQLAlchemyError as error:
                logger.warning("database_unavailable", extra={"error": str(error).splitlines()[:1]})
            self._stopping.wait(LOOK_S)
        power.stop()
        engine.dispose()
        self._publisher.close()

    def look(self, engine: Engine, delivery: Delivery) -> None:
        """看一遍：定下要发的，到时候的排进队列；队列不在就当场发。"""
        with engine.begin() as connection:
            while _decide(connection, self._settings) == CHANGES_MOST:
                pass
        with engine.begin() as connection:
            found = connection.execute(notifications.TAKE_DUE, {"lease_s": LEASE_S, "most": DUE_MOST})
            ids = sorted(found.scalars())
        batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        if not batches:
            return
        try:
            self._publisher.send(
                {BACKGROUND: [Message(Deliver.function, {"notification_ids": batch}) for batch in batches]}
            )
        except BusUnavailable as error:
            logger.warning("bus_unavailable", extra={"error": str(error)})
            for batch in batches:
                delivery.deliver(batch)

    def _consume(self, delivery: Delivery) -> None:
        def handle(message: Deliver) -> None:
            try:
                delivery.deliver(message.notification_ids)
            except sa.exc.SQLAlchemyError as error:
                logger.warning("database_unavailable", extra={"error": str(error).splitlines()[:1]})

        consumer = Consumer(
            self._settings.redis_url.get_secret_value(), queue_name(BACKGROUND), {Deliver.function: handle}
        )
        while not self._stopping.is_set():
            try:
                consumer.handle_next(BUS_WAIT_S)
            except BusUnavailable as error:
                logger.warning("bus_unavailable", extra={"error": str(error)})
                self._stopping.wait(RETRY_S)
        consumer.close()


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


def main() -> None:
    """python -m scns_conductor.worker.background.process。"""
    try:
        settings = load_settings()
        configure_logging(settings)
        own_every_thread()
        background = Background(settings)
    except ConductorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: background.stop())
    background.run()


if __name__ == "__main__":
    main()
