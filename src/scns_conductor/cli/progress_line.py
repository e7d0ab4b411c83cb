"""标准错误上的进度：终端里是一行，原地改写；不是终端时每次变化写一行。"""

import sys
import threading

from scns_conductor.cli.table import printable, width
from scns_conductor.language import told

CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """进度行。作业的输出要经 around 写，免得与进度行混在一起；可以在几个线程里用。"""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._in_place = sys.stderr.isatty()
        self._shown = ""
        self._lock = threading.Lock()

    def show(self, text: str, clock: str = "") -> None:
        """显示一行；clock 是一直在走的部分，只在终端里显示。"""
        text, clock = told(text), told(clock)
        with self._lock:
            if self._quiet:
                return
            if not self._in_place:
                if text != self._shown:
                    print(text, file=sys.stderr, flush=True)
                self._shown = text
                return
            self._shown = _fitted(f"{text}  {clock}" if clock else text)
            sys.stderr.write(CLEAR_LINE + self._shown)
            sys.stderr.flush()

    def write(self, data: bytes, *, to_stderr: bool = False) -> None:
        """原样写出作业的输出；进度行先让开，输出停在行首时再显示回来。"""
        target = sys.stderr if to_stderr else sys.stdout
        with self._lock:
            redraw = self._in_place and self._shown and not self._quiet
            if redraw:
                sys.stderr.write(CLEAR_LINE)
                sys.stderr.flush()
            target.buffer.write(data)
            target.buffer.flush()
            if redraw and data.endswith(b"\n"):
                sys.stderr.write(self._shown)
                sys.stderr.flush()

    def clear(self) -> None:
        """擦掉进度行。"""
        with self._lock:
            if self._in_place and self._shown and not self._quiet:
                sys.stderr.write(CLEAR_LINE)
                sys.stderr.flush()
            self._shown = ""

    def finish(self, text: str) -> None:
        """最后一行，留在屏幕上。"""
        with self._lock:
            if not self._quiet:
                sys.stderr.write((CLEAR_LINE if self._in_place else "") + text + "\n")
                sys.stderr.flush()
            self._shown = ""


def _fitted(text: str) -> str:
    """截到终端的宽度以内：折行的进度行不能原地改写。"""
    from shutil import get_terminal_size

    columns = get_terminal_size().columns - 1
    shown = printable(text)
    while width(shown) > columns:
        shown = shown[:-1]
    return shown
