"""请求的限速：每个令牌、每个地址各有一个匀速的配额，不对的令牌另有一个。都在内存里，一个 API 进程一份，不查库。"""

import math
import time
from collections.abc import Hashable

from scns_conductor.core.errors import TooManyRequests
from scns_conductor.core.settings import Settings

# 可以一口气用掉这么多秒的配额。
BURST_S = 2.0
MINUTE_S = 60.0
# 一本账至多记这么多个。
_MOST = 50_000


class Quota:
    """每秒 rate 次，闲下来的至多攒 burst_s 秒（GCRA：一个数就是一本账）。rate 为 0 是不限。"""

    def __init__(self, rate: float, burst_s: float = BURST_S) -> None:
        self._each_s = 1 / rate if rate > 0 else 0.0
        self._burst_s = burst_s
        # 谁 -> 配额用到了哪一刻（单调钟的秒）。
        self._until: dict[Hashable, float] = {}

    def wait_s(self, key: Hashable, now: float) -> float:
        """还要等几秒才有配额；0 是现在就有。"""
        return max(0.0, self._until.get(key, 0.0) + self._each_s - now - self._burst_s) if self._each_s else 0.0

    def take(self, key: Hashable, now: float) -> float:
        """用掉一次，返回 0；没有了返回要等几秒，不算用过。"""
        if not self._each_s:
            return 0.0
        wait_s = self.wait_s(key, now)
        if wait_s == 0.0:
            if len(self._until) >= _MOST:
                self._forget(now)
            self._until[key] = max(self._until.get(key, 0.0), now) + self._each_s
        return wait_s

    def _forget(self, now: float) -> None:
        """攒满了的不必记；还是太多就都忘掉，宁可松一会儿，也不占着内存。"""
        self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) >= _MOST:
            self._until.clear()


class RateLimits:
    """一个 API 进程的三本账；超过的抛 TooManyRequests，带 Retry-After。"""

    def __init__(self, settings: Settings) -> None:
        self._addresses = Quota(settings.rate_limit_per_address)
        self._tokens = Quota(settings.rate_limit_per_token)
        self._failures = Quota(settings.bad_tokens_per_minute / MINUTE_S, MINUTE_S)

    def address(self, address: str | None) -> None:
        """这个地址的一个请求；没有地址（本机套接字）的不限。"""
        if address is not None:
            _refuse(self._addresses.take(address, time.monotonic()), "这个地址的请求太多")

    def token(self, key: Hashable) -> None:
        """这个令牌的一个请求。"""
        _refuse(self._tokens.take(key, time.monotonic()), "这个令牌的请求太多")

    def before_unknown(self, key: Hashable) -> None:
        """要核对一个没有见过的令牌：这个地址不对的太多了，先不核对。"""
        _refuse(self._failures.wait_s(key, time.monotonic()), "不对的令牌太多")

    def failed(self, key: Hashable) -> None:
        """那个令牌不对。"""
        self._failures.take(key, time.monotonic())


def _refuse(wait_s: float, what: str) -> None:
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        raise TooManyRequests(f"{what}；请 {seconds} 秒之后再试", code="rate_limited", retry_after_s=seconds)
