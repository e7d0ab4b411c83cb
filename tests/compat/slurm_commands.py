"""在测试里执行装好的 Slurm 命令。"""

import os
import subprocess
from pathlib import Path

from running_system import RunningSystem


class Slurm:
    """装好的命令；run 返回（退出码，标准输出，标准错误）。"""

    def __init__(self, system: RunningSystem, folder: Path, work: Path) -> None:
        self.system, self.folder, self.work = system, folder, work
        self.environment = {**system.environment, "PATH": f"{folder}:{os.environ['PATH']}"}

    def run(self, *words: str, script: str | None = None, **variables: str) -> tuple[int, str, str]:
        """在工作目录里执行一条命令。"""
        done = subprocess.run(
            words,
            input=script,
            capture_output=True,
            text=True,
            cwd=self.work,
            env={**self.environment, **variables},
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def out(self, *words: str, script: str | None = None, **variables: str) -> str:
        """标准输出；退出码不是 0 则测试失败。"""
        code, out, error = self.run(*words, script=script, **variables)
        assert code == 0, f"{words}：{code} {error}"
        return out
