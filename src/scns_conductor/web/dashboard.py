"""看板的页面：一个 Vue 组件。它想看什么就告诉这里，答案经 websocket 推过去。"""

import asyncio
import time
from typing import Any

from fastapi import Request
from nicegui import background_tasks, ui
from nicegui.element import Element
from starlette.responses import RedirectResponse

from scns_conductor.web.feed import Feed, Watcher
from scns_conductor.web.log_follow import follow_output
from scns_conductor.web.login import english
from scns_conductor.web.login_page import THEME_SCRIPT
from scns_conductor.web.session import COOKIE, Sessions, Visitor
from scns_conductor.web.spoken import spoken
from scns_conductor.web.upstream import Upstream

PATHS = (
    "/", "/jobs", "/jobs/{rest:path}", "/submit", "/nodes", "/nodes/{rest:path}", "/plan", "/usage", "/what-if",
    "/me", "/accounts", "/admin", "/admin/{rest:path}",
    # 别的：看板自己说没有这一页，带着左栏。
    "/{rest:path}",
)  # fmt: skip
# 一个标签页至多看这么多件事、跟这么多路输出。
MOST_WATCHES = 40
MOST_FOLLOWS = 4
_STREAMS = ("stdout", "stderr")


class Dashboard(Element, component="browser/bridge.js"):
    """一个标签页。"""

    def __init__(self, source: str, facts: dict[str, Any], visitor: Visitor, feed: Feed, upstream: Upstream) -> None:
        super().__init__()
        self._props["source"] = source
        self._props["facts"] = facts
        self._visitor, self._feed, self._upstream = visitor, feed, upstream
        self._watchers: dict[int, Watcher] = {}
        self._follows: dict[int, asyncio.Task[None]] = {}
        self._open = True
        feed.tabs += 1
        self.on("watch", lambda event: self._watch(event.args), args=None)
        self.on("unwatch", lambda event: self._stop(int(event.args["id"])), args=None)
        self.on("follow", lambda event: self._follow(event.args), args=None)
        self.on("wanted", lambda event: self._wanted(event.args["all"]), args=None)
        self.on("changed", lambda: self._feed.ask_now(self._visitor.token))
        self.client.on_delete(self.close)

    def close(self) -> None:
        """标签页关了。"""
        self._feed.tabs -= self._open
        self._open = False
        for number in list(self._watchers):
            self._feed.unwatch(self._watchers.pop(number))
        for task in self._follows.values():
            task.cancel()
        self._follows.clear()

    def _send(self, number: int, message: Any, error: dict[str, object] | None = None) -> None:
        if not self.is_deleted:
            self.run_method("receive", number, message, error)

    def _told(self, number: int, message: dict[str, Any]) -> None:
        if "error" in message:
            message = {**message, "error": spoken(str(message["error"]), str(self._props["facts"]["language"]))}
        self._send(number, message)

    def _wanted(self, asked: list[tuple[str, dict[str, Any]]]) -> None:
        """连接断了又接上：标签页要的全在这里，断开那一刻丢了的补上，不要了的停下。"""
        kept = {int(detail["id"]) for _, detail in asked}
        for number in [each for each in (*self._watchers, *self._follows) if each not in kept]:
            self._stop(number)
        for what, detail in asked:
            if int(detail["id"]) not in self._watchers and int(detail["id"]) not in self._follows:
                self._watch(detail) if what == "watch" else self._follow(detail)

    def _watch(self, asked: dict[str, Any]) -> None:
        number, target, every_s = int(asked["id"]), str(asked["target"]), float(asked.get("every", 2))
        self._stop(number)
        # 只看自己这个 API 的路径。
        if len(self._watchers) >= MOST_WATCHES or not target.startswith("/") or target.startswith("//"):
            return
        self._watchers[number] = self._feed.watch(
            target,
            self._visitor.token,
            str(self._props["facts"]["language"]),
            lambda body, error: self._send(number, body, error),
            max(1.0, every_s),
        )

    def _follow(self, asked: dict[str, Any]) -> None:
        number, job_id, stream = int(asked["id"]), str(asked["job_id"]), str(asked["stream"])
        self._stop(number)
        if len(self._follows) >= MOST_FOLLOWS or stream not in _STREAMS or not job_id.replace("_", "").isdecimal():
            return
        self._follows[number] = background_tasks.create(
            follow_output(
                self._upstream, self._visitor.token, job_id, stream, lambda message: self._told(number, message)
            ),
            name=f"follow {job_id}",
        )

    def _stop(self, number: int) -> None:
        watcher, task = self._watchers.pop(number, None), self._follows.pop(number, None)
        if watcher is not None:
            self._feed.unwatch(watcher)
        if task is not None:
            task.cancel()


def add_pages(assets: str, cluster: str, sessions: Sessions, feed: Feed, upstream: Upstream) -> None:
    """登记全部页面：同一个组件，画哪一页由浏览器里的路径定。"""

    def build(request: Request) -> Any:
        visitor = sessions.read(request.cookies.get(COOKIE))
        if visitor is None:
            return RedirectResponse("/login", 303)
        in_english = english(request)
        ui.add_head_html(
            f"<script>{THEME_SCRIPT};document.documentElement.lang='{'en' if in_english else 'zh-CN'}'</script>"
            f'<link rel="stylesheet" href="{assets}/scns.css"><link rel="modulepreload" href="{assets}/main.js">'
        )
        facts = {
            "cluster": cluster,
            "language": "en" if in_english else "zh",
            "user_name": visitor.user_name,
            "admin": visitor.admin,
            "operator": visitor.operator,
            "auditor": visitor.auditor,
            "expires_at": visitor.expires_at,
            "now": time.time(),
        }
        Dashboard(f"{assets}/main.js", facts, visitor, feed, upstream)
        return None

    for path in PATHS:
        ui.page(path, title=cluster, favicon=None)(_named(build, path))


def _named(build: Any, path: str) -> Any:
    """同一个函数登记几次：NiceGUI 按函数认页面，所以各给一个。"""
    if "{rest" in path:

        def page(request: Request, rest: str) -> Any:
            return build(request)

        return page

    def plain(request: Request) -> Any:
        return build(request)

    return plain
