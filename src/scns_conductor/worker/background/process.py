"""后台进程的一生：隔一会儿看一遍各样差事（邮件、webhook），到时候的排进队列；各有一个线程取来办。节能时还有一个线程管节点的电源。"""

import logging
import threading
from typing import Any, Protocol

from sqlalchemy.engine import Engine

from scns_conductor.core.database import DATABASE_TROUBLE, sync_engine
from scns_conductor.core.errors import first_line
from scns_conductor.core.schema_version import await_schema
from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import queue_name
from scns_conductor.statements.incarnation import CURRENT_INCARNATION
from scns_conductor.worker.background.mail_errand import MailErrand
from scns_conductor.worker.background.power import PowerKeeper
from scns_conductor.worker.background.webhook_errand import WebhookErrand
from scns_conductor.worker.background.webhook_posts import THREADS
from scns_conductor.worker.bus import BusUnavailable, Consumer, Publisher
from scns_conductor.worker.lifetime import run_process

LOOK_S = 2.0
RETRY_S = 1.0
BUS_WAIT_S = 5

logger = logging.getLogger(__name__)


class Errand(Protocol):
    """一样差事。"""

    @property
    def queue(self) -> str:
        """它的队列。"""

    @property
    def function(self) -> str:
        """队列里的消息的名字。"""

    def look(self, publisher: Publisher) -> None:
        """看一遍，到时候的排进队列；数据库不在时抛 DBAPIError。"""

    def handle(self, message: Any) -> None:
        """队列里来了一条。"""

    def stop(self) -> None:
        """不再办新的。"""


class Background:
    """后台进程。stop 可以从信号处理器里调用。"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        # 眼前是哪个数据库；每看一遍问一次，恢复到从前就换。
        self._incarnation: str | None = None
        self._publisher = Publisher(settings.redis_url.get_secret_value(), lambda: self._incarnation)

    def stop(self) -> None:
        """请求停止。"""
        self._stopping.set()

    def run(self) -> None:
        """直到停止；数据库、Valkey 不在时稍后再试。"""
        engine = sync_engine(
            self._settings, pool_size=2 + (THREADS if self._settings.webhooks else 0), role="background"
        )
        errands = self._errands(engine)
        power = PowerKeeper(self._settings, self._stopping)
        power.start()
        started = False
        while not self._stopping.is_set():
            try:
                if not started and not await_schema(engine, self._stopping):
                    break
                with engine.begin() as connection:
                    self._incarnation = connection.scalar(CURRENT_INCARNATION)
                if not started:
                    for errand in errands:
                        threading.Thread(
                            target=self._consume, args=(errand,), name=errand.function, daemon=True
                        ).start()
                    started = True
                for errand in errands:
                    errand.look(self._publisher)
            except DATABASE_TROUBLE as error:
                logger.warning("database_unavailable", extra={"error": first_line(error)})
            self._stopping.wait(LOOK_S)
        for errand in errands:
            errand.stop()
        power.stop()
        engine.dispose()
        self._publisher.close()

    def _errands(self, engine: Engine) -> list[Errand]:
        found: list[Errand] = []
        if self._settings.webhooks:
            found.append(WebhookErrand(engine, self._settings, self._stopping))
        if self._settings.smtp_host is not None:
            found.append(MailErrand(engine, self._settings))
        return found

    def _consume(self, errand: Errand) -> None:
        def handle(message: Any) -> None:
            try:
                errand.handle(message)
            except DATABASE_TROUBLE as error:
                logger.warning("database_unavailable", extra={"error": first_line(error)})

        consumer = Consumer(
            self._settings.redis_url.get_secret_value(),
            queue_name(errand.queue),
            {errand.function: handle},
            lambda: self._incarnation,
        )
        while not self._stopping.is_set():
            try:
                consumer.handle_next(BUS_WAIT_S)
            except BusUnavailable as error:
                logger.warning("bus_unavailable", extra={"error": str(error)})
                self._stopping.wait(RETRY_S)
        consumer.close()


def main() -> None:
    """python -m scns_conductor.worker.background.process。"""
    run_process(Background)


if __name__ == "__main__":
    main()
