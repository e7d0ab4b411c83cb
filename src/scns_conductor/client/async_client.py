"""AsyncClient：与 Client 同样的方法，都是 await 或 async for。"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import Any, Self

from scns_conductor.client.async_transport import AsyncTransport
from scns_conductor.client.client_base import ClientBase
from scns_conductor.client.conductor import headers_of, json_of, typed, typed_each
from scns_conductor.client.flow import Ahead, Effect, Emit, EmitEach, Line, Listen, Sleep, Take
from scns_conductor.client.request import Call, Request


class AsyncClient(ClientBase[AsyncTransport]):
    """异步的客户端，在一个事件循环里用；参数与错误同 Client。取消了的请求关掉它的连接，别的不受影响。"""

    def _open(self, url: str, token: str | None, **options: Any) -> AsyncTransport:
        return AsyncTransport(url, token, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """关掉闲着的连接。"""
        await self.transport.close()

    async def call(self, call: Call[..., Any], words: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """做一个端点的请求。"""
        return call.typed(await self.send(call.function(self, *words, **named)))

    async def send(self, request: Request[Any]) -> Any:
        """发一个请求，返回它的内容（没有换算成类型）。"""
        answer = await self.transport.request(
            request.method, request.path, query=request.query, body=request.body,
            headers=headers_of(request, self._data_source), accept=request.accept,
        )  # fmt: skip
        return json_of(request, answer)

    async def run_flow(self, flow: Generator[Effect, Any, Any]) -> Any:
        """走到底，返回得到的值。"""
        driver = _Driver(self, flow)
        async for _ in driver.emits():
            continue
        found = driver.result
        return _emitted(found) if isinstance(found, Emit) else found

    async def stream_flow(self, flow: Generator[Effect | Emit[Any], Any, None]) -> AsyncIterator[Any]:
        """一个一个交出来。"""
        async with contextlib.aclosing(_Driver(self, flow).emits()) as emits:
            async for emit in emits:
                for value in typed_each(emit) if isinstance(emit, EmitEach) else (_emitted(emit),):
                    yield value


def _emitted(emit: Emit[Any]) -> Any:
    return emit.value if emit.kind is None else typed(emit.kind, emit.value)


class _Driver:
    """替 flow 做它说的事；result 是走到底得到的值。"""

    def __init__(self, client: AsyncClient, flow: Generator[Any, Any, Any]) -> None:
        self._client = client
        self._flow = flow
        self._coming: list[asyncio.Task[Any]] = []
        self._streams: list[Any] = []
        self.result: Any = None

    async def emits(self) -> AsyncGenerator[Emit[Any], None]:
        """flow 交出的。"""
        try:
            effect = next(self._flow)
            while True:
                if isinstance(effect, Emit):
                    yield effect
                    effect = self._flow.send(None)
                    continue
                try:
                    answer = await self._do(effect)
                except Exception as error:
                    effect = self._flow.throw(error)
                else:
                    effect = self._flow.send(answer)
        except StopIteration as stop:
            self.result = stop.value
        finally:
            self._flow.close()
            for task in self._coming:
                task.cancel()
            # 等它们真的停下，连接才关得干净；没有取走的错误也不留下“从未取过”的抱怨。
            await asyncio.gather(*self._coming, return_exceptions=True)
            for stream in self._streams:
                await stream.aclose()

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Request):
            return await self._client.send(effect)
        if isinstance(effect, Sleep):
            await asyncio.sleep(effect.seconds)
            return None
        if isinstance(effect, Ahead):
            task = asyncio.create_task(self._client.send(effect.request))
            self._coming.append(task)
            return task
        if isinstance(effect, Take):
            self._coming.remove(effect.coming)
            return await effect.coming
        if isinstance(effect, Listen):
            stream = self._client.transport.stream(effect.path, query=effect.query, timeout_s=effect.timeout_s)
            self._streams.append(stream)
            return stream
        assert isinstance(effect, Line)
        return await anext(effect.stream, None)
