"""Client：SCNS-Conductor 的 HTTP 接口，一个方法一个端点；JsonClient 是命令用的，回答是原样的 JSON。"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from scns_conductor.client.client_base import ClientBase
from scns_conductor.client.flow import Ahead, Effect, Emit, EmitEach, Line, Listen, Sleep, Take
from scns_conductor.client.problem import Problem
from scns_conductor.client.request import Call, Request
from scns_conductor.client.transport import Transport
from scns_conductor.client.wire import Answer


def new_key() -> str:
    """一个新的幂等键。"""
    return os.urandom(16).hex()


def headers_of(request: Request[Any], data_source: str) -> dict[str, str]:
    """请求的头：每次提交都带幂等键，连接断了可以放心重送，不会多出一个作业。"""
    if not request.keyed:
        return {}
    return {"X-SCNS-Source": data_source, "Idempotency-Key": request.key or new_key()}


def json_of(request: Request[Any], answer: Answer) -> Any:
    """回答的内容：read 读出的，或 within 里的 JSON。"""
    if request.read is not None:
        return request.read(answer)
    found = answer.json()
    return found if request.within is None else found[request.within]


def typed(kind: str, value: Any) -> Any:
    """JSON -> 叫这个名字的类型。"""
    from scns_conductor.client import answers

    return getattr(answers, kind).from_json(value)


def typed_each(emit: EmitEach[Any]) -> Iterator[Any]:
    """一列 JSON -> 逐个换算。"""
    from scns_conductor.client import answers

    return map(getattr(answers, str(emit.kind)).from_json, emit.value)


class _SyncClient(ClientBase[Transport]):
    """同步的两种客户端共有的。"""

    def _open(self, url: str, token: str | None, **options: Any) -> Transport:
        return Transport(url, token, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """关掉闲着的连接。"""
        self.transport.close()

    def call(self, call: Call[..., Any], words: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """做一个端点的请求。"""
        return self._shown(call, self.send(call.function(self, *words, **named)))

    def send(self, request: Request[Any]) -> Any:
        """发一个请求，返回它的内容（没有换算成类型）。"""
        answer = self.transport.request(
            request.method, request.path, query=request.query, body=request.body,
            headers=headers_of(request, self._data_source), accept=request.accept,
        )  # fmt: skip
        return json_of(request, answer)

    def _shown(self, call: Call[..., Any], value: Any) -> Any:
        raise NotImplementedError

    def _emitted(self, emit: Emit[Any]) -> Any:
        raise NotImplementedError

    def run_flow(self, flow: Generator[Effect, Any, Any]) -> Any:
        """走到底，返回得到的值。"""
        driver = _Driver(self, flow)
        for _ in driver:
            continue
        found = driver.result
        return self._emitted(found) if isinstance(found, Emit) else found

    def stream_flow(self, flow: Generator[Effect | Emit[Any], Any, None]) -> Iterator[Any]:
        """一个一个交出来。"""
        for emit in _Driver(self, flow):
            if isinstance(emit, EmitEach):
                yield from self._each(emit)
            else:
                yield self._emitted(emit)

    def _each(self, emit: EmitEach[Any]) -> Iterable[Any]:
        raise NotImplementedError


class Client(_SyncClient):
    """一个 API 的客户端；可作 with 的对象，可以在线程之间共用（一池连接）。

    不给 url 就像 scns 命令那样自己找（SCNS_URL、SCNS_DATA_DIR、client.json）。回答是 client.answers 里冻结的类型，
    各字段的单位写在它们的说明里。服务器拒绝时抛 Problem（client.problems 里按错误码的类型），连不上抛 Unreachable。

    时间的单位都是秒，意思见 wire.Times；服务器暂时不行（503、429）而要再送时，先叫 on_wait（什么错，等几秒）。
    """

    def _shown(self, call: Call[..., Any], value: Any) -> Any:
        return call.typed(value)

    def _emitted(self, emit: Emit[Any]) -> Any:
        return emit.value if emit.kind is None else typed(emit.kind, emit.value)

    def _each(self, emit: EmitEach[Any]) -> Iterable[Any]:
        return typed_each(emit)


class JsonClient(_SyncClient):
    """同 Client，回答是原样的 JSON：命令只挑几个字段来打印，不必造对象。"""

    def _shown(self, call: Call[..., Any], value: Any) -> Any:
        return value

    def _emitted(self, emit: Emit[Any]) -> Any:
        return emit.value

    def _each(self, emit: EmitEach[Any]) -> Iterable[Any]:
        rows: list[Any] = emit.value
        return rows


# 命令：服务器暂时不行（503、429）时，读与提交总共等这么久（秒）。
COMMAND_PATIENCE_S = 60.0


def for_commands(
    on_wait: Callable[[Problem, float], None], kind: type[JsonClient] = JsonClient, *, timeout_s: float = 60.0
) -> JsonClient:
    """命令（scns 与 Slurm 的）用的客户端，作业来源记为 CLI；每等一次先叫 on_wait。找不到系统抛 EndpointUnknown。"""
    return kind(data_source="CLI", timeout_s=timeout_s, patience_s=COMMAND_PATIENCE_S, on_wait=on_wait)


class _Driver:
    """替 flow 做它说的事，交出它的 Emit；result 是走到底得到的值。"""

    def __init__(self, client: _SyncClient, flow: Generator[Any, Any, Any]) -> None:
        self._client = client
        self._flow = flow
        self._coming: list[_Coming] = []
        self._streams: list[Iterator[bytes]] = []
        self.result: Any = None

    def __iter__(self) -> Iterator[Emit[Any]]:
        try:
            effect = next(self._flow)
            while True:
                if isinstance(effect, Emit):
                    yield effect
                    effect = self._flow.send(None)
                    continue
                try:
                    answer = self._do(effect)
                except Exception as error:
                    effect = self._flow.throw(error)
                else:
                    effect = self._flow.send(answer)
        except StopIteration as stop:
            self.result = stop.value
        finally:
            self._flow.close()
            for coming in self._coming:
                coming.wait()
            for stream in self._streams:
                stream.close()  # type: ignore[attr-defined]

    def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return self._client.send(effect)
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return None
        if isinstance(effect, Ahead):
            coming = _Coming(self._client, effect.request)
            self._coming.append(coming)
            return coming
        if isinstance(effect, Take):
            self._coming.remove(effect.coming)
            return effect.coming.take()
        if isinstance(effect, Listen):
            stream = self._client.transport.stream(effect.path, query=effect.query, timeout_s=effect.timeout_s)
            self._streams.append(stream)
            return stream
        assert isinstance(effect, Line)
        return next(effect.stream, None)


class _Coming:
    """正在路上的一个回答。"""

    def __init__(self, client: _SyncClient, request: Request[Any]) -> None:
        # 多数命令一页就够，用不着线程：用到才导入。
        import threading

        self._client, self._request = client, request
        self._found: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fetch)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            self._found = self._client.send(self._request)
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """等它取完，不管结果。"""
        self._thread.join()

    def take(self) -> Any:
        """取到的；取的时候出的错在这里抛出。"""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found
