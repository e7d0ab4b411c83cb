"""“假如”选项的写法。"""

import re

from scns_conductor.core.units import parse_time_limit

_SPAN = re.compile(r"^(\d{1,9})([smhd])$", re.IGNORECASE)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> int:
    """时长 -> 秒：`90s`、`30m`、`24h`、`2d`，或 Slurm 的写法（无单位是分钟）。不合法时抛 ValueError（中文原因）。"""
    if found := _SPAN.match(text.strip()):
        seconds: int | None = int(found[1]) * _UNIT_S[found[2].lower()]
    else:
        seconds = parse_time_limit(text)
    if not seconds:
        raise ValueError(f"{text!r} 应是大于 0 的时长，例如 24h、2d、1-00:00:00")
    return seconds
