"""YAML 1.1 的写法（--yaml）：文字都加引号，别的解析器读出来的类型才一定对。"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{2,}$")
# 不加引号会被读成真假与空的词；三个字母以下的键一律加引号。
_WORDS = frozenset({"yes", "off", "true", "false", "null", "nan"})
# YAML 里不能原样出现的字符。
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def scalar(value: Any) -> str:
    """一个值；空的列表与对象也在其中。"""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _real(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    text = json.dumps(str(value), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _real(value: float) -> str:
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # 1e-05 在 YAML 1.1 里是文字，1.0e-05 才是数。
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _key(name: str) -> str:
    return name if _KEY.match(name) and name.lower() not in _WORDS else scalar(name)


def lines(value: Any, indent: int = 0) -> Iterator[str]:
    """一个对象或列表的各行。"""
    space = " " * indent
    if isinstance(value, Mapping):
        for name, item in value.items():
            if item and isinstance(item, Mapping | list | tuple):
                yield f"{space}{_key(str(name))}:"
                yield from lines(item, indent + 2)
            else:
                yield f"{space}{_key(str(name))}: {scalar(item)}"
        return
    for item in value:
        if item and isinstance(item, Mapping | list | tuple):
            first, *rest = lines(item, indent + 2)
            yield f"{space}- {first[indent + 2 :]}"
            yield from rest
        else:
            yield f"{space}- {scalar(item)}"
