"""装好的 Slurm 命令，对着一个真的系统执行。"""

import subprocess
import sys
from pathlib import Path

import warm_commands
from running_system import RunningSystem
from scns_conductor.slurm.install import install

SCRIPT = '#!/bin/bash\n#SBATCH -J "my job"\necho 你好\nexit 3\n'


class Commands:
    """装好的链接；在 work 目录里执行。"""

    def __init__(self, system: RunningSystem, prefix: Path, work: Path) -> None:
        install(prefix, sys.executable)
        self.work, self.prefix = work, prefix
        self.environment = {**system.environment, "PATH": f"{prefix}:/usr/bin:/bin"}

    @classmethod
    def beside(cls, system: RunningSystem, folder: Path) -> "Commands":
        """链接在 folder/bin，在（新建的）folder/work 里执行。"""
        (folder / "work").mkdir()
        return cls(system, folder / "bin", folder / "work")

    def run(
        self, *words: str, text: str | None = None, environment: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """执行一个命令，取它的输出与退出码。"""
        return warm_commands.run(
            [self.prefix / words[0], *words[1:]],
            env={**self.environment, **(environment or {})},
            cwd=self.work,
            text=text,
            timeout=60,
        )

    def submit(self, *words: str, text: str = SCRIPT) -> str:
        """提交并返回作业号。"""
        done = self.run("sbatch", "--parsable", *words, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
