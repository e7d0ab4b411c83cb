"""sacct -P 的历史：一行行地读，一个作业的几行（重新排队之前的各次、作业步）合成一个，写成 POST /jobs/history 的。"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scns_conductor.core.array_spec import parse_array
from scns_conductor.core.hostlist import check_hostlist
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.slurm.moving.findings import Findings, Place
from scns_conductor.slurm.moving.sacct_values import (
    Moments,
    clock_s,
    exit_code,
    gres_of,
    known,
    later,
    licenses_of,
    memory_mb,
    minutes_or_clock_s,
    peak_kb,
    tres_amounts,
    whole,
)

# 这样导出：-D 是连同重新排队之前的各次，-a 是全部用户的，-S 从何时起。
COMMAND = (
    "sacct -a -D -P -S 2024-01-01 --format=JobID,JobIDRaw,JobName,User,Account,Partition,QOS,WCKey,Submit,Eligible,"
    "Start,End,ElapsedRaw,Suspended,State,ExitCode,DerivedExitCode,TimelimitRaw,NNodes,NodeList,AllocCPUS,ReqCPUS,"
    "ReqMem,AllocTRES,ReqTRES,UserCPU,SystemCPU,MaxRSS,WorkDir,Constraints,Reservation,Comment,AdminComment"
)
_NEEDED = ("jobid", "user", "partition", "state", "submit", "start", "end", "nodelist")
_AGAIN = frozenset({"REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
_TERMINAL = frozenset(state.value for state in TERMINAL_STATES)
_TEXTS = {"account": "account", "qos": "qos", "constraints": "constraints",
          "reservation": "reservation", "comment": "comment", "admin_comment": "admincomment"}  # fmt: skip


class NotASacctTable(Exception):
    """第一行不是列名，或缺了要的列；说明里是缺哪些。"""


@dataclass(frozen=True, slots=True)
class _Line:
    place: Place
    text: str
    row: Mapping[str, str]

    @property
    def state(self) -> str:
        """CANCELLED by 1000、截短了的 CANCELLED+ 都是 CANCELLED。"""
        return self.row["state"].split(" ")[0].rstrip("+").upper()


@dataclass(slots=True)
class _Group:
    """一个作业的几行；peak_kb 是各步里最大的。"""

    number: int
    lines: list[_Line] = field(default_factory=list)
    peak_kb: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """一个可以送去的作业；nodes 是各次一共几个节点。"""

    place: Place
    text: str
    job: dict[str, Any]
    nodes: int


def read_jobs(name: str, lines: Iterable[str], moments: Moments, findings: Findings) -> Iterator[Found]:
    """逐个给出；写不成的、没有结束的记进 findings。缺列抛 NotASacctTable。"""
    for group in _groups(name, lines, findings):
        last = max(group.lines, key=lambda line: (line.row["submit"], line.row["start"]))
        try:
            found = _job(group, last, moments)
        except ValueError as error:
            findings.add(last.place, last.text, str(error))
            continue
        yield found


def _groups(name: str, lines: Iterable[str], findings: Findings) -> Iterator[_Group]:
    """同一个号的各行挨着（sacct 就是这样给的）。"""
    numbered = ((at, line.rstrip("\r\n")) for at, line in enumerate(lines, start=1))
    titles: list[str] = []
    trailing = False
    group: _Group | None = None
    for at, text in numbered:
        if not text.strip():
            continue
        if not titles:
            titles = _titles(name, text)
            # -p 在行尾多一个竖线，-P 没有。
            trailing = text.endswith("|")
            continue
        values = text.removesuffix("|" if trailing else "").split("|")
        if len(values) != len(titles):
            findings.add(Place(name, at), text, f"应有 {len(titles)} 列，实有 {len(values)} 列")
            continue
        row = dict(zip(titles, (value.strip() for value in values), strict=True))
        if "." in row["jobid"].partition("[")[0]:
            if group is not None and group.lines[0].row["jobid"] == row["jobid"].partition(".")[0]:
                group.peak_kb = max(group.peak_kb or 0, peak_kb(row.get("maxrss")) or 0) or None
            continue
        line = _Line(Place(name, at), text, row)
        try:
            number = _number(row)
        except ValueError as error:
            findings.add(line.place, text, str(error))
            continue
        if group is None or group.number != number:
            if group is not None:
                yield group
            group = _Group(number)
        group.lines.append(line)
        group.peak_kb = max(group.peak_kb or 0, peak_kb(row.get("maxrss")) or 0) or None
    if group is not None:
        yield group
    if not titles:
        raise NotASacctTable(f"{name} 是空的")


def _titles(name: str, text: str) -> list[str]:
    titles = [title.strip().lower() for title in text.rstrip("|").split("|")]
    missing = [title for title in _NEEDED if title not in titles]
    if not {"alloctres", "alloccpus", "ncpus"} & set(titles):
        missing.append("alloctres")
    if missing:
        raise NotASacctTable(f"{name} 的第一行缺少列 {'、'.join(missing)}；这样导出：{COMMAND}")
    return titles


def _number(row: Mapping[str, str]) -> int:
    """作业自己的号。"""
    if known(row.get("jobidraw")):
        return whole(row["jobidraw"])
    leader, plus, offset = row["jobid"].partition("+")
    if plus:
        return whole(leader) + whole(offset)
    if "_" in leader and "[" not in leader:
        raise ValueError("数组任务自己的号在 JobIDRaw 列里，没有这一列")
    return whole(leader.partition("_")[0])


def _job(group: _Group, last: _Line, moments: Moments) -> Found:
    row = last.row
    if last.state in _AGAIN or last.state not in _TERMINAL:
        raise ValueError(f"没有结束（{row['state'] or '没有状态'}）" if last.state else "没有状态")
    if not known(row["user"]):
        raise ValueError("没有用户")
    submitted = moments.of(row["submit"])
    if submitted is None:
        raise ValueError("没有提交时刻")
    lines = sorted((line for line in group.lines if line is not last), key=lambda line: line.row["start"])
    found = [_attempt(line, number, moments) for number, line in enumerate([*lines, last])]
    attempts, final = [each for each in found if each is not None], found[-1]
    earliest = min((moment for line in lines if (moment := moments.of(line.row["submit"])) is not None), default=None)
    eligible, ended = moments.of(row.get("eligible")), moments.of(row["end"])
    if final is None and ended is None:
        raise ValueError("没有结束时刻")
    code, signal = exit_code(row.get("exitcode"))
    job: dict[str, Any] = {
        "job_id": group.number,
        "name": row.get("jobname") or "sbatch",
        "user_name": row["user"],
        "partition": row["partition"] or "unknown",
        "state": last.state,
        "submit_time": _shown(min(submitted, earliest or submitted)),
        "eligible_time": None if eligible is None else _shown(eligible),
        "end_time": final["end_time"] if final is not None else _shown(ended or submitted),
        "exit_status": code,
        "exit_signal": signal,
        "derived_exit_status": exit_code(row.get("derivedexitcode"))[0],
        "time_limit": minutes_or_clock_s(row.get("timelimitraw"), row.get("timelimit")),
        "suspended_s": clock_s(row.get("suspended")) or 0,
        "cpu_user_s": clock_s(row.get("usercpu")),
        "cpu_system_s": clock_s(row.get("systemcpu")),
        "max_rss_kb": group.peak_kb,
        "current_working_directory": row["workdir"] if row.get("workdir", "").startswith("/") else "/",
        # * 是没有写、取了缺省的那个。
        "wckey": row.get("wckey", "").lstrip("*") or None,
        **{name: row[column] for name, column in _TEXTS.items() if known(row.get(column))},
        **_wanted(row, attempts[-1] if attempts else None),
        **_family(row["jobid"]),
        "restart_count": len(lines),
        "attempts": attempts,
    }
    nodes = sum(check_hostlist(attempt["node_list"]) for attempt in attempts)
    return Found(last.place, last.text, {name: value for name, value in job.items() if value is not None}, nodes)


def _attempt(line: _Line, number: int, moments: Moments) -> dict[str, Any] | None:
    """第 number 次尝试；没有开始过的是 None。"""
    row = line.row
    start, end = moments.of(row["start"]), moments.of(row["end"])
    nodes = row["nodelist"]
    if start is None or not known(nodes) or nodes.lower() == "none assigned":
        return None
    elapsed = whole(row["elapsedraw"]) if known(row.get("elapsedraw")) else clock_s(row.get("elapsed"))
    if elapsed is None:
        if end is None:
            raise ValueError("没有结束时刻，也没有时长（ElapsedRaw）")
        elapsed = (end - start).total_seconds()
    if elapsed < 0:
        raise ValueError("结束早于开始")
    # 夏令时换回来的那一小时，本地的时刻说不清；时长说得清。挂起过的照写的。
    computed = later(start, elapsed)
    if end is None or not clock_s(row.get("suspended")) or end < computed:
        end = computed
    amounts = tres_amounts(row.get("alloctres"))
    cpus = amounts.get("cpu") or next((whole(row[name]) for name in ("alloccpus", "ncpus") if known(row.get(name))), 0)
    if cpus < 1:
        raise ValueError("不知道分到几个 CPU（AllocTRES、AllocCPUS）")
    return {
        "restart_count": number,
        "start_time": _shown(start),
        "end_time": _shown(end),
        "run_s": elapsed,
        "state": line.state if line.state in _TERMINAL else None,
        "node_list": nodes,
        "cpus": cpus,
        "memory": amounts.get("mem", 0),
        "gres": gres_of(amounts),
    }


def _wanted(row: Mapping[str, str], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """要求的：ReqTRES、ReqCPUS、ReqMem；没有写的照分到的（given）。"""
    amounts = tres_amounts(row.get("reqtres"))
    nodes = amounts.get("node") or (whole(row["nnodes"]) if known(row.get("nnodes")) else 1) or 1
    cpus = amounts.get("cpu") or (whole(row["reqcpus"]) if known(row.get("reqcpus")) else 0)
    cpus = cpus or (given["cpus"] if given else 0) or nodes
    memory = amounts.get("mem") or memory_mb(row.get("reqmem"), nodes, cpus)
    gres = gres_of(amounts)
    words = ",".join(f"gres/{name}:{count}" for name, count in gres.items())
    found: dict[str, Any] = {"tasks": max(cpus, nodes), "minimum_nodes": nodes}
    if memory:
        found["memory_per_node"] = -(-memory // nodes)
    if words and nodes == 1:
        found["tres_per_node"] = words
    elif words:
        found["tres_per_job"] = words
    licenses = licenses_of(amounts) or licenses_of(tres_amounts(row.get("alloctres")))
    if licenses:
        found["licenses"] = licenses
    return found


def _family(job_id: str) -> dict[str, Any]:
    """数组与异构作业：100_3、还没有启动就取消了的 100_[5-9%2]、200+1。"""
    leader, plus, offset = job_id.partition("+")
    if plus:
        return {"het_job_id": whole(leader), "het_job_offset": whole(offset)}
    leader, underscore, task = job_id.partition("_")
    if not underscore:
        return {}
    if not task.startswith("["):
        return {"array_job_id": whole(leader), "array_task_id": whole(task)}
    words = task.strip("[]")
    if "..." in words:
        raise ValueError("任务号写不下，被截短了；导出时设 SLURM_BITSTR_LEN=0")
    # 记的是任务，不记同时运行的上限。
    parse_array(words)
    return {"array_job_id": whole(leader), "array_tasks": words}


def _shown(moment: Any) -> str:
    return str(moment.isoformat())
