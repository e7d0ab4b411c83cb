"""真的 Unix 用户，与以他们的身份、不带任何令牌地执行命令。"""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import scns_conductor
from scns_conductor.slurm.install import install


@contextlib.contextmanager
def unix_users(*names: str) -> Iterator[list[int]]:
    """建好的用户的 uid；离开时删掉。"""
    made: list[str] = []
    try:
        for name in names:
            subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", name], check=True)
            made.append(name)
        yield [int(subprocess.check_output(["id", "-u", name])) for name in names]
    finally:
        for name in made:
            subprocess.run(["userdel", name], check=True)


def commands_for_everyone(folder: Path) -> Path:
    """folder 里有 scns 与 Slurm 的命令，谁都能执行。"""
    install(folder, sys.executable)
    program = folder / "scns"
    program.write_text(f"#!{sys.executable}\nfrom scns_conductor.cli.main import main\n\nmain()\n")
    program.chmod(0o755)
    return folder


@dataclass(frozen=True)
class Person:
    """一个 uid。run_dir 在他的命令看来是 /run：真的那个不动，几套测试互不相干。"""

    uid: int
    bin: Path
    run_dir: Path
    work: Path

    def run(
        self, *words: str, text: str | None = None, limits: Mapping[int, int] | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """执行一个命令，取它的输出与退出码；环境里没有地址，也没有令牌。limits 是软上限（RLIMIT_… 的号 -> 数）。"""

        def lower() -> None:
            for number, soft in (limits or {}).items():
                resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))

        inside = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f'mount --bind {self.run_dir} /run; exec "$@"',
            "sh",
        ]
        identity = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return subprocess.run(
            [*inside, *identity, *words],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.work,
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "PYTHONPATH": str(Path(scns_conductor.__file__).parents[1]),
                "HOME": "/root" if self.uid == 0 else "/nonexistent",
                **environment,
            },
            timeout=60,
            check=False,
            preexec_fn=lower if limits else None,
        )

    def say(
        self, *words: str, text: str | None = None, limits: Mapping[int, int] | None = None, **environment: str
    ) -> str:
        """同上，做不成就失败；返回标准输出。"""
        done = self.run(*words, text=text, limits=limits, **environment)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()
