"""TRES（可计量的资源）的写法：cpu=8,mem=4G,node=2,gres/gpu=4,license/matlab=1（sacctmgr(1)）。

内存 MiB，其余是个数；乘以时间的（…Mins）内存不带单位。
"""

import re
from collections.abc import Mapping

from scns_conductor.core.units import format_memory_mb, parse_memory_mb

_PLAIN = ("cpu", "mem", "node")
_NAMED = re.compile(r"^(gres|license)/([A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.\-]*)?)$")
_MOST = 2**62


def known_tres(name: str) -> bool:
    """有没有这种 TRES：cpu、mem、node、gres/名字、license/名字。"""
    return name in _PLAIN or _NAMED.match(name) is not None


def parse_tres(text: str) -> dict[str, int | None]:
    """解析；-1 是去掉这一种（None）。不认识的种类、没有数目、数目不对抛 ValueError（中文原因）。"""
    found: dict[str, int | None] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, amount = item.strip().rpartition("=")
        name = name.strip().lower()
        if not equals or not known_tres(name):
            raise ValueError(
                f"无法识别的 TRES {item.strip()!r}；例如 cpu=8、mem=4G、node=2、gres/gpu=4、license/matlab=1"
            )
        found[name] = tres_amount(name, amount.strip())
    return found


def tres_amount(name: str, amount: str | int) -> int | None:
    """一种 TRES 的数目；-1 是 None。不对抛 ValueError。"""
    text = str(amount)
    if text == "-1":
        return None
    try:
        value = parse_memory_mb(text) if name == "mem" else int(text)
    except ValueError as error:
        raise ValueError(f"TRES {name} 的数目 {text!r} 不对") from error
    if not 0 <= value < _MOST:
        raise ValueError(f"TRES {name} 的数目 {text!r} 不对")
    return value


def _order(name: str) -> tuple[int, str]:
    return (_PLAIN.index(name) if name in _PLAIN else len(_PLAIN), name)


def format_tres(tres: Mapping[str, int], *, minutes: bool = False) -> str:
    """{'cpu': 8, 'mem': 4096} -> cpu=8,mem=4G；minutes 为真时内存不写单位。"""
    parts = []
    for name in sorted(tres, key=_order):
        amount = format_memory_mb(tres[name]) if name == "mem" and not minutes else str(tres[name])
        parts.append(f"{name}={amount}")
    return ",".join(parts)
