"""一台开着的 Debian，以 systemd 为 1 号进程：虚拟机（vm.py）或容器（container.py）；测试照同样的办法用它。"""

import logging
import time
from abc import ABC, abstractmethod

logger = logging.getLogger(__name__)


class Machine(ABC):
    """一台开着的机器。pace 是它比真的机器慢几倍：等的期限照它放长。"""

    pace = 1.0

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def execute(self, command: str, wait_s: float) -> tuple[int, str]:
        """以 root 执行一段 shell，返回退出码与输出（两个流合在一起）。"""

    @abstractmethod
    def reboot(self) -> None:
        """像人那样重启，等它回来。"""

    @abstractmethod
    def cut_power(self) -> None:
        """断电再来电，等它起来。"""

    @abstractmethod
    def cable(self, *, plugged: bool) -> None:
        """插上或拔掉网线。"""

    @abstractmethod
    def stop(self) -> None:
        """拔掉电源，什么也不留下。"""

    def run(self, command: str, *, check: bool = True) -> str:
        """以 root 执行一段 shell，返回它的输出。"""
        began = time.monotonic()
        code, output = self.execute(command, 120 * self.pace)
        logger.info("%s %.1f 秒：%s", self.name, time.monotonic() - began, command)
        assert not check or code == 0, f"{self.name}：{command}：退出码 {code}\n{output}"
        return output

    def until(self, command: str, what: str) -> str:
        """等到命令成功，返回它的输出；到时没有，说它最后说的。"""
        wait_s = 90 * self.pace
        deadline = time.monotonic() + wait_s
        while True:
            code, said = self.execute(command, 120 * self.pace)
            if code == 0:
                logger.info("%s 等到了（还剩 %.0f 秒）：%s", self.name, deadline - time.monotonic(), what)
                return said
            assert time.monotonic() < deadline, f"{self.name} 等了 {wait_s:g} 秒：{what}：{command}：{said}"
            time.sleep(0.5)
