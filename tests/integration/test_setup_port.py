"""scns setup 核对 API 的端口：空着，或听着的就是这里的 API（就绪没有都算）；别人占着的说出来。"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from running_system import RunningSystem, database_url, free_port
from scns_conductor.local.own_api import connect_url
from scns_conductor.local.setup import plan
from scns_conductor.local.setup.steps import SetupFailed
from scripted_server import http, read_request, serving


@pytest.fixture
def usable(running_system: RunningSystem) -> Callable[[int], bool]:
    def look(port: int) -> bool:
        settings = {"api_host": "127.0.0.1", "api_port": port, "database_url": database_url(running_system)}
        return plan._port(settings).done()

    return look


@pytest.fixture
def taken() -> Iterator[Callable[[bytes], int]]:
    """一个端口，有人听着，照样子答一次。"""
    with ExitStack() as stack:

        def answering(raw: bytes) -> int:
            def behave(connection: socket.socket) -> None:
                read_request(connection)
                connection.sendall(raw)

            return int(urlsplit(stack.enter_context(serving(behave))).port or 0)

        yield answering


def test_free_or_this_very_system(running_system: RunningSystem, usable: Callable[[int], bool]) -> None:
    assert usable(free_port())
    assert usable(int(urlsplit(running_system.url).port or 0))


def test_this_very_system_while_it_is_not_ready(
    running_system: RunningSystem, usable: Callable[[int], bool], taken: Callable[[bytes], int]
) -> None:
    ready: dict[str, Any] = running_system.call("GET", "/health/ready")[1]
    assert usable(taken(http(json.dumps(ready).encode(), "503 Service Unavailable")))


@pytest.mark.parametrize(
    "raw",
    [
        http(b'{"checks": {"database": {"instance": "another"}}}'),
        http(b'{"checks": {"database": {"status": "unavailable"}}}', "503 Service Unavailable"),
        http(b'["checks"]'),
        http(b"<html>"),
        http(b"{}", "404 Not Found"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["another", "no_database", "list", "page", "absent", "ssh", "silent"],
)
def test_somebody_else(raw: bytes, usable: Callable[[int], bool], taken: Callable[[bytes], int]) -> None:
    port = taken(raw)
    with pytest.raises(SetupFailed, match=str(port)):
        usable(port)


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3"), ("head", "head")],
)
def test_where_the_own_api_is_reached(host: str, url: str) -> None:
    assert connect_url(host, 6820) == f"http://{url}:6820"
