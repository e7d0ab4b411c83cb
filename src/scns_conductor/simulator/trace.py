"""读入的原始记录：各种来源（SWF、sacct、本系统的历史）先都变成它，再由 workload 清洗。"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import BadGzipFile
from gzip import open as open_gzip
from pathlib import Path
from typing import IO, NamedTuple, cast

from scns_conductor.core.errors import ConductorError

MAX_KEPT_EXAMPLES = 20
# 超过约三千年的秒数、十亿个处理器只可能是坏数据；也免得后面的 64 位计算溢出。
MAX_MAGNITUDE = 10**11


class TraceUnreadable(ConductorError):
    """踪迹文件读不了，或里面没有一个可用的作业。"""

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail, code="trace_unreadable", status=422)


class TraceRecord(NamedTuple):
    """一条原始记录。时间单位秒，-1 表示未知，nodes 为 0 表示未知；还没有清洗过，任何数都可能不合理。"""

    job_id: str
    submit_s: int
    run_s: int
    allocated_cpus: int = -1
    requested_cpus: int = -1
    requested_s: int = -1
    wait_s: int = -1
    user: str = "-1"
    account: str = "-1"
    nodes: int = 0
    memory_mb: int = 0
    gpus: int = 0
    # 启动之后停过多久；不算在 run_s 里。
    stopped_s: int = 0


@dataclass(frozen=True, slots=True)
class BadLine:
    """一行坏数据：行号从 1 起，reason 是中文原因。"""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class Trace:
    """一份读入的踪迹。header 是文件头里的“键: 值”；max_procs 为 0 表示文件没有说。"""

    source: str
    header: dict[str, str] = field(default_factory=dict)
    records: list[TraceRecord] = field(default_factory=list)
    max_procs: int = 0
    bad_line_count: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def reject(self, line: int, reason: str, text: str) -> None:
        """记下一行坏数据；只保留最前面若干行的内容，其余只计数。"""
        self.bad_line_count += 1
        if len(self.bad_lines) < MAX_KEPT_EXAMPLES:
            self.bad_lines.append(BadLine(line, reason, text.strip()[:120]))


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """打开文本或 gzip 文件（看魔数，不看扩展名）。读不了时抛 TraceUnreadable。

    踪迹的文件头里常有各种旧编码的人名，解不出的字节以 U+FFFD 代替，不影响数字。
    """
    try:
        with path.open("rb") as probe:
            gzipped = probe.read(2) == b"\x1f\x8b"
        with (
            cast(IO[str], open_gzip(path, "rt", encoding="utf-8", errors="replace"))
            if gzipped
            else path.open(encoding="utf-8", errors="replace")
        ) as lines:
            yield lines
    except (BadGzipFile, EOFError) as error:
        raise TraceUnreadable(f"{path} 不是完整的 gzip 文件：{error}") from error
    except OSError as error:
        raise TraceUnreadable(f"无法读取 {path}：{error.strerror or error}") from error


def whole_number(text: str) -> int:
    """整数或小数的文字 -> 整数（四舍五入）；不是有限的数、或大得离谱时抛 ValueError（中文原因）。"""
    try:
        value = int(text)
    except ValueError:
        try:
            value = round(float(text))
        except (ValueError, OverflowError):
            raise ValueError(f"{text[:40]!r} 不是有限的数") from None
    if abs(value) > MAX_MAGNITUDE:
        raise ValueError(f"{text[:40]!r} 大得离谱")
    return value


def whole_numbers(words: Sequence[str]) -> list[int]:
    """一行里的各个数，同 whole_number；多数都是整数，一起转要快几倍。"""
    try:
        found = list(map(int, words))
    except ValueError:
        return [whole_number(word) for word in words]
    if found and (max(found) > MAX_MAGNITUDE or min(found) < -MAX_MAGNITUDE):
        return [whole_number(word) for word in words]
    return found
