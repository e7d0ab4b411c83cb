"""-v、-vv 与 SLURM_DEBUG、SBATCH_DEBUG、SALLOC_DEBUG：人与工具读的那几行，都写到标准错误。"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.array_spec import format_ranges, merge_ranges
from scns_conductor.core.step_wire import node_of_place
from scns_conductor.core.task_layout import repeat_list
from scns_conductor.core.units import parse_time_limit
from scns_conductor.slurm.session import current_umask, say, tell_requests
from scns_conductor.slurm.table.times import duration

_LINE = f"{'-' * 20} {'-' * 20}"
_TIMES = ("time", "time_min")
# -vv 起说 debug 的行。
_DEBUG = 2


def tell_options(command: str, given: dict[str, str], pairs: Sequence[tuple[str, str]], variable: str) -> int:
    """要说几成：写了几个 -v，没有写的看变量；一成以上列出写了的选项。given 里的 verbose 改成这个数，不说的没有它。"""
    level = sum(key == "verbose" for key, _ in pairs)
    text = os.environ.get(variable, "")
    if not level and text.isdigit():
        level = int(text[:3])
    given.pop("verbose", None)
    if not level or "quiet" in given:
        return 0
    given["verbose"] = str(level)
    lines = [f"{key.replace('_', '-'):<20}: {_shown(key, value)}" for key, value in sorted(given.items())]
    for line in ("defined options", _LINE, *lines, _LINE, "end of defined options"):
        say(command, line)
    tell_requests(command, level)
    if level >= _DEBUG:
        say(command, f"debug:  propagating UMASK={current_umask():04o}")
    return level


def _shown(key: str, value: str) -> str:
    if key in _TIMES:
        try:
            return duration(parse_time_limit(value))
        except ValueError:
            return value
    return value or "set"


def tell_allocation(command: str, job_id: str, nodes: str, cpus: str) -> None:
    """分到了什么；cpus 是 SLURM_JOB_CPUS_PER_NODE 的写法。"""
    counts = ",".join(part if "(" in part else f"{part}(x1)" for part in cpus.split(",")) if cpus else ""
    number = sum(int(part.partition("(x")[2].rstrip(")")) for part in counts.split(",")) if counts else 0
    say(command, f"jobid {job_id}: nodes({number}):`{nodes}', cpu counts: {counts}")


def tell_job(command: str, job: Mapping[str, Any]) -> None:
    """同上，由作业的详情。"""
    parts = [part for part in job["allocations"] if not part["released_at"]]
    cpus = repeat_list([part["cpus"] for part in parts])
    tell_allocation(command, str(job["job_id"]), str(job["node_list"]), cpus)


def tell_request(command: str, level: int, job_id: str, wanted: Mapping[str, Any]) -> None:
    """-vv：要的是怎样的作业步。"""
    if level < _DEBUG:
        return
    tasks = wanted.get("tasks") or 1
    cpus, name = tasks * wanted.get("cpus_per_task", 1), wanted.get("name") or os.path.basename(wanted["argv"][0])
    nodes, listed = wanted.get("nodes") or 1, wanted.get("node_list") or "(null)"
    say(command, f"debug:  requesting job {job_id}, user {os.getuid()}, nodes {nodes} including ({listed})")
    # 没有写 -r 的，Slurm 写 NO_VAL16。
    relative = wanted.get("relative", 65534)
    say(command, f"debug:  cpus {cpus}, tasks {tasks}, name {name}, relative {relative}")


def tell_step(command: str, step: Mapping[str, Any]) -> None:
    """作业步的各节点做哪些任务。"""
    name = f"{step['job_id']}.{step['step_id']}"
    for node in step["nodes"]:
        ranks = format_ranges(merge_ranges([(rank, rank + 1) for rank in node["tasks"]]), None)
        shown = ranks if len(node["tasks"]) == 1 else f"[{ranks}]"
        say(
            command,
            f"launching StepId={name} on host {node_of_place(node['name'])}, {len(node['tasks'])} tasks: {shown}",
        )
