"""一个轮询者，替全部标签页问 API：问同一件事的合成一次，答案没变就不送。"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.timing import Trouble
from scns_conductor.web.spoken import spoken
from scns_conductor.web.upstream import Upstream

# 多久看一次该问什么（秒）。一件事问了多久，就至少歇它的 PATIENCE 倍再问：API 慢了就问得慢，慢的不拖累快的。
INTERVAL_S = 0.5
PATIENCE = 2.0
# 同时在问的；问了 SLOW_S 秒还没有答的让出位子，接着等。
AT_ONCE = 8
SLOW_S = 1.0
# 谁问都一样的答案，用谁的令牌问都行；别的按令牌分开。
SHARED = frozenset(
    {
        "/jobs",
        "/jobs/arrays",
        "/nodes",
        "/nodemap",
        "/schedule",
        "/qos",
        "/accounts",
        "/partitions",
        "/dashboard",
        "/reservations",
        "/licenses",
        "/config",
    }
)
SHARED_PREFIXES = ("/reports/", "/nodes/")

# (正文, 错误)：正文是 JSON 的文字，出错时是 None。
Receive = Callable[[str | None, dict[str, object] | None], None]
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Watcher:
    """一个标签页里的一处：想知道 target 的答案，每 every_s 秒至多一次。"""

    target: str
    token: str
    language: str
    receive: Receive
    every_s: float


@dataclass
class _Topic:
    target: str
    language: str
    watchers: set[Watcher] = field(default_factory=set)
    due_at: float = -1e9
    asking: asyncio.Task[None] | None = None
    again: bool = False
    body: str | None = None
    error: dict[str, object] | None = None


class _Seat:
    """问 API 的一个位子：问完，或问了 SLOW_S 秒，就让出来。"""

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self._gate = gate
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        await self._gate.acquire()
        self._timer = asyncio.get_running_loop().call_later(SLOW_S, self.leave)

    def leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._gate.release()


class Feed:
    """全部标签页共用的一份。"""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._topics: dict[tuple[str, str, str], _Topic] = {}
        self._wake = asyncio.Event()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.tabs = 0
        self.questions = Trouble()

    @property
    def watched(self) -> tuple[int, int]:
        """看着的有几件不同的事，一共几处在看。"""
        topics = list(self._topics.values())
        return len(topics), sum(len(topic.watchers) for topic in topics)

    def watch(self, target: str, token: str, language: str, receive: Receive, every_s: float = 1.5) -> Watcher:
        """从此送来 target 的答案：先是已有的，之后每次变化；unwatch 为止。"""
        watcher = Watcher(target, token, language, receive, every_s)
        topic = self._topics.setdefault(_key(watcher), _Topic(target, language))
        topic.watchers.add(watcher)
        if topic.body is not None or topic.error is not None:
            receive(topic.body, topic.error)
        else:
            topic.due_at = -1e9
            self._wake.set()
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """不再要了；没有人要的事就不再问。"""
        topic = self._topics.get(_key(watcher))
        if topic is not None:
            topic.watchers.discard(watcher)
            if not topic.watchers:
                del self._topics[_key(watcher)]
                if topic.asking is not None:
                    topic.asking.cancel()

    def ask_now(self, session_token: str) -> None:
        """这个人刚刚改了什么：他看着的立即重问。"""
        for topic in self._topics.values():
            if any(watcher.token == session_token for watcher in topic.watchers):
                topic.due_at = -1e9
                topic.again = True
        self._wake.set()

    async def run(self) -> None:
        """谁到了时候就问谁，各问各的，直到被取消。"""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), INTERVAL_S)
                self._wake.clear()
                now = time.monotonic()
                for topic in self._topics.values():
                    if topic.asking is None and now >= topic.due_at:
                        topic.asking = asyncio.create_task(self._ask(topic))
        finally:
            for topic in self._topics.values():
                if topic.asking is not None:
                    topic.asking.cancel()

    async def _ask(self, topic: _Topic) -> None:
        seat = _Seat(self._gate)
        await seat.take()
        topic.again = False
        began = time.monotonic()
        try:
            await self._ask_once(topic)
        finally:
            seat.leave()
            now = time.monotonic()
            # 有人刚改了什么：这一次也许问在改之前，答了再问一次。
            topic.due_at = now if topic.again else max(began + _interval(topic), now + PATIENCE * (now - began))
            topic.asking = None
            if topic.again:
                self._wake.set()

    async def _ask_once(self, topic: _Topic) -> None:
        # 合起来问的，一个人的令牌过期了就换一个人的：别人照样看得到。
        for token in {watcher.token for watcher in topic.watchers}:
            body, error = await self._answer(topic, token)
            if error is None or error["status"] != 401:
                break
            for watcher in [each for each in topic.watchers if each.token == token]:
                watcher.receive(None, error)
        else:
            topic.body = topic.error = None
            return
        if (body, error) == (topic.body, topic.error):
            return
        topic.body, topic.error = body, error
        for each in list(topic.watchers):
            each.receive(body, error)

    async def _answer(self, topic: _Topic, token: str) -> tuple[str | None, dict[str, object] | None]:
        try:
            with self.questions.measure():
                return (await self._upstream.get(topic.target, token, topic.language)).decode(), None
        except Problem as problem:
            return None, {"status": problem.status, "code": problem.code, "detail": problem.detail}
        except ClientError as gone:
            return None, {"status": 0, "code": "unreachable", "detail": spoken(str(gone), topic.language)}
        except Exception:
            # 一件事问坏了，别的照问。
            logger.exception("feed_failed", extra={"target": topic.target})
            detail = spoken("看板自己出错了；日志里有原因", topic.language)
            return None, {"status": 0, "code": "web_fault", "detail": detail}


def _interval(topic: _Topic) -> float:
    return min((watcher.every_s for watcher in topic.watchers), default=INTERVAL_S) - INTERVAL_S / 2


def _key(watcher: Watcher) -> tuple[str, str, str]:
    path = urlsplit(watcher.target).path
    shared = path in SHARED or path.startswith(SHARED_PREFIXES)
    return watcher.target, watcher.language, "" if shared else watcher.token
