"""几个请求、几次等待连成的事（等作业结束、逐页取、跟随输出、成批提交）只写一次：生成器说要做什么，客户端去做。

同步的客户端自己等，异步的 await；两边的次序、重试、断点都是这里写的。
"""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.request import Request

if TYPE_CHECKING:
    from scns_conductor.client.async_client import AsyncClient
    from scns_conductor.client.conductor import Client, JsonClient

P = ParamSpec("P")
T = TypeVar("T")


class Sleep(NamedTuple):
    """等几秒。"""

    seconds: float


class Ahead(NamedTuple):
    """先发出这个请求，回答是之后交给 Take 的东西：用着这一页的时候，下一页已经在路上。"""

    request: Request[Any]


class Take(NamedTuple):
    """取 Ahead 的回答；那时出的错在这里抛出。"""

    coming: Any


class Listen(NamedTuple):
    """打开一个不断的 GET，回答是之后交给 Line 的东西。"""

    path: str
    query: dict[str, Any]
    timeout_s: float


class Line(NamedTuple):
    """下一行字节；没有了是 None。"""

    stream: Any


class Emit(Generic[T]):
    """交给调用者一个；kind 是它的类型的名字（client.answers），value 是还没有换算的 JSON。"""

    __slots__ = ("kind", "value")

    def __init__(self, value: Any, kind: str | None = None) -> None:
        self.value = value
        self.kind = kind


class EmitEach(Emit[T]):
    """交给调用者一列，一个一个地；十万个作业时比逐个 Emit 省一半的 CPU。"""

    __slots__ = ()


Effect = Request[Any] | Sleep | Ahead | Take | Listen | Line
# 过一会儿就好的状态码。
_TRANSIENT = frozenset({429, 502, 503, 504})
# 服务器不在了，等着的事接着试这么久（秒）。
OUTAGE_S = 300.0


class Waited(Generic[P, T]):
    """走到底得到一个值的事。"""

    def __init__(self, function: Callable[Concatenate[Any, P], Generator[Any, Any, Any]]) -> None:
        self.function = function
        update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "JsonClient | Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: "AsyncClient", owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return update_wrapper(
            lambda *words, **named: instance.run_flow(self.function(instance, *words, **named)), self.function
        )


class Streamed(Generic[P, T]):
    """一个一个交出来的事：Iterator 或 AsyncIterator。"""

    def __init__(self, function: Callable[Concatenate[Any, P], Generator[Any, Any, Any]]) -> None:
        self.function = function
        update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "JsonClient", owner: type) -> Callable[P, Iterator[Any]]: ...
    @overload
    def __get__(self, instance: "Client", owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: "AsyncClient", owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return update_wrapper(
            lambda *words, **named: instance.stream_flow(self.function(instance, *words, **named)), self.function
        )


def waited(function: Callable[Concatenate[Any, P], Generator[Effect, Any, T]]) -> Waited[P, T]:
    """走到底得到一个值。"""
    return Waited(function)


def streamed(function: Callable[Concatenate[Any, P], Generator[Effect | Emit[T], Any, None]]) -> Streamed[P, T]:
    """一个一个交出来。"""
    return Streamed(function)


def first(flow: Generator[Effect | Emit[T], Any, None]) -> Generator[Effect, Any, Any]:
    """flow 交出的第一个（Emit 本身，由客户端换算）；没有是 None。"""
    answer: Any = None
    with contextlib.suppress(StopIteration):
        effect = next(flow)
        while not isinstance(effect, Emit):
            try:
                answer = yield effect
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
        flow.close()
        return effect
    return None


def steadily(request: Request[Any]) -> Generator[Effect, Any, Any]:
    """一个重送不会多做一次的请求：服务器暂时不在（连不上、503）就接着试，至多连着 OUTAGE_S 秒。"""
    patience = Patience(OUTAGE_S)
    while True:
        try:
            return (yield request)
        except (Unreachable, Problem) as error:
            pause = patience.bad(error)
        yield pause


class Patience:
    """断断续续的服务器：连着不行超过 seconds 秒才算真的不行；每次隔得久一点。"""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._pause_s = 0.05

    def good(self) -> None:
        """又行了。"""
        self._since, self._pause_s = None, 0.05

    def bad(self, error: Exception) -> Sleep:
        """又不行了：等多久再试；等够了抛 error。"""
        if isinstance(error, Problem) and error.status not in _TRANSIENT:
            raise error
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > self._seconds:
            raise error
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, 2.0)
        return Sleep(pause_s)
