"""线程的主人：一条道挂住只耽误它自己，一个组占不满，叫了总有人醒，任何线程意外死去都结束进程。"""

import subprocess
import sys
import threading
import time

import pytest

from scns_conductor.worker.host.thread_owner import EXIT_THREAD_DIED, Lanes

WAIT_S = 20.0


def test_a_stuck_lane_delays_only_itself() -> None:
    lanes = Lanes("t", most=8, most_of_group=2)
    released, stuck = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        stuck.release()
        released.wait(WAIT_S)

    # 同一组的两条道挂住，占满这一组；第三条等着，别的组不等。
    later = threading.Event()
    for lane in ("a", "b"):
        lanes.submit(lane, hang, group="g")
        assert stuck.acquire(timeout=WAIT_S)
    lanes.submit("c", later.set, group="g")
    order: list[int] = []
    done = threading.Event()
    for number in range(100):
        lanes.submit("d", lambda number=number: order.append(number), group="h")  # type: ignore[misc]
    lanes.submit("d", done.set, group="h")
    assert done.wait(WAIT_S)
    assert order == list(range(100)), "一条道上按次序"
    assert not later.is_set()
    released.set()
    assert later.wait(WAIT_S)


def test_every_task_is_done_whatever_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """线程散去与叫醒的竞争：闲一毫秒就散去，照样一件不落。"""
    monkeypatch.setattr("scns_conductor.worker.host.thread_owner.IDLE_S", 0.001)
    lanes = Lanes("t", most=3, most_of_group=2)
    done = threading.Semaphore(0)
    for number in range(3000):
        lanes.submit(number % 7, done.release, group=number % 3)
        if number % 10 == 0:
            time.sleep(0.001)
    for _ in range(3000):
        assert done.acquire(timeout=WAIT_S)


def test_nothing_starts_after_close() -> None:
    lanes = Lanes("t", most=1)
    started, released = threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        started.set()
        released.wait(WAIT_S)

    lanes.submit("a", first)
    assert started.wait(WAIT_S)
    lanes.submit("b", lambda: ran.append("b"))
    lanes.close()
    lanes.submit("c", lambda: ran.append("c"))
    released.set()
    for thread in threading.enumerate():
        if thread.name == "t":
            thread.join(WAIT_S)
    assert ran == []


@pytest.mark.parametrize(
    "body",
    [
        "threading.Thread(target=lambda: 1 / 0).start(); time.sleep(60)",
        "Lanes('x', most=1).submit('a', lambda: 1 / 0); time.sleep(60)",
        # 主线程死去时，挂着的线程不能拦着退出。
        "Lanes('x', most=1).submit('a', lambda: time.sleep(60)); 1 / 0",
    ],
)
def test_the_first_death_ends_the_process(body: str) -> None:
    code = (
        "import threading, time\nfrom scns_conductor.worker.host.thread_owner import Lanes, own_every_thread\n"
        f"own_every_thread()\n{body}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == EXIT_THREAD_DIED
    assert "thread_died" in done.stderr
    assert "ZeroDivisionError" in done.stderr
