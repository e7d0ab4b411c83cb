"""跟随一个作业的输出：先给末尾的一段，之后边写边送；写得太快就跳过中间的，不让浏览器堆积。"""

import asyncio
import base64
import codecs
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from scns_conductor.client.problem import ClientError
from scns_conductor.web.upstream import Upstream

# 打开时先给末尾这么多字节；攒这么久（秒）送一次，一次至多这么多字。
TAIL_BYTES = 65536
FLUSH_S = 0.2
MOST_CHARACTERS = 200_000
RETRY_S = 2.0

Send = Callable[[dict[str, Any]], None]


async def follow_output(upstream: Upstream, token: str, job_id: str, stream: str, send: Send) -> None:
    """一直送到作业结束或被取消。send 收到的：text 与它之前跳过的 skipped；state；end；error。"""
    writer = _Writer(send)
    flushing = asyncio.create_task(writer.run())
    try:
        offset: int | None = await _tail(upstream, token, job_id, stream, writer)
        while offset is not None:
            offset = await _follow(upstream, token, job_id, stream, offset, writer)
            if offset is not None:
                await asyncio.sleep(RETRY_S)
    except ClientError as error:
        writer.tell({"error": str(error)})
    finally:
        writer.flush()
        flushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flushing


class _Writer:
    """攒着，隔一会儿送一次。"""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text, self._skipped = "", 0

    def add(self, data: bytes) -> None:
        self._text += self._decoder.decode(data)
        over = len(self._text) - MOST_CHARACTERS
        if over > 0:
            self._text, self._skipped = self._text[over:], self._skipped + over

    def tell(self, message: dict[str, Any]) -> None:
        self.flush()
        self._send(message)

    def flush(self) -> None:
        if self._text:
            self._send({"text": self._text, "skipped": self._skipped})
            self._text, self._skipped = "", 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()


async def _tail(upstream: Upstream, token: str, job_id: str, stream: str, writer: _Writer) -> int:
    """末尾的一段；返回此刻的总长。"""
    async with upstream.stream("GET", f"/jobs/{job_id}/logs/{stream}?tail={TAIL_BYTES}", token) as answer:
        data = await answer.aread()
        if answer.status_code >= 400:
            writer.tell({"error": _detail(data), "status": answer.status_code})
            raise asyncio.CancelledError
        total = int(answer.headers.get("X-Total-Bytes", len(data)))
        writer.tell({"total": total, "before": total - len(data)})
        writer.add(data)
        return total


async def _follow(upstream: Upstream, token: str, job_id: str, stream: str, offset: int, writer: _Writer) -> int | None:
    """从 offset 起跟随；作业结束了返回 None，断了返回读到哪里。"""
    target = f"/jobs/{job_id}/logs/{stream}?follow=true&offset={offset}"
    # 断了就从断处再来。
    with contextlib.suppress(ClientError):
        async with upstream.stream("GET", target, token, endless=True) as answer:
            if answer.status_code >= 400:
                writer.tell({"error": _detail(await answer.aread()), "status": answer.status_code})
                return None
            async for event, data in _events(answer.aiter_lines()):
                if event == "output":
                    chunk = base64.b64decode(data["base64"])
                    writer.add(chunk)
                    offset = int(data["offset"]) + len(chunk)
                elif event == "state":
                    writer.tell({"state": data["state"]})
                elif event == "end":
                    writer.tell({"end": True, "state": data["state"], "exit_code": data["exit_code"]})
                    return None
                elif event == "error":
                    writer.tell({"error": data.get("detail", "")})
    return offset


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    event = ""
    async for line in lines:
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: "):
            yield event, json.loads(line[6:])


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "读不到输出"
