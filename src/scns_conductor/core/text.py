"""文字：操作系统给的参数、环境变量、路径不一定是 UTF-8，写不进 JSON 与数据库；终端也不一定写得出。"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_text(value: str) -> bool:
    """没有代理字符（不是 UTF-8 的字节变来的，或 JSON 里单个的）。"""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(text: str) -> str:
    """错误的说明里怎样引用别人给的：加引号，太长的只写开头。"""
    return repr(text if len(text) <= 64 else text[:64] + "…")


def tolerant_streams() -> None:
    """标准输出的编码（LC_ALL=en_US.ISO-8859-1）写不出的字、标准输入里不是那个编码的字节，写成转义，而不是出错。

    关着的（>&-）当作 /dev/null：Python 那里是 None，一写就是回溯。
    """
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 - 用到进程结束
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def output_written(message: Callable[[str], str]) -> Iterator[None]:
    """标准输出写不下（磁盘满、配额用完）是 message(原因) 一行与退出码 1，不是回溯；下游不读了（head）不算错。"""
    try:
        try:
            yield
        finally:
            try:
                sys.stdout.flush()
            except BrokenPipeError:
                _drop_output()
    except BrokenPipeError:
        # 不缓冲的（PYTHONUNBUFFERED）一写就知道。
        _drop_output()
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _drop_output()
        print(message(os.strerror(error.errno)), file=sys.stderr)
        raise SystemExit(1) from None


def _drop_output() -> None:
    """缓冲里剩下的丢掉：免得解释器退出时再报一次。"""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
