"""历史的读取：`sacct -p`（或 -P）的文本，与本系统自己的历史（`GET /jobs` 的 JSON，或同样列名的 CSV）。

只有真正跑过并且结束了的作业才可重放；其余跳过，并按原因计数（Trace.ignored）。
没有时区的时刻按 UTC 解释：模拟只用时间差，这样结果与机器所在的时区无关。
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.core.units import parse_duration, parse_memory_mb
from scns_conductor.simulator.trace import Trace, TraceRecord, TraceUnreadable, open_text, whole_number

_NOTHING = frozenset({"", "unknown", "none", "null", "n/a", "invalid"})
_UNLIMITED = frozenset({"unlimited", "infinite", "partition_limit", "-1"})
_SACCT_MEMORY = re.compile(r"^(\d+(?:\.\d+)?[KMGTP]?)([nc]?)$", re.IGNORECASE)
_GPU = re.compile(r"(?:^|,)(?:gres/)?gpu(?::[^=:,]+)?[=:](\d+)")
_PLAIN_GPU = re.compile(r"(?:^|,)(?:gres/)?gpu=(\d+)")
_ACTIVE = {state.value for state in set(JobState) - TERMINAL_STATES} | {
    "REQUEUED",
    "REQUEUE_HOLD",
    "RESIZING",
    "COMPLETING",
}


def read_sacct(path: Path) -> Trace:
    """读 `sacct -p --format=...` 的文本。第一行必须是列名。

    要有：JobID、Submit、State；ElapsedRaw、Elapsed、（Start 与 End）之一；AllocCPUS、NCPUS、ReqCPUS、AllocTRES 之一；
    可有：User、Account、Start、TimelimitRaw 或 Timelimit、NNodes 或 AllocNodes、AllocTRES、ReqTRES、ReqMem。
    缺列时抛 TraceUnreadable；作业步（号里有点）不算作业。
    """
    with open_text(path) as lines:
        header = next((line for line in lines if line.strip()), "")
        columns = [word.strip() for word in header.strip().rstrip("|").split("|")]
        missing = {"JobID", "Submit", "State"} - set(columns)
        if missing:
            raise TraceUnreadable(f"{path} 的第一行缺少列 {'、'.join(sorted(missing))}；请用 sacct -p --format=… 导出")
        trace = Trace(str(path))
        for number, line in enumerate(lines, start=2):
            text = line.rstrip("\n")
            if not text.strip():
                continue
            values = text.split("|")
            # -p 在行尾多一个竖线，-P 没有。
            if len(values) == len(columns) + 1 and not values[-1]:
                values.pop()
            if len(values) != len(columns):
                trace.reject(number, f"应有 {len(columns)} 列，实有 {len(values)} 列", text)
                continue
            row = dict(zip(columns, (value.strip() for value in values), strict=True))
            if "." in row["JobID"]:
                trace.ignored["ignored_steps"] += 1
                continue
            _take(trace, number, text, row["State"], _sacct_record, row)
    return trace


def read_history(path: Path) -> Trace:
    """读本系统的历史：`GET /jobs` 的 JSON（可把各页接连写在一个文件里），或列名相同的 CSV。

    认得平铺的字段，也认得查询接口的嵌套形式（time{…}、detail{…}）。内容不成形时抛 TraceUnreadable。
    """
    with open_text(path) as lines:
        content = lines.read()
    rows = _json_rows(path, content) if content.lstrip()[:1] in ("{", "[") else csv.DictReader(content.splitlines())
    return history_trace(rows, str(path))


def history_trace(rows: Iterable[Any], source: str) -> Trace:
    """本系统的作业 -> 踪迹；不成形的行跳过并计数，号从 1 起。"""
    trace = Trace(source)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            trace.reject(number, "不是一个作业对象", str(row))
            continue
        flat = _flatten(row)
        _take(trace, number, str(row), str(flat.get("state", "")), _history_record, flat)
    return trace


def _take(
    trace: Trace,
    number: int,
    text: str,
    state_text: str,
    build: Callable[[Mapping[str, Any]], TraceRecord | None],
    row: Mapping[str, Any],
) -> None:
    """结束了的作业收下，没结束的按状态计数，坏的记下原因。"""
    state = state_text.split(" ")[0].rstrip("+").upper()
    if state in _ACTIVE:
        trace.ignored["ignored_not_finished"] += 1
        return
    try:
        record = build(row)
    except ValueError as error:
        trace.reject(number, str(error), text)
        return
    if record is None:
        trace.ignored["ignored_never_started"] += 1
    else:
        trace.records.append(record)


def _sacct_record(row: Mapping[str, Any]) -> TraceRecord | None:
    submit_s = instant(row["Submit"])
    start_s, end_s = instant(row.get("Start")), instant(row.get("End"))
    if submit_s is None:
        raise ValueError("没有提交时刻")
    if _known(row.get("ElapsedRaw")):
        run_s = whole_number(row["ElapsedRaw"])
    elif _known(row.get("Elapsed")):
        run_s = parse_duration(row["Elapsed"])
    elif start_s is not None and end_s is not None:
        run_s = end_s - start_s
    else:
        return None
    allocated = _tres(row.get("AllocTRES"))
    requested = _tres(row.get("ReqTRES"))
    cpus = _first_number(row, ("AllocCPUS", "NCPUS")) or allocated.get("cpu", 0)
    wanted = _first_number(row, ("ReqCPUS",)) or requested.get("cpu", 0)
    nodes = _first_number(row, ("AllocNodes", "NNodes")) or allocated.get("node", 1)
    if _known(row.get("TimelimitRaw")) and row["TimelimitRaw"].lower() not in _UNLIMITED:
        limit_s = whole_number(row["TimelimitRaw"]) * 60
    elif _known(row.get("Timelimit")) and row["Timelimit"].lower() not in _UNLIMITED:
        limit_s = parse_duration(row["Timelimit"])
    else:
        limit_s = -1
    memory_mb = allocated.get("mem", 0) or requested.get("mem", 0) or _sacct_memory_mb(row.get("ReqMem"), nodes, cpus)
    if run_s == 0 or (start_s is None and "Start" in row):
        return None
    return TraceRecord(
        job_id=row["JobID"],
        submit_s=submit_s,
        run_s=run_s,
        allocated_cpus=cpus or -1,
        # Slurm 可能分得比要的多（整核、整节点）；重放的是占用，所以以分到的为准。
        requested_cpus=cpus or wanted or -1,
        requested_s=limit_s,
        wait_s=start_s - submit_s if start_s is not None else -1,
        user=row.get("User") or "-1",
        account=row.get("Account") or "-1",
        nodes=nodes,
        memory_mb=memory_mb,
        gpus=allocated.get("gpu", 0) or requested.get("gpu", 0),
    )


def _history_record(row: Mapping[str, Any]) -> TraceRecord | None:
    submit_s, start_s, end_s = (instant(row.get(key)) for key in ("submit_time", "start_time", "end_time"))
    if submit_s is None:
        raise ValueError("没有 submit_time")
    if start_s is None or end_s is None:
        return None
    suspended_s = float(row.get("suspended_s") or 0)
    cpus = whole_number(str(row.get("allocated_cpus") or 0))
    if cpus <= 0:
        cpus = max(1, whole_number(str(row.get("tasks") or 1))) * max(
            1, whole_number(str(row.get("cpus_per_task") or 1))
        )
    limit = row.get("time_limit", row.get("limit_time"))
    # 不足一秒的作业也真的占过资源，按一秒算。
    run_s = max(1, round(end_s - start_s - suspended_s))
    return TraceRecord(
        job_id=str(row.get("job_id", "")),
        submit_s=submit_s,
        run_s=run_s,
        allocated_cpus=cpus,
        requested_cpus=cpus,
        requested_s=_limit_seconds(limit),
        wait_s=start_s - submit_s,
        user=str(row.get("user_name") or row.get("user") or "-1"),
        account=str(row.get("account") or "-1"),
        nodes=whole_number(str(row.get("allocated_nodes") or 1)),
        memory_mb=whole_number(str(row.get("allocated_memory") or 0)),
        gpus=_gpu_count(str(row.get("allocated_gres") or "")),
        stopped_s=max(0, end_s - start_s - run_s),
    )


def _limit_seconds(limit: Any) -> int:
    """时限：整数是秒（数据库里的单位），文字是 Slurm 的写法；不限、未知为 -1。"""
    text = str(limit if limit is not None else "").strip()
    if not _known(text) or text.lower() in _UNLIMITED:
        return -1
    return whole_number(text) if text.isdigit() else parse_duration(text)


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """查询接口把时刻放在 time、资源放在 detail 里；摊平成一层，外层优先。"""
    flat: dict[str, Any] = {}
    for nested in ("time", "detail"):
        if isinstance(row.get(nested), dict):
            flat.update(row[nested])
    flat.update({key: value for key, value in row.items() if not isinstance(value, dict)})
    return flat


def _json_rows(path: Path, content: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position, end = 0, len(content)
    while position < end:
        if content[position] in " \t\r\n,":
            position += 1
            continue
        try:
            document, position = decoder.raw_decode(content, position)
        except (json.JSONDecodeError, RecursionError) as error:
            raise TraceUnreadable(f"{path} 不是合法的 JSON：{error}") from error
        if isinstance(document, dict) and isinstance(document.get("jobs"), list):
            yield from document["jobs"]
        elif isinstance(document, list):
            yield from document
        else:
            yield document


def _known(text: str | None) -> bool:
    return text is not None and text.strip().lower() not in _NOTHING


def instant(value: Any) -> int | None:
    """时刻 -> epoch 秒；未知为 None。认得 epoch 数、ISO 8601（带或不带时区）。"""
    text = str(value).strip() if value is not None else ""
    if not _known(text):
        return None
    try:
        return whole_number(text)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"无法识别的时刻 {text[:40]!r}") from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _first_number(row: Mapping[str, str], columns: tuple[str, ...]) -> int:
    for column in columns:
        if _known(row.get(column)):
            return whole_number(row[column])
    return 0


def _tres(text: str | None) -> dict[str, int]:
    """`billing=4,cpu=4,gres/gpu=2,gres/gpu:a100=2,mem=16G,node=1` -> 数目；mem 为 MiB，gpu 为总数。"""
    found: dict[str, int] = {}
    for part in (text or "").split(","):
        key, equals, value = part.partition("=")
        if not equals:
            continue
        if key == "mem":
            found["mem"] = parse_memory_mb(value)
        elif key in ("cpu", "node"):
            found[key] = whole_number(value)
    if gpus := _gpu_count(text or ""):
        found["gpu"] = gpus
    return found


def _gpu_count(text: str) -> int:
    """GPU 的总数：有不分型号的总数就用它，否则把各型号加起来。"""
    if plain := _PLAIN_GPU.search(text):
        return int(plain[1][:9])
    return sum(int(number[:9]) for number in _GPU.findall(text))


def _sacct_memory_mb(text: str | None, nodes: int, cpus: int) -> int:
    """ReqMem：旧版 Slurm 以 n、c 结尾，表示每节点、每 CPU；新版是总数。"""
    found = _SACCT_MEMORY.match((text or "").strip())
    if found is None:
        return 0
    times = {"n": max(1, nodes), "c": max(1, cpus)}.get(found[2].lower(), 1)
    return parse_memory_mb(found[1]) * times
