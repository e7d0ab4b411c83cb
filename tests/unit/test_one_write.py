"""回答的头与正文一次写出，次序与内容不变；请求头只解一遍，写了几遍的取第一遍。"""

import asyncio

from scns_conductor.api.one_write import OneWrite
from scns_conductor.api.request_headers import headers_of


class Wire:
    """记下每次写的；真的连接在 test_api_connections.py 里。"""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_head_and_its_body_are_one_write() -> None:
    async def go() -> None:
        wire = Wire()
        once = OneWrite(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        once.write(HEAD)
        once.write(b"body")
        once.write(b"more")
        await asyncio.sleep(0)
        assert wire.written == [HEAD + b"body", b"more"]

    asyncio.run(go())


def test_a_head_alone_does_not_wait_for_its_body() -> None:
    async def go() -> None:
        wire = Wire()
        once = OneWrite(wire, asyncio.get_running_loop())  # type: ignore[arg-type]
        once.write(HEAD)
        await asyncio.sleep(0)
        assert wire.written == [HEAD]
        once.write(b"line")
        assert wire.written == [HEAD, b"line"]

    asyncio.run(go())


def test_a_head_is_written_before_closing_and_never_after() -> None:
    async def go() -> None:
        wire, gone = Wire(), Wire()
        loop = asyncio.get_running_loop()
        once = OneWrite(wire, loop)  # type: ignore[arg-type]
        once.write(HEAD)
        once.close()
        assert (wire.written, wire.closed) == ([HEAD], True)
        late = OneWrite(gone, loop)  # type: ignore[arg-type]
        late.write(HEAD)
        gone.closed = True
        await asyncio.sleep(0)
        assert gone.written == []

    asyncio.run(go())


def test_the_first_of_several_headers_counts() -> None:
    scope = {"headers": [(b"authorization", b"Bearer one"), (b"x", b"\xe4"), (b"authorization", b"Bearer two")]}
    assert headers_of(scope) == {"authorization": "Bearer one", "x": "ä"}
    assert headers_of(scope) is headers_of(scope)
