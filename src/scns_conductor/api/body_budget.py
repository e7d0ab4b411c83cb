"""请求体的配额：正在收、正在办的合计有上限，一个用户至多一半；收得太慢的断开。"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import Message, Receive

from scns_conductor.api.problems import problem_response
from scns_conductor.core.settings import Settings

# 这么小的不计：平常的提交不因别人的大请求而被拒。连接数的上限管着它们。
FREE_BYTES = 64 * 1024
# 比这还慢的客户端不等（字节/秒）。
SLOWEST_RATE = 16 * 1024
_RETRY_S = 2
# scope 里的这一项（connections.py 写的）说请求是不是已经收齐。
WHOLE = "scns.whole"
# JSON 里一个字节的文字最多写成 3 个（西里尔字母的 \u0416），再留些余地给别的字段。
_ESCAPED = 3
_MARGIN = 1024**2


def most_body_bytes(settings: Settings) -> int:
    """一个作业的请求体至多多大。"""
    return settings.script_max_bytes * _ESCAPED + _MARGIN


class BodyRefused(Exception):
    """不再收这个请求体。"""


@dataclass(slots=True)
class BodyBudget:
    """一个进程的配额。"""

    most: int
    held: Counter[str] = field(default_factory=Counter)

    def admits(self, user_name: str, size: int) -> bool:
        """再占 size 字节行不行；什么也没有占着的总是行，再大的请求体也轮得到。"""
        own, total = self.held[user_name], self.held.total()
        return (own == 0 or own + size <= self.most // 2) and (total == 0 or total + size <= self.most)


class BodyReader:
    """收一个请求体；refusal 是不收的理由，没有则为 None。whole 说请求体是不是已经都到了这里（不必等）。"""

    def __init__(
        self,
        receive: Receive,
        budget: BodyBudget,
        user_name: str,
        limit: int,
        grace_s: float,
        whole: Callable[[], bool] | None = None,
    ) -> None:
        self._receive = receive
        self._whole = whole
        self._budget = budget
        self._user_name = user_name
        self._limit = limit
        self._held = 0
        self._read = 0
        self._ended = False
        self._deadline = asyncio.get_running_loop().time() + grace_s
        self.refusal: Response | None = None

    def reserve(self, length: int) -> bool:
        """按 Content-Length 先占好；不行返回 False，理由在 refusal。"""
        if length > self._limit:
            self.refusal = _too_large(self._limit)
        elif length > max(FREE_BYTES, self._held):
            more = length - self._held
            if not self._budget.admits(self._user_name, more):
                self.refusal = problem_response(
                    503,
                    "too_many_bodies",
                    f"正在收的请求体合计将超过 {self._budget.most} 字节（一个用户至多一半）；请稍后再试，或拆小一些",
                    headers={"Retry-After": str(_RETRY_S)},
                )
            else:
                self._budget.held[self._user_name] += more
                self._held = length
        return self.refusal is None

    async def receive(self) -> Message:
        """给应用的 receive：超过上限、配额或太慢抛 BodyRefused。收完之后（等客户端断开）没有时限。"""
        if self.refusal is not None:
            raise BodyRefused
        if self._ended:
            return await self._receive()
        if self._whole is not None and self._whole():
            # 多半都在第一包里：已经收齐的不必设时限。
            message = await self._receive()
        else:
            try:
                async with asyncio.timeout_at(self._deadline + self._read / SLOWEST_RATE):
                    message = await self._receive()
            except TimeoutError:
                self.refusal = problem_response(
                    408, "request_timeout", "请求体来得太慢；请检查网络，或拆小一些", headers={"Connection": "close"}
                )
                raise BodyRefused from None
        self._read += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if not self.reserve(self._read):
            raise BodyRefused
        return message

    def release(self) -> None:
        """办完了。"""
        if not self._held:
            return
        held = self._budget.held
        held[self._user_name] -= self._held
        if held[self._user_name] <= 0:
            del held[self._user_name]
        self._held = 0


def _too_large(limit: int) -> Response:
    return problem_response(413, "payload_too_large", f"请求体超过 {limit} 字节；请拆成几次，或把数据放到文件里")
