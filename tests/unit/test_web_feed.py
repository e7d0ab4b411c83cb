"""看板的轮询者与转发：一件事慢不拖累别的，浏览器早走了连接也还回去。API 是真的 HTTP 服务器。"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.requests import Request

from scns_conductor.web import feed as feed_module
from scns_conductor.web.feed import Feed
from scns_conductor.web.relay import relay
from scns_conductor.web.session import Visitor
from scns_conductor.web.upstream import Upstream
from upstream_server import upstream_to

VISITOR = Visitor("token", "alice", False, False, 2_000_000_000, "session")


@contextlib.asynccontextmanager
async def api(answer: Callable[[str], AsyncIterator[bytes]]) -> AsyncIterator[Upstream]:
    """answer(路径) 一段一段地给出正文。"""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                async for chunk in answer(head.split()[1].decode()):
                    writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
        writer.close()

    async with upstream_to(serve) as found:
        yield found


def test_slow_topics_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SLOW_S", 0.05)
    never = asyncio.Event()

    async def answer(path: str) -> AsyncIterator[bytes]:
        if path.startswith("/slow"):
            await never.wait()
        yield b'{"path": "%s"}' % path.encode()

    async def watch() -> None:
        async with api(answer) as upstream:
            feed, arrived = Feed(upstream), asyncio.Event()
            running = asyncio.create_task(feed.run())
            # 比位子还多的慢事先占上。
            for number in range(3 * feed_module.AT_ONCE):
                feed.watch(f"/slow/{number}", "token", "zh", lambda body, error: None)
            feed.watch("/jobs", "token", "zh", lambda body, error: arrived.set() if body else None)
            await arrived.wait()
            running.cancel()

    asyncio.run(asyncio.wait_for(watch(), 60))


def test_a_change_during_a_question_is_asked_about_again() -> None:
    asked: list[str] = []
    started, going = asyncio.Event(), asyncio.Event()

    async def answer(path: str) -> AsyncIterator[bytes]:
        asked.append(path)
        if len(asked) == 1:
            started.set()
            await going.wait()
        yield b"%d" % len(asked)

    async def watch() -> None:
        async with api(answer) as upstream:
            feed, told, twice = Feed(upstream), [], asyncio.Event()

            def hear(body: str | None, error: object) -> None:
                told.append(body)
                if len(told) == 2:
                    twice.set()

            running = asyncio.create_task(feed.run())
            feed.watch("/jobs/1", "token", "zh", hear, every_s=3600)
            await started.wait()
            feed.ask_now("token")
            going.set()
            await twice.wait()
            assert told == ["1", "2"]
            running.cancel()

    asyncio.run(asyncio.wait_for(watch(), 60))


@pytest.mark.parametrize("leaves", ["before_the_first_chunk", "in_the_middle"])
def test_a_browser_that_leaves_gives_its_connection_back(leaves: str) -> None:
    async def answer(path: str) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def send(message: object) -> None:
        if leaves == "before_the_first_chunk" or message["type"] == "http.response.body":  # type: ignore[index]
            raise OSError("浏览器走了")

    async def visit() -> None:
        async with api(answer) as upstream:
            scope = {
                "type": "http", "method": "GET", "path": "/api/jobs/1/logs/stdout", "query_string": b"",
                "raw_path": b"/api/jobs/1/logs/stdout", "headers": [], "asgi": {"spec_version": "2.4"},
            }  # fmt: skip

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": b"", "more_body": False}

            response = await relay(Request(scope, receive), upstream, VISITOR, "zh")
            with contextlib.suppress(Exception):
                await response(scope, receive, send)  # type: ignore[arg-type]
            assert upstream._client._transport._pool.connections == []  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(visit(), 60))
