"""本地终端：原样转按键（srun --pty、sattach --pty）。"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def raw_terminal(*, enabled: bool) -> Iterator[None]:
    """本地终端不再自己处理按键，全部送到那一头的终端；离开时恢复。不是终端时什么也不做。"""
    if not enabled or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    old = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, old)
