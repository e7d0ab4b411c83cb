"""一直在跑的协程归进程所有：哪个意外死去，都记下经过、整个进程以 70 退出，由监督者重启。

悄悄少了一个，用量不再汇总、钟不再对，谁也不知道；线程的在 worker/host/thread_owner.py。
"""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any

# sysexits.h 的 EX_SOFTWARE。
EXIT_TASK_DIED = 70

logger = logging.getLogger(__name__)


def owned_task(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """在后台做 work；它抛出的任何异常（取消不算）都结束进程。"""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_look)
    return task


def _look(task: "asyncio.Task[None]") -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    try:
        logger.critical("task_died", extra={"died": task.get_name()}, exc_info=error)
        sys.stderr.flush()
    finally:
        os._exit(EXIT_TASK_DIED)
