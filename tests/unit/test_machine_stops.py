"""关机的最后一步：1 号进程是 systemd-shutdown（真的 PID 名字空间里）；别的时候不是。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scns_conductor.worker.host.process_table import machine_stops

CODE = "from scns_conductor.worker.host.process_table import machine_stops; print(machine_stops())"


def test_this_machine_does_not_stop() -> None:
    assert machine_stops() is False


@pytest.mark.skipif(os.geteuid() != 0, reason="需要 root：PID 名字空间")
@pytest.mark.parametrize(("name", "stops"), [("systemd-shutdown", "True"), ("systemd", "False")])
def test_the_first_process_tells(tmp_path: Path, name: str, stops: str) -> None:
    first = tmp_path / name
    first.symlink_to(os.path.realpath(sys.executable))
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", first, "-S", "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONHOME": sys.base_prefix},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == stops, done.stderr
