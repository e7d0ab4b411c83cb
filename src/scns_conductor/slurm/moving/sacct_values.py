"""sacct 各列的写法：时刻（本地的，没有时区）、时长、TRES、内存、退出码。不成样子的抛 ValueError（中文原因）。"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from scns_conductor.core.units import MAX_TIME_S, UNLIMITED_WORDS, parse_duration, parse_memory_mb

_NOTHING = frozenset({"", "unknown", "none", "n/a", "invalid", "(null)"})
_NO_LIMIT = {*UNLIMITED_WORDS, "PARTITION_LIMIT"}
_OLD_MEMORY = re.compile(r"^(\d+(?:\.\d+)?[KMGTP]?)([nc]?)$", re.IGNORECASE)
_EXIT = re.compile(r"^(\d{1,3}):(\d{1,3})$")
_PEAK = re.compile(r"^(\d{1,15}(?:\.\d+)?)([KMGT]?)$", re.IGNORECASE)
_PEAK_UNIT_KB = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Moments:
    """时刻怎样读：没有写时区的是 zone 的；zone 为 None 是这台机器的。"""

    zone: tzinfo | None = None

    def of(self, text: str | None) -> datetime | None:
        """认得 sacct 的缺省写法、带时区的、Unix 秒（SLURM_TIME_FORMAT=%s）；没有的是 None。结果是 UTC。"""
        if not known(text):
            return None
        assert text is not None
        try:
            if text.isascii() and text.isdigit() and len(text) <= 12:
                return datetime.fromtimestamp(int(text), UTC)
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None and self.zone is not None:
                moment = moment.replace(tzinfo=self.zone)
            return moment.astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            raise ValueError(f"无法识别的时刻 {text[:40]!r}") from None


def later(moment: datetime, seconds: float) -> datetime:
    """moment 之后 seconds 秒；太久抛 ValueError。"""
    if seconds > MAX_TIME_S:
        raise ValueError("时长太长")
    return moment + timedelta(seconds=seconds)


def known(text: str | None) -> bool:
    """写了，而且不是 Unknown、None 之类。"""
    return text is not None and text.strip().lower() not in _NOTHING


def whole(text: str) -> int:
    """不负的整数。"""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError(f"{text[:40]!r} 不是整数")
    return int(text)


def clock_s(text: str | None) -> float | None:
    """[天-[时:]]分:秒[.毫秒] -> 秒；没有的是 None。"""
    if not known(text):
        return None
    assert text is not None
    clock, _, fraction = text.partition(".")
    if ":" not in clock or (fraction and not fraction.isdigit()):
        raise ValueError(f"无法识别的时长 {text[:40]!r}")
    return parse_duration(clock) + (float(f"0.{fraction}") if fraction else 0)


def minutes_or_clock_s(minutes: str | None, clock: str | None) -> int | None:
    """时限：TimelimitRaw（分钟），没有这一列就看 Timelimit；不限的、随分区的是 None。"""
    text = minutes if known(minutes) else clock
    if not known(text) or (text or "").upper() in _NO_LIMIT:
        return None
    seconds = whole(text or "") * 60 if text is minutes else parse_duration(text or "")
    return min(seconds, MAX_TIME_S) or None


def exit_code(text: str | None) -> tuple[int | None, int | None]:
    """1:0 -> (1, 0)。"""
    if not known(text):
        return None, None
    found = _EXIT.match(text or "")
    if found is None:
        raise ValueError(f"无法识别的退出码 {(text or '')[:40]!r}")
    return int(found[1]) & 0xFF, int(found[2])


def tres_amounts(text: str | None) -> dict[str, int]:
    """billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=16G,node=1 -> 数目；mem 是 MiB，能量与计费的不要。"""
    found: dict[str, int] = {}
    for part in (text or "").split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in ("billing", "energy", "vmem", "pages") or name.startswith(("fs/", "ic/", "bb/")):
            continue
        found[name] = parse_memory_mb(value) if name == "mem" else min(whole(value), _MOST)
    return found


def gres_of(amounts: Mapping[str, int]) -> dict[str, int]:
    """通用资源：分了型号而且加起来对的用型号，否则用总数。"""
    plain = {name.removeprefix("gres/"): count for name, count in amounts.items() if name.startswith("gres/")}
    found: dict[str, int] = {}
    for name in {each.partition(":")[0] for each in plain}:
        typed = {each: count for each, count in plain.items() if each.startswith(f"{name}:") and count}
        if typed and sum(typed.values()) == plain.get(name, sum(typed.values())):
            found |= typed
        elif plain.get(name):
            found[name] = plain[name]
    return dict(sorted(found.items()))


def licenses_of(amounts: Mapping[str, int]) -> str:
    """license/matlab=2 -> matlab:2。"""
    prefix = "license/"
    return ",".join(f"{n.removeprefix(prefix)}:{c}" for n, c in amounts.items() if n.startswith(prefix) and c)


def memory_mb(text: str | None, nodes: int, cpus: int) -> int:
    """ReqMem：旧版 Slurm 以 n、c 结尾，是每节点、每 CPU；新版是总数。返回总数（MiB）。"""
    if not known(text):
        return 0
    found = _OLD_MEMORY.match((text or "").strip())
    if found is None:
        raise ValueError(f"无法识别的内存 {(text or '')[:40]!r}")
    return parse_memory_mb(found[1]) * {"n": nodes, "c": cpus}.get(found[2].lower(), 1)


def peak_kb(text: str | None) -> int | None:
    """MaxRSS：没有单位的是字节。不成样子的当作没有：它只是参考。"""
    found = _PEAK.match((text or "").strip())
    return None if found is None else int(float(found[1]) * _PEAK_UNIT_KB[found[2].upper()])
