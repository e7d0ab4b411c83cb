"""管理员的 prolog 与 epilog：在作业前后以代理的身份运行，失败则排空节点（slurm.conf 的 Prolog、Epilog）。"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

PROGRAM_WAIT_S = 300
_OUTPUT_CHARS = 500

logger = logging.getLogger(__name__)


class RunningPrograms:
    """正在跑的程序（各自成一个会话）；代理停下时一起结束，免得等上几分钟，也免得作业去了别处它还在跑。"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._stopping = False

    def add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)
            if self._stopping:
                _kill_session(pid)

    def discard(self, pid: int) -> None:
        with self._lock:
            self._pids.discard(pid)

    def stop(self) -> None:
        """结束正在跑的，以后启动的也立即结束。"""
        with self._lock:
            self._stopping = True
            for pid in self._pids:
                _kill_session(pid)


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def run_program(program: Path, environment: Mapping[str, str], running: RunningPrograms | None = None) -> str | None:
    """运行并等它结束，最多 PROGRAM_WAIT_S 秒；成功返回 None，失败返回中文原因（含输出的末尾）。"""
    try:
        process = subprocess.Popen(
            [str(program)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return f"{program} 无法运行：{error.strerror}"
    running = running or RunningPrograms()
    running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=PROGRAM_WAIT_S)
    except subprocess.TimeoutExpired:
        _kill_session(process.pid)
        process.communicate()
        return f"{program} 运行超过 {PROGRAM_WAIT_S} 秒"
    finally:
        running.discard(process.pid)
    if process.returncode == 0:
        return None
    tail = output.decode("utf-8", "replace").strip()[-_OUTPUT_CHARS:]
    return f"{program} 以 {process.returncode} 退出" + (f"：{tail}" if tail else "")


def program_environment(job_id: int, user_name: str, uid: int | None, node_name: str) -> dict[str, str]:
    """prolog 与 epilog 的环境：只有认得出作业的几个变量，不带用户的任何值。"""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_USER": user_name,
        "SLURM_JOB_UID": str(uid) if uid is not None else "",
        "SLURMD_NODENAME": node_name,
    }
