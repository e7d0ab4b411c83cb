"""一个请求只写一次：各个端点是返回 Request 的函数，加上 one、many、plain 就是三种客户端的方法。

同步的 Client 得到类型化的回答，AsyncClient 得到它的 awaitable，JsonClient（命令用）得到原样的 JSON。
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, update_wrapper
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload
from urllib.parse import quote

if TYPE_CHECKING:
    from scns_conductor.client.async_client import AsyncClient
    from scns_conductor.client.conductor import Client, JsonClient
    from scns_conductor.client.wire import Answer

Json = dict[str, Any]
T = TypeVar("T")
P = ParamSpec("P")
_RETURNS = re.compile(r"Request\[(\w+)\]")


class Request(NamedTuple, Generic[T]):
    """一个请求。within 是回答里的哪个键，None 是整个；keyed 的每次带新的幂等键（或给的 key），可以放心重送。"""

    method: str
    path: str
    query: Mapping[str, Any] = MappingProxyType({})
    body: Any = None
    within: str | None = None
    keyed: bool = False
    key: str | None = None
    accept: frozenset[int] = frozenset()
    # 不是 JSON 对象的回答怎样读；None 是照 within 取 JSON。
    read: "Callable[[Answer], T] | None" = None


def segment(value: str | int) -> str:
    """路径里的一段。"""
    return quote(str(value), safe="", errors="replace")


class Call(Generic[P, T]):
    """一个端点。"""

    many = False

    def __init__(self, function: Callable[Concatenate[Any, P], Request[T]]) -> None:
        self.function = function
        update_wrapper(self, function)  # type: ignore[arg-type]

    @cached_property
    def kind(self) -> Any:
        """回答的类型：函数的返回类型 Request[…] 里写的那个；用到才导入。"""
        from scns_conductor.client import answers

        found = _RETURNS.search(str(self.function.__annotations__["return"]))
        assert found is not None
        return getattr(answers, found[1])

    def typed(self, value: Any) -> Any:
        """JSON -> 类型化的回答。"""
        return [self.kind.from_json(each) for each in value] if self.many else self.kind.from_json(value)

    def bound(self, instance: Any) -> Any:
        """绑到一个客户端上的方法。"""
        return update_wrapper(lambda *words, **named: instance.call(self, words, named), self.function)


class One(Call[P, T]):
    """回答是一个对象的端点。"""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "JsonClient", owner: type) -> Callable[P, Json]: ...
    @overload
    def __get__(self, instance: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: "AsyncClient", owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.bound(instance)


class Many(Call[P, T]):
    """回答是一列对象的端点。"""

    many = True

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "JsonClient", owner: type) -> Callable[P, list[Json]]: ...
    @overload
    def __get__(self, instance: "Client", owner: type) -> Callable[P, list[T]]: ...
    @overload
    def __get__(self, instance: "AsyncClient", owner: type) -> Callable[P, Awaitable[list[T]]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.bound(instance)


class Plain(Call[P, T]):
    """回答在三种客户端里是同一个类型的端点：文字、字节、没有。"""

    def typed(self, value: Any) -> Any:
        """照原样。"""
        return value

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "JsonClient | Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: "AsyncClient", owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.bound(instance)


def one(function: Callable[Concatenate[Any, P], Request[T]]) -> One[P, T]:
    """回答是一个对象。"""
    return One(function)


def many(function: Callable[Concatenate[Any, P], Request[T]]) -> Many[P, T]:
    """回答是一列对象。"""
    return Many(function)


def plain(function: Callable[Concatenate[Any, P], Request[T]]) -> Plain[P, T]:
    """回答是文字、字节或没有。"""
    return Plain(function)
