"""scns top 的文字：API 的一个作业、一个节点、总览 -> 表里的一行、顶上的两行。"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from scns_conductor.cli.job_text import COLOURS, elapsed_text, instant, job_label, time_limit_text
from scns_conductor.core.units import format_duration, format_memory_mb
from scns_conductor.language import told

JOB_FIELDS = (
    "job_id,array_job_id,array_task_id,array_remaining,name,user_name,state,reason,hold,submit_time,start_time,"
    "suspend_time,suspended_s,expected_start_time,time_limit,allocated_cpus,tasks,cpus_per_task,node_list"
)
JOB_HEADER = ("作业", "名字", "用户", "状态", "用时", "限时", "CPU", "节点（原因）")
NODE_HEADER = ("节点", "状态", "CPU", "内存", "GPU", "分区", "原因")
STATES = {"PENDING": "排队", "RUNNING": "运行", "SUSPENDED": "挂起"}
NAME_WIDTH, USER_WIDTH, NOTE_WIDTH = 14, 8, 40
BAR_WIDTH = 10
# 双向文字的控制符会把后面的列也翻过来。
_UNSEEN = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """别人起的名字：控制字符换成 ·，方向控制符去掉；终端不会被它带走。"""
    return "".join("·" if unicodedata.category(each) in ("Cc", "Cs") else each for each in _UNSEEN.sub("", text))


def cell(text: str, width: int = NOTE_WIDTH, style: str = "") -> Text:
    """一格：太长的截断，从不当作标记。"""
    found = Text(plain(text), style=style, no_wrap=True, end="")
    found.truncate(width, overflow="ellipsis")
    return found


def job_cells(job: Mapping[str, Any], now: datetime) -> list[Text]:
    """一个作业的一行，与 JOB_HEADER 对应。"""
    state = str(job["state"])
    cpus = job.get("allocated_cpus") or int(job.get("tasks") or 1) * int(job.get("cpus_per_task") or 1)
    if state == "PENDING":
        submitted = instant(job.get("submit_time"))
        waited = (now - submitted).total_seconds() if submitted else 0.0
        spent, note = f"+{format_duration(max(0.0, waited))}", f"({job.get('reason') or 'None'}{_expected(job)})"
    else:
        spent, note = elapsed_text(job, now), str(job.get("node_list") or "")
    return [
        cell(job_label(job), 14),
        cell(str(job.get("name") or ""), NAME_WIDTH),
        cell(str(job.get("user_name") or ""), USER_WIDTH),
        cell(told(STATES.get(state, state)), 10, COLOURS.get(state) or ""),
        cell(_short(spent), 12),
        cell(_short(time_limit_text(job.get("time_limit"))), 12),
        Text(str(cpus), justify="right"),
        cell(note),
    ]


def _expected(job: Mapping[str, Any]) -> str:
    start = instant(job.get("expected_start_time"))
    return f" {start.astimezone():%H:%M}" if start else ""


def _short(text: str) -> str:
    """00:05:00 写成 5:00，01:00:00 写成 1:00:00，窄的终端里省出地方。"""
    sign, rest = ("+", text[1:]) if text.startswith("+") else ("", text)
    return sign + rest.removeprefix("00:").removeprefix("0")


def node_cells(node: Mapping[str, Any]) -> list[Text]:
    """一个节点的一行，与 NODE_HEADER 对应。"""
    state = str(node["state"])
    colour = "red" if "DOWN" in state else "yellow" if "DRAIN" in state else "green" if state == "IDLE" else ""
    gpus = f"{node['allocated_gpus']}/{node['gpus']}" if node.get("gpus") else "-"
    memory = f"{format_memory_mb(node['allocated_memory'])}/{format_memory_mb(node['memory'])}"
    return [
        cell(str(node["name"]), 20),
        cell(state, 14, colour),
        Text(f"{node['allocated_cpus']}/{node['cpus']}", justify="right"),
        Text(memory, justify="right"),
        Text(gpus, justify="right"),
        cell(str(node.get("partitions") or ""), 16),
        cell(str(node.get("reason") or "")),
    ]


def rows_of(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """GET /nodemap 的 {fields, nodes} -> 一个节点一个字典。"""
    return [dict(zip(table["fields"], row, strict=True)) for row in table["nodes"]]


def summary(board: Mapping[str, Any], scope: str) -> Text:
    """顶上的两行：资源用了多少；作业与节点各几个。"""
    resources, jobs = board["resources"], board["jobs"]["by_state"]
    bars: list[tuple[str, Mapping[str, Any], Callable[[Any], str]]]
    bars = [("CPU", resources["cpus"], str), (told("内存"), resources["memory_mb"], format_memory_mb)]
    bars += [(name.upper(), value, str) for name, value in list(resources["gres"].items())[:2]]
    found = Text(no_wrap=True, overflow="ellipsis")
    for name, value, write in bars:
        found.append(f"{name} ", "bold").append_text(_bar(value["used"], value["total"]))
        found.append(f" {write(value['used'])}/{write(value['total'])}   ")
    found.append("\n")
    found.append(f"{told('运行')} {jobs.get('RUNNING', 0)}", "green").append("  ")
    found.append(f"{told('排队')} {jobs.get('PENDING', 0)}", "yellow").append("   ")
    found.append(f"{told('节点')} " + _counted(resources["nodes"]["by_state"]))
    if not board["leader"]["alive"]:
        found.append("   " + told("没有调度器"), "bold red")
    if scope:
        found.append("   " + scope, "cyan")
    return found


def _bar(used: float, total: float) -> Text:
    full = round(BAR_WIDTH * used / total) if total else 0
    return Text("█" * full, "blue") + Text("░" * (BAR_WIDTH - full), "bright_black")


def _counted(states: Mapping[str, int]) -> str:
    return " ".join(f"{state} {count}" for state, count in states.items()) or "0"


def headed(header: Sequence[str]) -> list[str]:
    """表头，用使用者的语言。"""
    return [told(word) for word in header]
