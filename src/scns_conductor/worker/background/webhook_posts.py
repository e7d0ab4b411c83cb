"""webhook 送出去：一个地址同时只有一个线程在送，一个送不动的地址只占它自己那一个。"""

import http.client
import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy.engine import Engine

from scns_conductor.core.database import DATABASE_TROUBLE
from scns_conductor.core.errors import first_line
from scns_conductor.core.settings import Settings
from scns_conductor.statements import webhook_deliveries as statements
from scns_conductor.worker.background.http_post import AddressRefused, post
from scns_conductor.worker.background.retries import GIVE_UP_S, NEVER, retry_s
from scns_conductor.worker.background.webhook_message import LINES_MOST, refused, request_of
from scns_conductor.worker.host.thread_owner import Lanes

# 同时送这么多个地址，一个人的至多占这么多个线程。
THREADS = 16
THREADS_OF_USER = 4
# 一个地址一次送这么久就让给别的排队的。
SLICE_S = 5.0
# 每个请求之前续租，租期比一个请求的上限长这么多。
LEASE_MARGIN_S = 20.0
# 接连这么多件都没有收下，就不是哪一件的毛病：整个地址等一等。
ENOUGH_REFUSED = 5
# 那边暂时不行的状态码：整个地址等一等。
_AWAY = frozenset({429, 502, 503, 504})
_GONE = 410

logger = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """一次请求的结果。away 是整个地址不行，不是这一件的毛病。"""

    error: str | None = None
    status: int | None = None
    away: bool = False
    never: bool = False
    gone: bool = False
    wait_s: float = 0.0


class WebhookPosts:
    """到时候的地址，各在自己的道上送。"""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._lanes = Lanes("webhook", most=THREADS, most_of_group=THREADS_OF_USER)
        self._lease_s = settings.webhook_timeout_s + LEASE_MARGIN_S
        self._stopped = False

    def take_due(self) -> list[tuple[int, str]]:
        """到时候的（编号，谁的），租下来；数据库不在时抛 DBAPIError。"""
        with self._engine.begin() as connection:
            return [tuple(row) for row in connection.execute(statements.TAKE_DUE_WEBHOOKS, {"lease_s": self._lease_s})]

    def submit(self, webhook_id: int, user_name: str) -> None:
        """排到它的道上，不等。"""
        self._lanes.submit(webhook_id, lambda: self._run(webhook_id), group=user_name)

    def stop(self) -> None:
        """不再送新的；正在送的那一个请求不等。"""
        self._stopped = True
        self._lanes.close()

    def _run(self, webhook_id: int) -> None:
        try:
            self._slice(webhook_id)
        except DATABASE_TROUBLE as error:
            # 送到了而没有记下的，租期过了再送一遍：webhook-id 是同一个。
            logger.warning("database_unavailable", extra={"error": first_line(error)})

    def _slice(self, webhook_id: int) -> None:
        """送到没有到时候的、或够久了为止。"""
        began = time.monotonic()
        while True:
            over = self._stopped or time.monotonic() - began > SLICE_S
            with self._engine.begin() as connection:
                values = {"webhook_id": webhook_id, "lease_s": self._lease_s}
                hook = None if over else connection.execute(statements.RENEW_WEBHOOK_LEASE, values).one_or_none()
                due: Sequence[Any] = []
                if hook is not None:
                    most = 1 if hook.format == "json" else LINES_MOST
                    due = connection.execute(statements.DUE_OF_WEBHOOK, {"webhook_id": webhook_id, "most": most}).all()
                if not due:
                    connection.execute(statements.RELEASE_WEBHOOK_LEASE, {"webhook_id": webhook_id})
                    return
            self._settle(webhook_id, hook, due, self._post(hook, due))

    def _post(self, hook: Any, due: Sequence[Any]) -> _Outcome:
        limit_s, allowed = self._settings.webhook_timeout_s, self._settings.webhook_allowed_networks
        messages = [(row.message_id, row.payload) for row in due]
        language = self._settings.mail_language
        try:
            request = request_of(hook.format, hook.url, hook.secret, messages, time.time(), language)
        except (KeyError, TypeError, ValueError) as error:
            # 存下的内容写不成请求：再试也一样，不能让它杀死整个进程。
            return _Outcome(f"写不成请求：{error!r}", never=True)
        try:
            answer = post(request.url, request.headers, request.body, allowed, limit_s)
        except AddressRefused as error:
            return _Outcome(str(error), never=True)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            return _Outcome(f"连不上：{error or type(error).__name__}", away=True)
        if 200 <= answer.status < 300:
            said = refused(hook.format, answer.body)
            return _Outcome(said, answer.status, away=said is not None)
        told = f"那边答 {answer.status}" + ("；不跟重定向，请改订阅的地址" if 300 <= answer.status < 400 else "")
        return _Outcome(
            told, answer.status, away=answer.status in _AWAY, gone=answer.status == _GONE,
            wait_s=answer.retry_after_s or 0.0,
        )  # fmt: skip

    def _settle(self, webhook_id: int, hook: Any, due: Sequence[Any], outcome: _Outcome) -> None:
        """记下这一次；没有送到的过一会儿再试，整个地址不行的都等着。"""
        waits = [0.0 if outcome.error is None else _wait_s(outcome, row) for row in due]
        failures = 0 if outcome.error is None else hook.failures + 1
        paused = outcome.error is not None and (outcome.away or failures >= ENOUGH_REFUSED) and not outcome.never
        wait_s = max(outcome.wait_s, retry_s(failures, 0.0)) if paused else 0.0
        with self._engine.begin() as connection:
            if outcome.error is not None or hook.failures:
                # 订阅的行在前，同删掉它的人一个次序：反过来两边互相等。
                connection.execute(
                    statements.BACK_OFF,
                    {"webhook_id": webhook_id, "failures": failures, "active": not outcome.gone, "wait_s": wait_s},
                )
            connection.execute(
                statements.DELIVERED,
                {
                    "delivery_ids": [row.delivery_id for row in due],
                    "retries_s": waits,
                    "error": outcome.error,
                    "status_code": outcome.status,
                },
            )
            if paused:
                connection.execute(
                    statements.GIVE_UP,
                    {"webhook_id": webhook_id, "error": outcome.error, "age_s": GIVE_UP_S},
                )
        if outcome.error is not None:
            # 地址里有密钥：只说主机。
            host = urlsplit(hook.url).hostname
            logger.warning(
                "webhook_failed",
                extra={"webhook_id": webhook_id, "host": host, "error": outcome.error, "wait_s": wait_s},
            )


def _wait_s(outcome: _Outcome, row: Any) -> float:
    wait_s = NEVER if outcome.never else retry_s(row.attempts + 1, row.age_s)
    return wait_s if wait_s < 0 else max(outcome.wait_s, wait_s)
