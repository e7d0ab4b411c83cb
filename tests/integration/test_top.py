"""scns top：真的系统，80×24，用键看、取消、保留、放行；再在一个真的伪终端里走一遍。"""

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from running_system import RunningSystem, wait_until
from scns_conductor.cli.top_app import TopApp, Wanted
from scns_conductor.cli.top_rows import cell, plain
from scns_conductor.cli.top_screens import LogScreen, WhyScreen
from scns_conductor.client import AsyncClient

WAIT_S = 30.0


@contextlib.asynccontextmanager
async def opened(system: RunningSystem, url: str = "", **wanted: Any) -> AsyncIterator[tuple[TopApp, Pilot[None]]]:
    app = TopApp(
        lambda: AsyncClient(url or system.url, system.token, data_source="CLI", timeout_s=15.0),
        Wanted(own_name="root", pause_s=0.5, **wanted),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        yield app, pilot


def shows(app: TopApp, screen: type) -> bool:
    """最上面的一页是这一种。"""
    return isinstance(app.screen, screen)


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    """等到画面上是这样。"""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "画面上没有等到"
        await pilot.pause(0.05)


def rows(app: TopApp) -> dict[str, str]:
    """表里各行的文字。"""
    table = app.screen_stack[0].query_one(DataTable)
    return {str(key.value): " ".join(str(each) for each in table.get_row(key)) for key in table.rows}


async def choose(app: TopApp, pilot: Pilot[None], key: str) -> None:
    """选中一行。"""
    await until(pilot, lambda: key in rows(app))
    table = app.query_one(DataTable)
    table.move_cursor(row=table.get_row_index(key))
    await until(pilot, lambda: app.chosen == key)


@pytest.fixture
def jobs(running_system: RunningSystem) -> Iterator[tuple[str, str]]:
    """一个在跑、写着输出，一个保留着。"""
    running = running_system.submit("#!/bin/bash\necho -e '\\e[32m绿\\e[0m 的输出'\nsleep 300\n", name="在跑的")
    held = running_system.submit("#!/bin/bash\ntrue\n", name="[red]放着[/]", hold=True)
    running_system.wait_state(running, "RUNNING")
    yield running, held
    for job_id in (running, held):
        running_system.call("POST", f"/jobs/cancel/{job_id}")


def run(check: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(check())  # type: ignore[arg-type]


def test_queue_log_why_and_nodes(running_system: RunningSystem, jobs: tuple[str, str]) -> None:
    running, held = jobs

    async def check() -> None:
        async with opened(running_system) as (app, pilot):
            await choose(app, pilot, running)
            assert "在跑的" in rows(app)[running]
            # 名字里像标记的只是字。
            assert "[red]放着[/]" in rows(app)[held]
            assert "JobHeldUser" in rows(app)[held]
            assert "CPU" in str(app.query_one("#summary", Static).render())
            await pilot.press("enter")
            await until(pilot, lambda: shows(app, LogScreen) and app.screen.query_one(RichLog).lines)
            assert "绿 的输出" in app.screen.query_one(RichLog).lines[0].text
            await pilot.press("escape")
            await choose(app, pilot, held)
            await pilot.press("w")
            await until(
                pilot,
                lambda: shows(app, WhyScreen) and "JobHeldUser" in str(app.screen.query_one("#why", Static).render()),
            )
            await pilot.press("escape", "tab")
            await until(pilot, lambda: any(name.startswith("node") for name in rows(app)))
            await pilot.press("tab")
            await until(pilot, lambda: running in rows(app))

    run(check)


def test_hold_release_cancel(running_system: RunningSystem, jobs: tuple[str, str]) -> None:
    running, held = jobs

    async def check() -> None:
        async with opened(running_system) as (app, pilot):
            await choose(app, pilot, held)
            await pilot.press("r")
            await until(pilot, lambda: held not in rows(app) or "JobHeldUser" not in rows(app)[held])
            await choose(app, pilot, running)
            await pilot.press("c", "n")
            assert running_system.query(running)["state"] == "RUNNING"
            await pilot.press("c", "y")
            await until(pilot, lambda: running not in rows(app))

    run(check)
    running_system.wait_state(running, "CANCELLED")
    running_system.wait_state(held, "COMPLETED")
    fresh = running_system.submit("#!/bin/bash\ntrue\n", begin_time="now+1hour", name="等着的")

    async def hold() -> None:
        async with opened(running_system, text="等着") as (app, pilot):
            await choose(app, pilot, fresh)
            assert len(rows(app)) == 1
            await pilot.press("h")
            await until(pilot, lambda: "JobHeldUser" in rows(app)[fresh])

    run(hold)
    running_system.call("POST", f"/jobs/cancel/{fresh}")


def test_refused_action_is_told(running_system: RunningSystem, jobs: tuple[str, str]) -> None:
    running, _ = jobs

    async def check() -> None:
        async with opened(running_system) as (app, pilot):
            await choose(app, pilot, running)
            # 在跑的放不了行：说出来，还在原来的画面。
            await pilot.press("r")
            await until(pilot, lambda: list(app._notifications))
            assert running in rows(app)

    run(check)


def test_api_away_is_said(running_system: RunningSystem) -> None:
    async def check() -> None:
        async with opened(running_system, url="http://127.0.0.1:9") as (app, pilot):
            await until(pilot, lambda: app.query_one("#trouble").display)
            assert "连不上" in str(app.query_one("#trouble", Static).render())

    run(check)


def test_names_cannot_move_the_terminal() -> None:
    assert plain("a\x1b[31mb\u202ec\n") == "a·[31mbc·"
    assert cell("很长很长很长很长很长的名字", 10).cell_len <= 10


def test_in_a_real_terminal(running_system: RunningSystem, jobs: tuple[str, str]) -> None:
    running, _ = jobs
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**running_system.environment, "TERM": "xterm-256color"}
    child = subprocess.Popen(
        [sys.executable, "-c", "from scns_conductor.cli.main import main; main()", "top"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    seen = bytearray()

    def shows(word: str) -> bool:
        while select.select([mine], [], [], 0.05)[0]:
            try:
                seen.extend(os.read(mine, 65536))
            except OSError:
                return word.encode() in seen
        return word.encode() in seen

    wait_until(lambda: shows(running) and shows("在跑的"), WAIT_S, "终端里看得到作业")
    os.write(mine, b"q")
    wait_until(lambda: shows("\x1b[?1049l") and child.poll() is not None, WAIT_S, "q 退出，终端还原")
    assert child.returncode == 0
    os.close(mine)


@pytest.mark.parametrize(
    ("prelude", "said"),
    [("import sys; sys.modules['textual'] = None; ", "scns-conductor[top]"), ("", "scns top 要在终端里用")],
)
def test_what_is_missing_is_said(running_system: RunningSystem, prelude: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", prelude + "from scns_conductor.cli.main import main; main()", "top"],
        env=running_system.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
