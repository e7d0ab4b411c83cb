"""混沌测试的一主一备：主库死了，过一会儿提升备库，再把旧的主库重建成新的备库；像部署里的 Patroni，一次一件。"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from postgres_pair import PostgresPair

RESTART_S = 0.5


class PairKeeper:
    """看着这一对。上一件还没有收拾好时不出新的事（没有备库可以提升）。"""

    def __init__(self, folder: Path) -> None:
        self.pair = PostgresPair(folder)
        self._work: threading.Thread | None = None
        self.failure: Exception | None = None

    @property
    def url(self) -> str:
        """两台都写着的地址。"""
        return self.pair.url

    def primary_pids(self) -> list[int]:
        """主库的主进程；收拾着的时候没有。"""
        pid = self.pair.primary.pid
        return [] if self._busy() or pid is None else [pid]

    def fail_over(self, away_s: float) -> bool:
        """kill -9 主库；away_s 秒之后提升备库。"""

        def repair() -> None:
            time.sleep(away_s)
            self.pair.fail_over()
            self.pair.rebuild()

        return self._hurt(signal.SIGKILL, repair)

    def restart(self, number: signal.Signals) -> bool:
        """主库死了，过一会儿由它的看护者原地再起。"""

        def repair() -> None:
            time.sleep(RESTART_S)
            self.pair.primary.restart()

        return self._hurt(number, repair)

    def settle(self) -> None:
        """等手上的一件收拾好；没有收拾好的抛出来。"""
        if self._work is not None:
            self._work.join()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """都停下。"""
        self.settle()
        self.pair.stop()

    def _busy(self) -> bool:
        return self._work is not None and self._work.is_alive()

    def _hurt(self, number: signal.Signals, repair: Callable[[], None]) -> bool:
        if self._busy() or self.failure is not None:
            return False
        self.pair.primary.stop(number)

        def work() -> None:
            try:
                repair()
            except Exception as error:  # 交给 settle：混沌测试要失败，不是悄悄少一种故障
                self.failure = error

        self._work = threading.Thread(target=work, name="pair")
        self._work.start()
        return True
