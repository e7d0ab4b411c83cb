"""文字：操作系统给的参数、环境变量、路径不一定是 UTF-8，写不进 JSON 与数据库；终端也不一定写得出。"""

import io
import sys


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
    """标准输出的编码（LC_ALL=en_US.ISO-8859-1）写不出的字、标准输入里不是那个编码的字节，写成转义，而不是出错。"""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
