"""上一版的牧守进程、代理的客户端与总线：tests/data/version-1.zip 是第 1 版（提交 90bbd8c）的那几个房间，原样。"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from shepherd_yard import wait_until

ARCHIVE = Path(__file__).parents[1] / "data" / "version-1.zip"
_SHEPHERD = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from scns_conductor.worker.shepherd.process import main; main(sys.argv[1:])"
)


def start_old_shepherd(
    spool: Path, node: str, containment: str = "auto", idle_exit_s: float = 600
) -> "subprocess.Popen[bytes]":
    """照第 1 版的代理那样启动它；等到连得上。"""
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(spool / "shepherd.log", "ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _SHEPHERD, str(ARCHIVE)),
                *("--spool", str(spool), "--node", node, "--containment", containment),
                *("--idle-exit-s", str(idle_exit_s)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        )
    wait_until((spool / "shepherd.sock").exists, "旧的牧守进程")
    return process


def run_old(program: str, *arguments: str) -> Any:
    """在第 1 版的源码上执行一段程序，返回它打印的最后一行 JSON。"""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ARCHIVE)!r})\n{program}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])
