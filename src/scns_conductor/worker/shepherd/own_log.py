"""牧守进程自己的日志文件（标准错误）。"""

from __future__ import annotations

import sys
import time


def log(message: str) -> None:
    """写一行。"""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {message}", file=sys.stderr, flush=True)
