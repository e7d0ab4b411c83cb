"""终端上的文字：名字里的换行与转义序列不能冒充别的行、不能操纵终端。不是终端（管道、文件）时原样，一个字节不改。"""

import re
import sys
from functools import lru_cache

# C0、DEL 与 C1；宽度由调用者算，所以在补齐之前换。
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@lru_cache(maxsize=1)
def on_terminal() -> bool:
    """标准输出是终端。"""
    return sys.stdout.isatty()


def printable(text: str) -> str:
    """终端上把控制字符写成转义，如 a\\nb、\\x1b[2J。"""
    if not on_terminal() or _CONTROLS.search(text) is None:
        return text
    return _CONTROLS.sub(lambda found: _NAMED.get(found[0], f"\\x{ord(found[0]):02x}"), text)
