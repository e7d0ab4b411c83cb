"""真实客户端送到作业里执行的函数；作业里靠 PYTHONPATH 找到这个模块。"""

import time
from pathlib import Path

from submitit import JobEnvironment
from submitit.core.utils import DelayedSubmission


class Counter:
    """数到 100；被叫停时把数到哪里交给下一次。"""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.at = 0

    def __call__(self) -> int:
        """每次运行记一行：从几开始。"""
        with self.log.open("a") as file:
            file.write(f"{self.at}\n")
        first = self.at == 0
        while self.at < 100:
            self.at += 1
            # 第一次停在中途，等人叫停；下一次接着数完。
            while first and self.at == 50:
                time.sleep(0.05)
        return self.at

    def checkpoint(self) -> DelayedSubmission:
        """submitit 收到 USR2 时调用。"""
        return DelayedSubmission(self)


def rank_and_size() -> tuple[int, int]:
    """submitit 眼里的任务序号与任务数。"""
    environment = JobEnvironment()
    return environment.global_rank, environment.num_tasks


def slowly(value: int) -> int:
    """不太快的活。"""
    time.sleep(0.3)
    return value


def double(value: int) -> int:
    """两倍。"""
    return 2 * value


def fail() -> None:
    """总是失败。"""
    raise ValueError("坏了")
