"""一个进程的头与尾，调度、后台、代理都一样：设置、日志、管住全部线程、信号处理器；没法运行的说一句，以 2 退出。"""

import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from scns_conductor.core.errors import ConductorError
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.settings_snapshot import read_settings
from scns_conductor.language import told
from scns_conductor.worker.host.thread_owner import own_every_thread

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

EXIT_CANNOT_RUN = 2


class Process(Protocol):
    """一个进程的一生。"""

    def run(self) -> None:
        """从头到尾；返回时已停止。再试也没有用的抛 ConductorError。"""

    def stop(self) -> Any:
        """请它停下（信号处理器）。"""


_Life = TypeVar("_Life", bound=Process)


def run_process(
    make: "Callable[[Settings], _Life]",
    others: Mapping[signal.Signals, Callable[[_Life], object]] | None = None,
    *,
    light: bool = False,
) -> None:
    """在主线程里过完一生：SIGTERM、SIGINT 请它停下，others 是另外的信号做什么。

    light 的由别的进程去读设置，自己不装载 pydantic（每个节点都有一份的）。
    """
    try:
        settings = read_settings() if light else _loaded_settings()
        configure_logging(settings)
        own_every_thread()
        life = make(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: life.stop())
        for number, act in (others or {}).items():
            signal.signal(number, lambda *_, act=act: act(life))
        life.run()
    except ConductorError as error:
        print(told(str(error)), file=sys.stderr)
        sys.exit(EXIT_CANNOT_RUN)


def _loaded_settings() -> "Settings":
    from scns_conductor.core.settings import load_settings

    return load_settings()
