"""牧守进程自己的日志文件（标准错误）。"""

from __future__ import annotations

import contextlib
import sys
import time


def log(message: str) -> None:
    """写一行；写不进去（日志的盘满了）就算了，牧守进程不能因此死掉。"""
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}", file=sys.stderr, flush=True)
