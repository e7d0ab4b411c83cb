"""紧凑的 JSON 文字：JSONEncoder.encode 每次都重新造编码器，一个小记录三分之二的时间花在那上面；这里只造一次。"""

from __future__ import annotations

import json
from json import encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} 不能写成 JSON")


def compact_encoder(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """返回 对象 -> 文字 的函数；不查循环引用。没有 C 实现的 Python 用标准的编码器。"""
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        plain = json.JSONEncoder(ensure_ascii=ensure_ascii, separators=(",", ":"), check_circular=False)
        return plain.encode
    text = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    pieces = make(None, _refuse, text, None, ":", ",", False, False, True)
    return lambda value: "".join(pieces(value, 0))
