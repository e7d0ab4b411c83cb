"""访问日志：api_access_log 开着时每个请求一行，写着谁、从哪里；缺省不记。"""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from scns_conductor.api.middleware import Entrance
from scns_conductor.core.settings import Settings


async def _answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _ignored(_message: Message) -> None:
    pass


@pytest.mark.parametrize("wanted", [True, False])
def test_every_request_is_one_line_when_asked_for(wanted: bool) -> None:
    entrance = Entrance(_answer, settings=Settings(api_access_log=wanted))
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": "/health/live", "headers": [], "query_string": b"",
        "client": ("10.0.0.9", 1),
    }  # fmt: skip
    with capture_logs() as written:
        asyncio.run(entrance(scope, _nothing, _ignored))
    lines = [line for line in written if line["event"] == "request"]
    assert len(lines) == wanted
    if wanted:
        found = {name: lines[0][name] for name in ("method", "path", "status", "client", "user", "log_level")}
        assert found == {
            "method": "GET", "path": "/health/live", "status": 204, "client": "10.0.0.9",
            "user": None, "log_level": "info",
        }  # fmt: skip
