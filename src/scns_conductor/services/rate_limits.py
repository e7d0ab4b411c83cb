"""请求的限速：每个令牌、每个地址各有一个匀速的配额，不对的令牌另有一个。

当场看的是本进程内存里的账，不多一次往返；用得多的，隔 SHARE_S 秒报给各 API 进程共用的账（Valkey），再按那边的改正
自己的：几个进程合起来也只有一个配额，多不出一次 SHARE_S 里的量。Valkey 不在时各记各的。
"""

import asyncio
import math
import time
from collections.abc import Hashable

from scns_conductor.core.errors import TooManyRequests
from scns_conductor.core.settings import Settings
from scns_conductor.services.shared_ledger import SharedLedger

# 可以一口气用掉这么多秒的配额。
BURST_S = 2.0
MINUTE_S = 60.0
# 一本账至多记这么多个。
_MOST = 50_000
# 隔这么久报一遍；用到配额的这么多份的才报，一次至多报这么多个（用得多的先）。
SHARE_S = 0.1
_NOTICED = 0.05
_SHARED_MOST = 500


class Quota:
    """每秒 rate 次，闲下来的至多攒 burst_s 秒（GCRA：一个数就是一本账）。rate 为 0 是不限；shared 的要有人 drain。"""

    def __init__(self, rate: float, burst_s: float = BURST_S, *, shared: bool = False) -> None:
        self._each_s = 1 / rate if rate > 0 else 0.0
        self._burst_s = burst_s
        self._shared = shared
        # 谁 -> 配额用到了哪一刻（单调钟的秒）。
        self._until: dict[Hashable, float] = {}
        # 谁 -> 上次报过之后用了几次。
        self._fresh: dict[Hashable, int] = {}

    def wait_s(self, key: Hashable, now: float) -> float:
        """还要等几秒才有配额；0 是现在就有。"""
        return max(0.0, self._until.get(key, 0.0) + self._each_s - now - self._burst_s) if self._each_s else 0.0

    def take(self, key: Hashable, now: float) -> float:
        """用掉一次，返回 0；没有了返回要等几秒，不算用过。"""
        if not self._each_s:
            return 0.0
        until = self._until.get(key, 0.0)
        wait_s = until + self._each_s - now - self._burst_s
        if wait_s > 0.0:
            return wait_s
        if len(self._until) >= _MOST:
            self._forget(now)
        self._until[key] = (until if until > now else now) + self._each_s
        if self._shared:
            self._fresh[key] = self._fresh.get(key, 0) + 1
        return 0.0

    def drain(self, elapsed_s: float) -> dict[Hashable, float]:
        """上次之后（elapsed_s 秒）用得多的，各用掉了几秒的配额。"""
        fresh, self._fresh = self._fresh, {}
        least = _NOTICED * elapsed_s
        return {key: count * self._each_s for key, count in fresh.items() if count * self._each_s >= least}

    def correct(self, key: Hashable, ahead_s: float, now: float) -> None:
        """大家合起来用到了此刻之后 ahead_s 秒。"""
        self._until[key] = max(self._until.get(key, 0.0), now + ahead_s)

    def _forget(self, now: float) -> None:
        """攒满了的不必记；还是太多就都忘掉，宁可松一会儿，也不占着内存。"""
        self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) >= _MOST:
            self._until.clear()


class RateLimits:
    """三本账；超过的抛 TooManyRequests，带 Retry-After。"""

    def __init__(self, settings: Settings) -> None:
        self._addresses = Quota(settings.rate_limit_per_address, shared=True)
        self._tokens = Quota(settings.rate_limit_per_token, shared=True)
        self._failures = Quota(settings.bad_tokens_per_minute / MINUTE_S, MINUTE_S, shared=True)
        self._used = asyncio.Event()

    def address(self, address: str | None) -> None:
        """这个地址的一个请求；没有地址（本机套接字）的不限。"""
        if address is not None:
            self._used.set()
            _refuse(self._addresses.take(address, time.monotonic()), "这个地址的请求太多")

    def token(self, key: Hashable) -> None:
        """这个令牌的一个请求。"""
        self._used.set()
        _refuse(self._tokens.take(key, time.monotonic()), "这个令牌的请求太多")

    def before_unknown(self, key: Hashable) -> None:
        """要核对一个没有见过的令牌：这个地址不对的太多了，先不核对。"""
        _refuse(self._failures.wait_s(key, time.monotonic()), "不对的令牌太多")

    def failed(self, key: Hashable) -> None:
        """那个令牌不对。"""
        self._used.set()
        self._failures.take(key, time.monotonic())

    async def keep_sharing(self, ledger: SharedLedger) -> None:
        """与别的 API 进程对账，直到被取消；没有请求的时候不醒。"""
        books = {"address": self._addresses, "token": self._tokens, "failure": self._failures}
        before = time.monotonic()
        while True:
            await self._used.wait()
            await asyncio.sleep(SHARE_S)
            self._used.clear()
            elapsed_s, before = min(time.monotonic() - before, 1.0), time.monotonic()
            entries = [
                (book, key, used) for book, quota in books.items() for key, used in quota.drain(elapsed_s).items()
            ]
            entries = sorted(entries, key=lambda each: each[2], reverse=True)[:_SHARED_MOST]
            if not entries:
                continue
            found = await ledger.add([(f"{book}:{key!r}", used) for book, key, used in entries])
            for (book, key, _), ahead_s in zip(entries, found or [], strict=False):
                books[book].correct(key, ahead_s, time.monotonic())


def _refuse(wait_s: float, what: str) -> None:
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        raise TooManyRequests(f"{what}；请 {seconds} 秒之后再试", code="rate_limited", retry_after_s=seconds)
