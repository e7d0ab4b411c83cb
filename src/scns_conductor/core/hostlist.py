"""Slurm 的主机列表：n[1-3,5],gpu7 的展开与压缩（scontrol show hostnames / hostlist）。

写法很短而台数是各个方括号的乘积：展开之前先数，超过上限的不展开。
"""

import re
from collections.abc import Iterable

from scns_conductor.core.text import shown

# 同 Slurm 的 MAX_RANGE：一个列表至多 64k 台。
MAX_HOSTS = 65_536
MAX_NAME_LENGTH = 255
# 更长的数字没有人用；有了上限，乘积也不会大得算不动。
MAX_DIGITS = 15
_RANGE = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})(?:-([0-9]{{1,{MAX_DIGITS}}}))?")
_DIGITS = "0123456789"

# 一个名字的各段：照抄的文字，或几个范围（首、尾、位数）。
_Segment = str | list[tuple[int, int, int]]


def split_hostlist(text: str) -> list[str]:
    """按方括号之外的逗号切开，例如 'n[1,3],m4' -> ['n[1,3]', 'm4']；括号不配对抛 ValueError。"""
    parts: list[str] = []
    depth = start = 0
    for index, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        if depth not in (0, 1):
            raise ValueError(f"主机列表 {shown(text)} 的方括号不配对")
    if depth:
        raise ValueError(f"主机列表 {shown(text)} 的方括号不配对")
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def expand(text: str, limit: int = MAX_HOSTS) -> list[str]:
    """展开主机列表，保持书写顺序，不去重；超过 limit 台、名字过长或写法有误抛 ValueError，那时什么也没有展开。"""
    parsed = _parsed(text, limit)
    return [host for segments in parsed for host in _expanded(segments)]


def check_hostlist(text: str, limit: int = MAX_HOSTS) -> int:
    """同 expand，只数有多少台，不展开。"""
    return sum(_count(segments) for segments in _parsed(text, limit))


def _parsed(text: str, limit: int) -> list[list[_Segment]]:
    parsed: list[list[_Segment]] = []
    total = 0
    for part in split_hostlist(text):
        segments = _segments(part)
        total += _count(segments)
        if total > limit:
            raise ValueError(f"主机列表 {shown(text)} 展开后超过 {limit} 台")
        parsed.append(segments)
    return parsed


def _segments(part: str) -> list[_Segment]:
    """'r[1-2]c[01,3]' -> ['r', [(1, 2, 1)], 'c', [(1, 1, 2), (3, 3, 1)]]。"""
    segments: list[_Segment] = []
    length = 0
    for index, piece in enumerate(re.split(r"[\[\]]", part)):
        if index % 2 == 0:
            length += len(piece)
            segments.append(piece)
            continue
        ranges = [_range(item.strip()) for item in piece.split(",")]
        length += max(max(width, len(str(high))) for _, high, width in ranges)
        segments.append(ranges)
    if length > MAX_NAME_LENGTH:
        raise ValueError(f"主机列表里的名字 {shown(part)} 太长，至多 {MAX_NAME_LENGTH} 个字符")
    return segments


def _range(item: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(item)
    if match is None:
        raise ValueError(f"主机列表里的范围 {shown(item)} 无法识别；例如 n[1-3,5]，数字至多 {MAX_DIGITS} 位")
    low, high = int(match[1]), int(match[2] or match[1])
    if high < low:
        raise ValueError(f"主机列表里的范围 {shown(item)} 颠倒了")
    return low, high, len(match[1])


def _count(segments: Iterable[_Segment]) -> int:
    count = 1
    for segment in segments:
        if not isinstance(segment, str):
            count *= sum(high - low + 1 for low, high, _ in segment)
    return count


def _expanded(segments: Iterable[_Segment]) -> list[str]:
    names = [""]
    for segment in segments:
        if isinstance(segment, str):
            names = [f"{name}{segment}" for name in names] if segment else names
        else:
            numbers = [str(value).zfill(width) for low, high, width in segment for value in range(low, high + 1)]
            names = [f"{name}{number}" for name in names for number in numbers]
    return names


def compress(hosts: Iterable[str]) -> str:
    """压缩成 Slurm 的写法：同前缀的末尾数字排序、合并成区间；不带数字的名字原样列出。"""
    groups: dict[tuple[str, int], set[int]] = {}
    order: list[tuple[str, int]] = []
    for host in hosts:
        prefix = host.rstrip(_DIGITS)
        digits = host[len(prefix) :]
        # 只有带前导零时宽度才有意义：n1 与 n10 同组，n01 与 n10 同组但宽度固定为 2。太长的数字读不回来，原样列出。
        if not 0 < len(digits) <= MAX_DIGITS:
            key = (host, -1)
        else:
            key = (prefix, len(digits) if digits[0] == "0" and len(digits) > 1 else 0)
        if key not in groups:
            groups[key] = set()
            order.append(key)
        if key[1] >= 0:
            groups[key].add(int(digits))
    _merge_padded(groups, order)
    parts = []
    for prefix, width in order:
        numbers = groups[(prefix, width)]
        if width < 0:
            parts.append(prefix)
            continue
        ranges = _ranges(sorted(numbers), max(width, 0))
        single = len(numbers) == 1
        parts.append(f"{prefix}{ranges}" if single else f"{prefix}[{ranges}]")
    return ",".join(parts)


def _merge_padded(groups: dict[tuple[str, int], set[int]], order: list[tuple[str, int]]) -> None:
    """n08、n09、n10 属于同一宽度：把位数恰为该宽度的无前导零成员并入带前导零的组。"""
    for prefix, width in list(order):
        if width <= 0 or (prefix, 0) not in groups:
            continue
        plain = groups[(prefix, 0)]
        fitting = {number for number in plain if len(str(number)) == width}
        groups[(prefix, width)] |= fitting
        plain -= fitting
        if not plain:
            del groups[(prefix, 0)]
            order.remove((prefix, 0))


def _ranges(numbers: list[int], width: int) -> str:
    parts: list[str] = []
    start = previous = numbers[0]
    for number in [*numbers[1:], -1]:
        if number == previous + 1:
            previous = number
            continue
        low = str(start).zfill(width)
        parts.append(low if start == previous else f"{low}-{str(previous).zfill(width)}")
        start = previous = number
    return ",".join(parts)
