"""sacctmgr archive：结束很久的作业整月地归档（写成文件、从库里丢掉），与装回（sacctmgr(1) 的 ARCHIVE FUNCTIONALITY）。

文件在 API 的机器上，同 Slurm 在 slurmdbd 的机器上。作业步、挂起、输出随作业走；审计、用量的汇总、预留从不丢，
所以没有它们的期限。
"""

import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from scns_conductor.client import ClientError, Problem
from scns_conductor.core.instants import local_now
from scns_conductor.slurm.session import Fatal, connect, in_english, slurm_error

# 写出一个月、装回一个月可以很久（秒）。
_WAIT_S = 3600.0
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_PERIOD = re.compile(r"([0-9]{1,6})(h[a-z]*|d[a-z]*|m[a-z]*)?", re.IGNORECASE)
# 归档的记录里本来就有的。
_WITH_JOBS = ("jobs", "steps", "suspend")
_NEVER = {
    "events": "node events are never purged", "reservations": "reservations are never purged",
    "txn": "the audit log is never purged", "usage": "rolled up usage is never purged",
    "purgeeventafter": "node events are never purged", "purgereservationafter": "reservations are never purged",
    "purgeresvafter": "reservations are never purged", "purgetxnafter": "the audit log is never purged",
    "purgeusageafter": "rolled up usage is never purged", "purgestepafter": "steps go with their jobs",
    "purgesuspendafter": "suspensions go with their jobs", "script": "the files are written by the server itself",
    "insert": "SQL is never taken from a client",
}  # fmt: skip
_DUMP = ("directory", "purgejobafter", *_WITH_JOBS, *(name for name in _NEVER if name != "insert"))
_LOAD = ("file", "insert")
_LOSS = (
    "This may result in loss of accounting database records (if Purge* options enabled). "
    "Are you sure you want to continue? (You have 30 seconds to decide)\n(N/y): "
)


def archive(words: Sequence[str], agreed: Callable[[str], bool]) -> int:
    """archive dump|load；agreed 问一句，答不答应。"""
    verb = next((name for name in ("dump", "load") if words and name.startswith(words[0].lower())), None)
    if verb is None:
        raise Fatal("No valid entity in archive command", 'Input line must include, "Dump", or "load"', prefix=None)
    given = _options(words[1:], _DUMP if verb == "dump" else _LOAD)
    if verb == "load":
        return _load(given)
    before = _moment(given["purgejobafter"]) if "purgejobafter" in given else None
    if not agreed(_LOSS):
        print(" Changes Discarded")
        return 0
    return _dump(before, given.get("directory"))


def _options(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """名字可以写前几个字母（至少两个）；不认识的照 Slurm 报错，没有的说为什么。"""
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        low = name.lower()
        chosen = low if low in known else next((one for one in known if len(low) > 1 and one.startswith(low)), None)
        if chosen is None:
            raise Fatal(f" Unknown option: {word}", prefix=None)
        if chosen in _NEVER:
            raise Fatal(f"{name} is not supported by this system: {_NEVER[chosen]}")
        found[chosen] = value.strip("'\"")
    return found


def _moment(text: str) -> datetime:
    """PurgeJobAfter 的写法（12、12months、30days、48hours）-> 结束早于此刻的；不足一格的舍去，同 slurmdbd。"""
    written = _PERIOD.fullmatch(text)
    if written is None or int(written[1]) == 0:
        raise Fatal(f" Invalid purge string '{text}'", prefix=None)
    count, unit, now = int(written[1]), (written[2] or "m")[0].lower(), local_now()
    if unit == "m":
        months = now.year * 12 + now.month - 1 - count
        return max(_BEGINNING, datetime(max(1, months // 12), months % 12 + 1, 1, tzinfo=UTC))
    since = min(timedelta(hours=count) if unit == "h" else timedelta(days=count), now - _BEGINNING)
    whole = now.replace(minute=0, second=0, microsecond=0)
    return (whole if unit == "h" else whole.replace(hour=0)) - since


def _dump(before: datetime | None, directory: str | None) -> int:
    months = 0
    with connect(_WAIT_S) as client:
        while True:
            try:
                found = client.archive_history(None if before is None else before.isoformat(), directory)
            except ClientError as error:
                raise Fatal(f" Problem dumping archive: {_words(error)}", prefix=None) from error
            if found["archived"]:
                months += 1
                print(" Archived {jobs} jobs that ended in {month} to {folder}".format_map(found["archived"]))
                sys.stdout.flush()
            if found["done"]:
                break
    if not months:
        print(" Nothing to archive: no whole month is old enough")
    return 0


def _load(given: dict[str, str]) -> int:
    if not given.get("file"):
        raise Fatal("No archive file given.", 'Use "file=" to specify the file to load.', prefix=None)
    with connect(_WAIT_S) as client:
        try:
            found = client.load_history(given["file"])
        except ClientError as error:
            raise Fatal(f" Problem loading archive file: {_words(error)}", prefix=None) from error
    print(f" Loaded {found['added']} jobs from {given['file']}")
    return 0


def _words(error: ClientError) -> str:
    """服务器的话：这些错误 Slurm 没有自己的一句。"""
    return in_english(error) if isinstance(error, Problem) and error.status < 500 else slurm_error(error)
