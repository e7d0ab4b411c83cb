"""给用户的进程的信号：处理一律是默认的。

忽略着的信号过了 exec 还是忽略：Python 忽略 SIGPIPE、SIGXFSZ，从 nohup、后台启动的还继承了 SIGHUP、SIGINT。
"""

import signal

DEFAULT_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def restore_default_signals() -> None:
    """在 fork 出来的子进程里：每个信号恢复默认，也不再写父进程的唤醒描述符。"""
    signal.set_wakeup_fd(-1)
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
