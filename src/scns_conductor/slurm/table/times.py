"""时刻、时长、大小的写法，照 Slurm。"""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from scns_conductor.core.units import format_duration


def epoch(value: Any) -> float | None:
    """API 的 ISO 8601 文字或 Unix 秒 -> Unix 秒。"""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    return datetime.fromisoformat(str(value)).timestamp()


def instant(value: Any, missing: str = "N/A") -> str:
    """本地时间的 2026-11-24T08:00:00；SLURM_TIME_FORMAT 为 relative 以外的 strftime 写法时照它写。"""
    seconds = epoch(value)
    if seconds is None:
        return missing
    form = os.environ.get("SLURM_TIME_FORMAT", "standard")
    pattern = form if "%" in form else "%Y-%m-%dT%H:%M:%S"
    return time.strftime(pattern, time.localtime(seconds))


def instant_text(seconds: float) -> str:
    """Unix 秒 -> 给 API 的写法；1973 年以前的秒数不足九位，不能原样给。"""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


def past_instant(text: str) -> float:
    """sacct -S、sreport start= 的时刻（Unix 秒）：只有钟点的是今天，不像 --begin 那样过了就算明天。"""
    from scns_conductor.core.instants import local_now, parse_instant

    now = local_now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return parse_instant(text, now if text.lower().startswith("now") else midnight).timestamp()


def duration(seconds: float | None) -> str:
    """[D-]HH:MM:SS；None 是 UNLIMITED。"""
    return format_duration(seconds)


def short_duration(seconds: float | None) -> str:
    """squeue 与 sinfo 的写法：不到一小时是 M:SS，再长是 H:MM:SS、D-HH:MM:SS（secs2time_str）。"""
    if seconds is None:
        return "UNLIMITED"
    total = max(0, int(seconds))
    days, rest = divmod(total, 86400)
    hours, minutes, secs = rest // 3600, rest % 3600 // 60, rest % 60
    if days:
        return f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def elapsed_s(job: Mapping[str, Any], now: float | None = None) -> float:
    """运行了多少秒，不含挂起；没有开始是 0。"""
    start = epoch(job.get("start_time"))
    if start is None:
        return 0.0
    paused = epoch(job.get("suspend_time")) if job.get("state") == "SUSPENDED" else None
    end = epoch(job.get("end_time")) or paused or (time.time() if now is None else now)
    return max(0.0, end - start - float(job.get("suspended_s") or 0))


def memory(megabytes: int | None) -> str:
    """MiB -> 16G、1500M；整除才进位（mbytes2_to_str）。"""
    if megabytes is None:
        return "0"
    value, unit = int(megabytes), 0
    while value and value % 1024 == 0 and unit < 3:
        value //= 1024
        unit += 1
    return f"{value}{'MGTP'[unit]}" if value else "0"
