"""关机的最后一步：1 号进程是 systemd-shutdown（真的 PID 名字空间里）；别的时候不是。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scns_conductor.worker.host.process_table import machine_stops

SOURCE = Path(__file__).parents[2] / "src"
# 1 号进程：起一个牧守进程，等它听着，请它停。
SHEPHERD = """
import os, signal, subprocess, sys, time
source, spool = sys.argv[1:]
start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from scns_conductor.worker.shepherd.process import main; "
words = ["--spool", spool, "--node", "n", "--containment", "none", "--idle-exit-s", "600"]
child = subprocess.Popen(["python", "-S", "-c", start + "main(sys.argv[1:])", source, *words],
                         executable=os.path.realpath("/proc/self/exe"))
while not os.path.exists(spool + "/shepherd.sock"):
    assert child.poll() is None
    time.sleep(0.02)
child.send_signal(signal.SIGTERM)
try:
    print(child.wait(5))
except subprocess.TimeoutExpired:
    print("还在")
    child.kill()
"""
CODE = "from scns_conductor.worker.host.process_table import machine_stops; print(machine_stops())"


def test_this_machine_does_not_stop() -> None:
    assert machine_stops() is False


def as_first_process(folder: Path, name: str, code: str, *words: str) -> str:
    """在新的 PID 名字空间里，1 号进程叫 name，执行这段 Python，返回它打印的。"""
    first = folder / name
    first.symlink_to(os.path.realpath(sys.executable))
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHOME": sys.base_prefix}
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", first, "-S", "-c", code, *words],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="需要 root：PID 名字空间")
@pytest.mark.parametrize(("name", "stops"), [("systemd-shutdown", "True"), ("systemd", "False")])
def test_the_first_process_tells(tmp_path: Path, name: str, stops: str) -> None:
    assert as_first_process(tmp_path, name, CODE) == stops


@pytest.mark.skipif(os.geteuid() != 0, reason="需要 root：PID 名字空间")
@pytest.mark.parametrize(("name", "left"), [("systemd-shutdown", "0"), ("systemd", "还在")])
def test_the_shepherd_does_not_hold_up_a_shutdown(tmp_path: Path, name: str, left: str) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o700)
    assert as_first_process(tmp_path, name, SHEPHERD, str(SOURCE), str(spool)) == left
