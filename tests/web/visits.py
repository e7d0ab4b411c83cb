"""看板的测试共用的几个函数，与收 webhook 的一个。"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import psycopg
from playwright.sync_api import Page

from running_system import RunningSystem, database_url
from scns_conductor.local.data_directory import DataDirectory, read_web_url

SignIn = Callable[..., Page]


def web_url_of(system: RunningSystem) -> str:
    """正在运行的系统的看板的地址。"""
    found = read_web_url(DataDirectory(system.data_dir))
    assert found is not None
    return found


def token_of(system: RunningSystem, user: str | None) -> str:
    """这个人的令牌；None 是启动系统的管理员。"""
    if user is None:
        return system.token
    status, answer = system.call("POST", "/tokens", {"user_name": user})
    assert status == 201, answer
    return str(answer["token"])


def visit(page: Page, path: str) -> None:
    """在开着的看板里换一页（同点链接，不重新载入），等到它的数据来了。"""
    page.evaluate(
        """path => {
          const moved = new URL(path, location).pathname !== location.pathname;
          if (moved) document.querySelector("main h1")?.setAttribute("data-left", "");
          history.pushState(null, "", path);
          dispatchEvent(new PopStateEvent("popstate"));
        }""",
        path,
    )
    page.locator("main h1:not([data-left])").first.wait_for()
    page.wait_for_function("!document.querySelector('main .bars')")


def serious(page: Page, axe_script: str, only: str = "undefined") -> list[Any]:
    """axe 说的严重的毛病；only 是只看哪些规则。"""
    # 机器忙的时候连接断过，框架会重新载入。
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe_script)
    found = page.evaluate(f"axe.run(document, {{ resultTypes: ['violations'], runOnly: {only} }})")
    return [
        (each["id"], each["impact"], [node["html"][:160] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def two_days_later(system: RunningSystem) -> None:
    """没有送到的 webhook 都试了两天了：再试一次就不再试。"""
    with psycopg.connect(database_url(system), autocommit=True) as connection:
        connection.execute(
            "UPDATE webhook_deliveries SET created_at = created_at - interval '3 days', next_try_at = clock_timestamp()"
            " WHERE state = 'QUEUED'"
        )
        connection.execute("UPDATE webhooks SET resume_at = NULL, leased_until = NULL")


class Receiver:
    """回环地址上收 webhook 的：got 是收下的；answer 是答的状态码，路径是 /full 的总是 503。"""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answer = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(503 if self.path == "/full" else receiver.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
