"""总览上要管的事：真的原因，出现了就说，没有了就不说。"""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect
from visits import SignIn

from running_system import RunningSystem, database_url, stopped, wait_until


def alert(page: Page, words: str) -> Locator:
    return page.locator(".alerts li", has_text=re.compile(words))


def shown_then_gone(
    page: Page, words: str, cause: "contextlib.AbstractContextManager[object]", wait_s: float = 60
) -> None:
    expect(alert(page, words)).to_have_count(0)
    with cause:
        expect(alert(page, words).first).to_be_visible(timeout=wait_s * 1000)
    expect(alert(page, words)).to_have_count(0)


def test_nodes_drained_and_down(sign_in: SignIn, web_system: RunningSystem) -> None:
    @contextlib.contextmanager
    def changed(state: str) -> Iterator[None]:
        assert web_system.call("PATCH", "/nodes/node2", {"state": state, "reason": "换电源"})[0] == 200
        yield
        assert web_system.call("PATCH", "/nodes/node2", {"state": "RESUME"})[0] == 200

    page = sign_in("/")
    shown_then_gone(page, "节点 node2 在排空：换电源", changed("DRAIN"))
    shown_then_gone(page, "节点 node2 下线：换电源", changed("DOWN"))
    wait_until(lambda: web_system.call("GET", "/nodes/node2")[1]["state"].startswith("IDLE"), what="node2 又在线")


def test_a_spool_that_fills_up(sign_in: SignIn, web_system: RunningSystem) -> None:
    """两个真的节点的盘是够的；报得少的那个（没有代理，只有一行）说出来。"""

    @contextlib.contextmanager
    def nearly_full() -> Iterator[None]:
        with psycopg.connect(database_url(web_system), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO nodes (name, address, cpus, memory, gres, features, state, last_heartbeat, containment,"
                " spool_free) VALUES ('full', 'nowhere', 1, 1024, '{}', '{}', 'UP',"
                " clock_timestamp() + interval '1 hour', '{}', 300)"
            )
            try:
                yield
            finally:
                connection.execute("DELETE FROM nodes WHERE name = 'full'")

    page = sign_in("/")
    with nearly_full():
        expect(alert(page, "节点 full 的工作目录只剩 300 MiB")).to_be_visible()
        # 真的节点由心跳报的，与盘上的一样多（别的进程也在写，差一点）。
        disk = os.statvfs(web_system.data_dir)
        free = disk.f_bavail * disk.f_frsize // 1024**2
        wait_until(lambda: web_system.call("GET", "/nodes/node1")[1]["spool_free"] is not None, what="心跳报了")
        assert abs(web_system.call("GET", "/nodes/node1")[1]["spool_free"] - free) < max(4096, free // 10)
        page.get_by_role("link", name=re.compile("节点 full")).click()
        expect(page.locator(".facts")).to_contain_text("还有 300 MiB")
    page.go_back()
    expect(alert(page, "节点 full")).to_have_count(0)


@pytest.mark.usefixtures("_settings_as_started")
def test_a_licence_that_is_used_up(sign_in: SignIn, web_system: RunningSystem) -> None:
    assert web_system.call("POST", "/cluster/apply", {"settings": {"licenses": "matlab:1"}})[0] == 200

    @contextlib.contextmanager
    def taken() -> Iterator[None]:
        def accepted() -> str | None:
            status, answer = web_system.call("POST", "/jobs/submit", {"job": job, "script": "#!/bin/bash\nsleep 600\n"})
            return str(answer["job_id"]) if status < 300 else None

        job = {"name": "matlab", "licenses": "matlab:1", "current_working_directory": str(web_system.data_dir)}
        job_id = wait_until(accepted, what="有了这个许可证")
        yield
        web_system.call("POST", f"/jobs/cancel/{job_id}")

    shown_then_gone(sign_in("/"), "许可证 matlab 用完了", taken())


@pytest.fixture
def _settings_as_started(web_system: RunningSystem) -> Iterator[None]:
    yield
    assert web_system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200


def test_no_scheduler(sign_in: SignIn, web_system: RunningSystem) -> None:
    scheduler = web_system.services("worker.scheduler.process")
    shown_then_gone(sign_in("/"), "没有调度器", stopped(scheduler))
    job_id = web_system.submit("#!/bin/bash\ntrue\n", name="又有调度器了")
    web_system.wait_state(job_id, "COMPLETED")


def test_a_database_that_answers_slowly(sign_in: SignIn, web_system: RunningSystem) -> None:
    """数据库的会话停一停、走一走：问一句要等它走。十五秒才看一次，碰上刚好在走的就再看几次。"""

    @contextlib.contextmanager
    def stuttering() -> Iterator[None]:
        postmaster = int((web_system.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        over = threading.Event()

        def sessions() -> list[int]:
            found = []
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == postmaster:
                        found.append(int(entry.name))
            return found

        def send(number: signal.Signals, pids: list[int]) -> None:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        def run() -> None:
            while not over.is_set():
                pids = sessions()
                send(signal.SIGSTOP, pids)
                over.wait(1.0)
                send(signal.SIGCONT, pids)
                over.wait(0.1)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    shown_then_gone(sign_in("/"), "数据库慢：一问一答", stuttering(), wait_s=120)
