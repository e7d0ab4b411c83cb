"""Slurm 的主机列表：n[1-3,5],gpu7 的展开与压缩（scontrol show hostnames / hostlist）。"""

import re
from collections.abc import Iterable

MAX_HOSTS = 100_000
_TRAILING_NUMBER = re.compile(r"^(.*?)(\d+)$")


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
            raise ValueError(f"主机列表 {text!r} 的方括号不配对")
    if depth:
        raise ValueError(f"主机列表 {text!r} 的方括号不配对")
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def expand(text: str) -> list[str]:
    """展开主机列表，保持书写顺序，不去重；超过 MAX_HOSTS 台或写法有误抛 ValueError。"""
    hosts: list[str] = []
    for part in split_hostlist(text):
        hosts.extend(_expand_one(part))
        if len(hosts) > MAX_HOSTS:
            raise ValueError(f"主机列表展开后超过 {MAX_HOSTS} 台")
    return hosts


def _expand_one(part: str) -> list[str]:
    open_at = part.find("[")
    if open_at < 0:
        return [part]
    close_at = part.index("]", open_at)
    prefix, inner, suffix = part[:open_at], part[open_at + 1 : close_at], part[close_at + 1 :]
    numbers: list[str] = []
    for item in inner.split(","):
        low, dash, high = item.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise ValueError(f"主机列表里的范围 {item!r} 无法识别；例如 n[1-3,5]")
        if not dash:
            numbers.append(low)
            continue
        if int(high) < int(low) or int(high) - int(low) >= MAX_HOSTS:
            raise ValueError(f"主机列表里的范围 {item!r} 颠倒或过大")
        numbers.extend(str(value).zfill(len(low)) for value in range(int(low), int(high) + 1))
    tails = _expand_one(suffix) if suffix else [""]
    return [f"{prefix}{number}{tail}" for number in numbers for tail in tails]


def compress(hosts: Iterable[str]) -> str:
    """压缩成 Slurm 的写法：同前缀的末尾数字排序、合并成区间；不带数字的名字原样列出。"""
    groups: dict[tuple[str, int], set[int]] = {}
    order: list[tuple[str, int]] = []
    for host in hosts:
        match = _TRAILING_NUMBER.match(host)
        # 只有带前导零时宽度才有意义：n1 与 n10 同组，n01 与 n10 同组但宽度固定为 2。
        if match is None:
            key = (host, -1)
        else:
            digits = match[2]
            key = (match[1], len(digits) if digits[0] == "0" and len(digits) > 1 else 0)
        if key not in groups:
            groups[key] = set()
            order.append(key)
        if match is not None:
            groups[key].add(int(match[2]))
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
