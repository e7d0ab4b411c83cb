"""后台的 webhook：出的事 → 定下要送的 → 到时候的地址排进队列；另一个线程取来，交给各自的线程送。"""

import logging
import threading

from sqlalchemy.engine import Engine

from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import WEBHOOKS
from scns_conductor.worker.background.webhook_decisions import WebhookDecisions
from scns_conductor.worker.background.webhook_posts import WebhookPosts
from scns_conductor.worker.bus import BusUnavailable, Message, Publisher
from scns_conductor.worker.wire.bus_messages import PostWebhook

logger = logging.getLogger(__name__)


class WebhookErrand:
    """webhook。"""

    queue = WEBHOOKS
    function = PostWebhook.function

    def __init__(self, engine: Engine, settings: Settings, stopping: threading.Event) -> None:
        self._decisions = WebhookDecisions(engine, settings.cluster_name, settings.scheduler_lease_s)
        self._posts = WebhookPosts(engine, settings)
        self._stopping = stopping

    def look(self, publisher: Publisher) -> None:
        """看一遍；队列不在就直接交给线程。"""
        self._decisions.look(self._stopping)
        due = self._posts.take_due()
        if not due:
            return
        try:
            told = [PostWebhook(webhook_id=webhook_id, user_name=user_name) for webhook_id, user_name in due]
            publisher.send({self.queue: [Message.of(each) for each in told]})
        except BusUnavailable as error:
            logger.warning("bus_unavailable", extra={"error": str(error)})
            for webhook_id, user_name in due:
                self._posts.submit(webhook_id, user_name)

    def handle(self, message: PostWebhook) -> None:
        """送这个地址的，不等送完。"""
        self._posts.submit(message.webhook_id, message.user_name)

    def stop(self) -> None:
        """不再送新的。"""
        self._posts.stop()
