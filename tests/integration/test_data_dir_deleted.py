"""scns up 的数据目录在运行中被人删掉：说一声，自己停下，什么也不留；不再对着空目录一遍遍地重启。"""

import shutil
from pathlib import Path

import pytest

from running_system import alive, start_system, wait_until

pytestmark = pytest.mark.faults
STOP_WAIT_S = 150


def processes_of(data_dir: Path) -> list[int]:
    """命令行里有这个目录的进程（牧守进程不是 scns up 的孩子）。"""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in words and alive(int(path.name)):
            found.append(int(path.name))
    return found


def test_a_deleted_data_directory_ends_everything(scratch: Path, tmp_path: Path) -> None:
    pid_file, data_dir = tmp_path / "pid", scratch / "deleted"
    with start_system(data_dir, "--nodes", "1", "--cpus", "2", environment={"SCNS_KILL_WAIT_S": "1"}) as system:
        system.submit(f"#!/bin/bash\necho $$ > {pid_file}\nexec sleep 600\n", standard_output="/dev/null")
        job = int(wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), what="作业写下进程号"))
        assert processes_of(data_dir)
        shutil.rmtree(data_dir)
        assert system.process.wait(STOP_WAIT_S) == 1
    assert not alive(job)
    wait_until(lambda: not processes_of(data_dir), what="进程都走了")
    log = (scratch / "deleted.log").read_text()
    assert f"数据目录 {data_dir} 被删掉了" in log
    assert "Traceback" not in log
    assert log.rstrip().endswith("已停止")
