"""照一个数据库的地址执行 scns 的命令。"""

import os
import subprocess
import sys
from pathlib import Path

SCNS = Path(sys.executable).with_name("scns")


def scns_on(url: str, *words: str | Path, code: int = 0) -> str:
    """执行 scns words；退出码须是 code，没有 traceback；返回两路输出。"""
    done = subprocess.run(
        [SCNS, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "SCNS_DATABASE_URL": url},
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
