"""监督者：重启、退避、停机、信号。被看着的都是真的进程。"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_system import alive
from scns_conductor.local.child import start_child
from scns_conductor.local.supervisor import Service, StopRequested, Supervisor

# 监督者阻塞信号再等它们：进程里不能有别的线程，xdist 的进程里有。
pytestmark = pytest.mark.alone

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    watching = Supervisor()
    yield watching
    watching.stop(*list(watching.services), number=signal.SIGKILL)
    watching.close()


def service(log: Path, *command: str, name: str = "child") -> Service:
    return Service(name, lambda: start_child(command, log=log, environment=dict(os.environ)), log, stop_wait_s=5)


def pid_of(watched: Service) -> int:
    assert watched.process is not None
    return watched.process.pid


def test_a_killed_service_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    watched = service(tmp_path / "log", "sleep", "600")
    supervisor.start(watched)
    first = pid_of(watched)
    os.kill(first, signal.SIGKILL)
    assert supervisor.wait_until(lambda: watched.running and pid_of(watched) != first, 10)
    assert watched.deaths == 1


def test_a_service_that_cannot_live_is_restarted_ever_more_slowly(supervisor: Supervisor, tmp_path: Path) -> None:
    watched = service(tmp_path / "log", sys.executable, "-c", "print('再见')")
    supervisor.start(watched)
    assert supervisor.wait_until(lambda: watched.deaths >= 3, 20)
    assert watched.backoff_s >= 0.8
    assert (tmp_path / "log").read_text().count("再见") == watched.deaths


def test_a_program_that_is_missing_does_not_take_the_others_down(supervisor: Supervisor, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    broken, healthy = service(tmp_path / "a", str(program)), service(tmp_path / "b", "sleep", "600")
    supervisor.start(broken)
    supervisor.start(healthy)
    program.unlink()
    assert supervisor.wait_until(lambda: broken.deaths >= 1 and broken.backoff_s >= 0.8, 20)
    assert healthy.running
    assert healthy.deaths == 0


def test_stop_ends_all_and_nothing_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    watched = [service(tmp_path / f"log{index}", "sleep", "600") for index in range(3)]
    for each in watched:
        supervisor.start(each)
    pids = [pid_of(each) for each in watched]
    supervisor.stop(*watched)
    supervisor.wait(0.5)
    assert not any(alive(pid) for pid in pids)
    assert supervisor.services == []


def test_one_that_ignores_sigterm_is_killed_with_its_children(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    watched = service(log, sys.executable, "-c", STUBBORN)
    supervisor.start(watched)
    assert supervisor.wait_until(lambda: "ready" in log.read_text(), 10)
    pid = pid_of(watched)
    supervisor.stop(watched, wait_s=0.2)
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_ends_the_wait(supervisor: Supervisor, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    with pytest.raises(StopRequested):
        supervisor.wait(10)


def test_children_do_not_inherit_blocked_signals(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    watched = service(log, "cat", "/proc/self/status")
    supervisor.start(watched)
    assert supervisor.wait_until(lambda: "SigBlk" in log.read_text(), 10)
    blocked = next(line for line in log.read_text().splitlines() if line.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) == 0


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from scns_conductor.local.child import start_child; import time\n"
        "child = start_child(['sleep', '600'], log=Path(sys.argv[1]), environment={'PATH': '/usr/bin:/bin'})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)
