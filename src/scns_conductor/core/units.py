"""时间与内存的文字形式。形式取自 sbatch(1) 的 --time 与 --mem。"""

import re

UNLIMITED_WORDS = frozenset({"UNLIMITED", "INFINITE", "-1"})
# Slurm 把时限存成 32 位分钟数，这里取同样的上界，免得溢出。
MAX_TIME_S = (2**31 - 1) * 60
_MEMORY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:I?B)?\s*$", re.IGNORECASE)
_MEMORY_UNIT_KB = {"K": 1, "": 1024, "M": 1024, "G": 1024**2, "T": 1024**3, "P": 1024**4}


def parse_time_limit(text: str | int) -> int | None:
    """把 Slurm 的时长写法换算成秒；UNLIMITED、INFINITE、-1 返回 None。

    写法：分钟、分钟:秒、时:分:秒、天-时、天-时:分、天-时:分:秒。
    其余写法、零、负数、以及 天- 之后 时 >= 24 或 分、秒 >= 60 都抛 ValueError（中文原因）。
    """
    word = str(text).strip()
    if word.upper() in UNLIMITED_WORDS:
        return None
    seconds = parse_duration(word)
    if seconds <= 0:
        raise ValueError("时限必须大于 0；不限时请写 UNLIMITED")
    return seconds


def parse_duration(text: str) -> int:
    """同 parse_time_limit 的写法，但允许 0，不认 UNLIMITED；返回秒。"""
    word = text.strip()
    help_text = "可用写法：分钟、分:秒、时:分:秒、天-时、天-时:分、天-时:分:秒"
    days_text, dash, rest = word.rpartition("-")
    parts = rest.split(":")
    numbers = [days_text, *parts] if dash else parts
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"无法识别的时长 {word!r}；{help_text}")
    if any(len(number) > 12 for number in numbers):
        raise ValueError(f"时长 {word!r} 过大")
    values = [int(part) for part in parts]
    if dash:
        if len(values) > 3:
            raise ValueError(f"无法识别的时长 {word!r}；{help_text}")
        hours, minutes, seconds = [*values, 0, 0][:3]
        if hours >= 24 or minutes >= 60 or seconds >= 60:
            raise ValueError(f"时长 {word!r} 中，天数之后的时应小于 24，分、秒应小于 60")
        total = int(days_text) * 86400 + hours * 3600 + minutes * 60 + seconds
    elif len(values) == 1:
        total = values[0] * 60
    elif len(values) == 2:
        total = values[0] * 60 + values[1]
    elif len(values) == 3:
        total = values[0] * 3600 + values[1] * 60 + values[2]
    else:
        raise ValueError(f"无法识别的时长 {word!r}；{help_text}")
    if total > MAX_TIME_S:
        raise ValueError(f"时长 {word!r} 过大；不限时请写 UNLIMITED")
    return total


def format_duration(seconds: float | None, *, always_days: bool = False) -> str:
    """秒 -> Slurm 的 [D-]HH:MM:SS；None -> UNLIMITED。always_days 时总是写出 D-。"""
    if seconds is None:
        return "UNLIMITED"
    total = max(0, int(seconds))
    days, rest = divmod(total, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days or always_days else clock


def parse_memory_mb(text: str | int) -> int:
    """内存写法 -> MiB，向上取整；无单位按 MB（sbatch(1)），可用 K、M、G、T、P，可带 B 或 iB。

    不合法时抛 ValueError（中文原因）。0 合法：按 Slurm 的含义由调用者解释（整个节点的内存）。
    """
    match = _MEMORY.match(str(text))
    if match is None or len(match[1]) > 30:
        raise ValueError(f"无法识别的内存 {str(text)[:64]!r}；例如 512M、16G、1T，无单位按 MB")
    kilobytes = float(match[1]) * _MEMORY_UNIT_KB[match[2].upper()]
    megabytes = -(-kilobytes // 1024)
    if megabytes >= 2**31:
        raise ValueError(f"内存 {text!r} 过大")
    return int(megabytes)


def format_memory_mb(megabytes: int) -> str:
    """MiB -> 最短的整数写法，如 16384 -> 16G、1500 -> 1500M。"""
    for unit, size in (("T", 1024**2), ("G", 1024)):
        if megabytes and megabytes % size == 0:
            return f"{megabytes // size}{unit}"
    return f"{megabytes}M"
