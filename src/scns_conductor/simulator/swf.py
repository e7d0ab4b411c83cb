"""标准工作负载格式（SWF）的读取：每行 18 个数，分号开头的是文件头注释，-1 表示未知。

字段的定义见 Parallel Workloads Archive 的 SWF 2.2 说明。
"""

import re
from collections.abc import Iterable
from pathlib import Path

from scns_conductor.simulator.trace import Trace, TraceRecord, TraceUnreadable, open_text, whole_numbers

FIELD_COUNT = 18
_HEADER = re.compile(r"^;\s*([A-Za-z][A-Za-z ]*?)\s*:\s*(.*?)\s*$")
_LEADING_NUMBER = re.compile(r"\d+")
# 用得到的字段在一行里的位置（从 0 起）。
_JOB, _SUBMIT, _WAIT, _RUN, _ALLOCATED, _REQUESTED, _REQUESTED_TIME, _MEMORY = 0, 1, 2, 3, 4, 7, 8, 9
_USER, _GROUP = 11, 12


def read_swf(path: Path, *, use_memory: bool = False) -> Trace:
    """读一个 SWF 文件（可为 gzip）。坏行跳过并计数，见 Trace.bad_lines；读不了时抛 TraceUnreadable。

    use_memory 时取第 10 字段（每处理器 KB）乘以处理器数作为作业的内存。
    """
    with open_text(path) as lines:
        trace = parse_swf(lines, source=str(path), use_memory=use_memory)
    if not trace.records:
        first = trace.bad_lines[0] if trace.bad_lines else None
        why = f"；第 {first.line} 行：{first.reason}" if first else ""
        raise TraceUnreadable(f"{path} 里没有一个可读的作业（坏行 {trace.bad_line_count}）{why}")
    return trace


def parse_swf(lines: Iterable[str], *, source: str = "", use_memory: bool = False) -> Trace:
    """同 read_swf，但来自任何一串文本行，也不要求有作业。"""
    trace = Trace(source)
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if text.startswith(";"):
            if found := _HEADER.match(text):
                trace.header.setdefault(found[1], found[2])
            continue
        try:
            trace.records.append(_record(text.split(), use_memory))
        except ValueError as error:
            trace.reject(number, str(error), text)
    trace.max_procs = header_number(trace, "MaxProcs") or header_number(trace, "MaxNodes")
    return trace


def _record(fields: list[str], use_memory: bool) -> TraceRecord:
    if len(fields) != FIELD_COUNT:
        raise ValueError(f"应有 {FIELD_COUNT} 个字段，实有 {len(fields)} 个")
    numbers = whole_numbers(fields)
    requested, allocated = numbers[_REQUESTED], numbers[_ALLOCATED]
    memory_kb = numbers[_MEMORY] * max(requested, allocated, 1) if use_memory and numbers[_MEMORY] > 0 else 0
    return TraceRecord(
        job_id=str(numbers[_JOB]),
        submit_s=numbers[_SUBMIT],
        run_s=numbers[_RUN],
        allocated_cpus=allocated,
        requested_cpus=requested,
        requested_s=numbers[_REQUESTED_TIME],
        wait_s=numbers[_WAIT],
        user=fields[_USER],
        account=fields[_GROUP],
        memory_mb=-(-memory_kb // 1024),
    )


def header_number(trace: Trace, key: str) -> int:
    """文件头里的数，如 `MaxNodes: 338 (batch partition; 512 total)` -> 338；没有时为 0。"""
    found = _LEADING_NUMBER.match(trace.header.get(key, ""))
    return int(found[0][:12]) if found else 0
