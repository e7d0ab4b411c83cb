"""看板问 API：不完的回答占不住轮询者，断在一半的是连不上。"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from scns_conductor.client.problem import Unreachable
from scns_conductor.web import upstream
from scns_conductor.web.log_follow import follow_output
from scns_conductor.web.upstream import Upstream
from upstream_server import upstream_to

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"1\r\n:\r\n"


@contextlib.asynccontextmanager
async def serving(*, endless: bool) -> AsyncIterator[Upstream]:
    """一个只会这样回答的 API：一点一点地没有完，或发了头就断。"""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + CHUNK)
            await writer.drain()
            while endless:
                writer.write(CHUNK)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async with upstream_to(answer) as found:
        yield found


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "POLL_S", 0.3)

    async def ask() -> None:
        async with serving(endless=True) as found:
            with pytest.raises(Unreachable):
                await found.get("/jobs/1/logs/stdout?follow=true", "token")

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_an_answer_cut_in_the_middle_is_told_to_the_reader() -> None:
    async def follow() -> list[dict[str, object]]:
        told: list[dict[str, object]] = []
        async with serving(endless=False) as found:
            await follow_output(found, "token", "1", "stdout", told.append)
        return told

    (only,) = asyncio.run(asyncio.wait_for(follow(), 60))
    assert "断了" in str(only["error"])
