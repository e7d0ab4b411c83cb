"""sacct：记账，结束的作业也在其中（sacct(1)）。"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.core.units import parse_time_limit
from scns_conductor.slurm.accounting.accounting_columns import BRIEF_FORMAT, DEFAULT_FORMAT, FIELDS, LONG_FORMAT, Field
from scns_conductor.slurm.accounting.job_attempts import attempts, truncated
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.options import Parsed, flags, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error
from scns_conductor.slurm.step.step_values import accounting_row, steps_of
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.terminal_text import on_terminal, printable
from scns_conductor.slurm.table.times import epoch, instant, instant_text, past_instant

OPTIONS = [
    *flags("-a --allusers", "-b --brief", "-B --batch-script", "-c --completion", "-D --duplicates", "--array"),
    *flags(
        "-e --helpformat",
        "--env-vars",
        "-h --help",
        "--expand-patterns",
        "--helpstate",
        "--fedorig",
        "-l --long",
        "-L --allclusters",
        "--local",
    ),
    *flags(
        "-n --noheader", "--noconvert", "-p --parsable", "-P --parsable2", "-T --truncate", "--usage", "--federation"
    ),
    *flags("-v --verbose", "-V --version", "-X --allocations", "--me", "--use-local-uid"),
    *values("-A --accounts", "-x --associations", "-C --constraints", "--delimiter", "-E --endtime", "-f --file"),
    *values("-F --flags", "-g --gid --group", "-i --nnodes", "-I --ncpus", "-j --jobs", "-k --timelimit-min"),
    *values("-K --timelimit-max", "-M --clusters --cluster", "-N --nodelist", "--name", "-o --format", "-q --qos"),
    *values(
        "-r --partition", "-R --reason", "-s --state", "-S --starttime", "--units", "-u --user --uid", "-W --wckeys"
    ),
    option("--json", "optional"),
    option("--yaml", "optional"),
    # 没有异构作业，每个作业本来就是整个。
    option("--whole-hetjob", "optional"),
]
_WORD = re.compile(r"^\s*([A-Za-z]+)(?:%(-?\d*))?\s*$")
_PAGE = 1000
# 只取要用的字段时，一行小得多。
_SLIM_PAGE = 10_000
# 选与排要用到的字段；服务器没有的条件各要的。
_ALWAYS = "array_job_id array_task_id het_job_id het_job_offset submit_time start_time end_time"
_STEP_NEEDS = "state name interactive batch_host node_list"
_ASKING_NEEDS = {
    "name": "name",
    "wckeys": "wckey",
    "reason": "reason",
    "constraints": "constraints",
    "gid": "user_name",
    "nnodes": "allocated_nodes minimum_nodes",
    "ncpus": "allocated_cpus tasks cpus_per_task",
    "timelimit_min": "time_limit",
    "timelimit_max": "time_limit",
    "state": "state",
}
_NEWER = ("Extra", "FailedNode", "WaitBreakdown")


def main(words: list[str]) -> int:
    """列出记账的行。"""
    parsed = parse_or_exit("sacct", words, OPTIONS, hint=False)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sacct [options]")
        return 0
    if "helpstate" in parsed:
        print(of.state_list())
        return 0
    if "helpformat" in parsed:
        names = [field.name for field in FIELDS.values() if field.name not in _NEWER]
        for start in range(0, len(names), 4):
            print(" ".join(f"{name:<19}" for name in names[start : start + 4]))
        return 0
    of.require_own_cluster(parsed.last("clusters", ""))
    if parsed.arguments:
        raise Fatal("Unknown arguments:", *(f" {word}" for word in parsed.arguments))
    for key in ("file", "associations", "flags"):
        if key in parsed:
            raise Fatal(f"--{key} is not supported by this system")
    if "completion" in parsed:
        raise Fatal("Slurm job completion is disabled", prefix=None)
    chosen = _fields(parsed)
    with connect() as client:
        if "batch_script" in parsed or "env_vars" in parsed:
            return _stored(client, parsed)
        whole = "json" in parsed or "yaml" in parsed
        every = whole or "duplicates" in parsed
        rows = list(_rows(client, parsed, None if every else _needs(parsed, chosen)))
    if "truncate" in parsed:
        rows = [truncated(row, *_window(parsed)) for row in rows]
    if whole:
        return _write_json(parsed, rows)
    units = _units(parsed)
    if units is not None:
        rows = [{**row, "units": units} for row in rows]
    found = lines(chosen, rows, parsed)
    if found:
        print("\n".join(found))
    return 0


def _window(parsed: Parsed) -> tuple[float | None, float]:
    """写明了的从何时到何时；-T 按它截断。"""
    start = parsed.last("starttime") or os.environ.get("SLURM_SACCT_STARTTIME")
    end = parsed.last("endtime")
    return (_time(start) if start else None), (_time(end) if end else time.time())


def _needs(parsed: Parsed, chosen: Sequence[tuple[Field, int]]) -> set[str] | None:
    """要问的字段：十万行才快；有一列不清楚时是 None，全部都问。"""
    found = set(_ALWAYS.split())
    if "allocations" not in parsed:
        found |= set(_STEP_NEEDS.split())
    for key, needs in _ASKING_NEEDS.items():
        if key in parsed:
            found |= set(needs.split())
    for field, _ in chosen:
        if field.needs is None:
            return None
        found |= set(field.needs.split())
    return found


def _units(parsed: Parsed) -> str | None:
    """--units=K…P；--noconvert 是空的；都没有是 None。"""
    if "noconvert" in parsed:
        return ""
    unit = (parsed.last("units") or "").upper()
    if unit and (len(unit) > 1 or unit not in "KMGTP"):
        print(f"sacct: error: Invalid unit type '{unit}'. Possible options are 'KMGTP'", file=sys.stderr)
        raise Fatal("Invalid unit type", prefix="fatal: ")
    return unit or None


def _write_json(parsed: Parsed, rows: list[dict[str, Any]]) -> int:
    from scns_conductor.slurm.shapes.accounting_jobs import accounting_record
    from scns_conductor.slurm.table.json_answer import asked_version, write_answer

    version = asked_version(parsed)
    steps: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("step"):
            steps.setdefault(str(row["job_id"]), []).append(row)
    jobs = (row for row in rows if not row.get("step"))
    records = (accounting_record(version, job, steps.get(str(job["job_id"]), ())) for job in jobs)
    return write_answer(parsed, "openapi_slurmdbd_jobs_resp", "jobs", records, kind="openapi/slurmdbd")


def _stored(client: JsonClient, parsed: Parsed) -> int:
    """-B 是脚本，--env-vars 是提交时的环境；只有本人与管理员看得到。"""
    for job in sorted(_jobs(client, parsed), key=_order):
        name = of.display_id(job)
        try:
            if "batch_script" in parsed:
                text, title = client.script(job["job_id"]), f"Batch Script for {name}"
            else:
                found = client.job(job["job_id"]).get("environment") or {}
                text = "\n".join(f"{key}={value}" for key, value in sorted(found.items()))
                title = f"Environment used for {name} (must be batch to display)"
        except Problem as problem:
            raise Fatal(slurm_error(problem)) from problem
        print(f"{title}\n{'-' * 80}\n{text.rstrip()}\n" if text else f"{title}\n{'-' * 80}\nNONE\n")
    return 0


def _fields(parsed: Parsed) -> list[tuple[Field, int]]:
    """列与宽度；--format 可以写几次，合在一起。"""
    texts = parsed.every("format")
    if not texts:
        default = LONG_FORMAT if "long" in parsed else BRIEF_FORMAT if "brief" in parsed else DEFAULT_FORMAT
        texts = [default if "long" in parsed or "brief" in parsed else os.environ.get("SACCT_FORMAT") or default]
    return chosen_fields(texts)


def chosen_fields(texts: Sequence[str]) -> list[tuple[Field, int]]:
    """名字[%宽]，逗号相隔；名字可以写前几个字母。"""
    found: list[tuple[Field, int]] = []
    for word in ",".join(texts).split(","):
        if not word.strip():
            continue
        if word.strip().lower() == "all":
            # Extra、FailedNode 是更新的 Slurm 才有的，WaitBreakdown 是我们自己的：认得，不列。
            found += [(field, field.width) for field in FIELDS.values() if field.name not in _NEWER]
            continue
        match = _WORD.match(word)
        name = match[1].lower() if match else word.strip().lower()
        candidates = [name] if name in FIELDS else [key for key in FIELDS if key.startswith(name)]
        if match is None or not candidates:
            raise Fatal(f'Invalid field requested: "{match[1] if match else word.strip()}"')
        field = FIELDS[candidates[0]]
        # 写了 % 而没有数的是 0：什么也不显示（同 Slurm）。
        found.append((field, field.width if match[2] is None else int((match[2].strip("-") and match[2]) or 0)))
    return found


def lines(chosen: list[tuple[Field, int]], rows: Iterable[dict[str, Any]], parsed: Parsed) -> list[str]:
    """表头与各行；-P 用 | 相隔，-p 末尾还有 |。"""
    delimiter = parsed.last("delimiter", "|") or ""
    plain = next((key for key, _ in reversed(parsed.pairs) if key in ("parsable", "parsable2")), None)
    rows = list(rows)
    columns = [list(map(field.value, rows)) for field, _ in chosen]
    if on_terminal():
        columns = [list(map(printable, cells)) for cells in columns]
    found: list[str] = []
    if plain:
        end = delimiter if plain == "parsable" else ""
        if "noheader" not in parsed:
            found.append(delimiter.join(field.name for field, _ in chosen) + end)
        return found + [delimiter.join(cells) + end for cells in zip(*columns, strict=True)]
    if "noheader" not in parsed:
        found.append("".join(_cell(field.name, width, header=True) + " " for field, width in chosen))
        found.append("".join("-" * abs(width) + " " for _, width in chosen))
    shown = [_padded(column, width) for column, (_, width) in zip(columns, chosen, strict=True)]
    return found + list(map("".join, zip(*shown, strict=True)))


def _padded(column: list[str], width: int) -> list[str]:
    """一列里相同的值很多：补齐一次就够，十万行才快。"""
    known: dict[str, str] = {}
    for text in column:
        if text not in known:
            known[text] = _cell(text, width) + " "
    return [known[text] for text in column]


def _cell(text: str, width: int, *, header: bool = False) -> str:
    """太长的截断，末尾改成 +（print_fields_str）；宽度为负是左对齐。"""
    size = abs(width)
    if not size:
        return ""
    if len(text) > size:
        text = text[:size] if header else text[: size - 1] + "+"
    return text.ljust(size) if width < 0 else text.rjust(size)


def _rows(client: JsonClient, parsed: Parsed, needs: set[str] | None) -> Iterable[dict[str, Any]]:
    jobs = sorted(_jobs(client, parsed, needs), key=_order)
    wanted = _steps(parsed)
    launched = {} if "allocations" in parsed else steps_of(client, jobs)
    if not wanted and "allocations" in parsed and "duplicates" not in parsed:
        yield from jobs
        return
    for job in jobs:
        steps = wanted.get(str(job["job_id"]), wanted.get(of.display_id(job)))
        if "duplicates" in parsed and job["restart_count"] and (steps is None or None in steps):
            yield from attempts(client, job)
        if steps is None or None in steps:
            yield job
        if "allocations" in parsed or not job.get("start_time"):
            continue
        holder = of.holder_step(job)
        if steps is None or steps & {None, holder}:
            yield {**job, "step": holder}
        for step in launched.get(str(job["job_id"]), ()):
            if steps is None or steps & {None, str(step["step_id"])}:
                yield accounting_row(job, step)


def _order(job: dict[str, Any]) -> tuple[int, int, int]:
    """按作业号；数组里按任务号，还没有启动的那一行在最后。"""
    task = job["array_task_id"]
    return int(job["array_job_id"] or job["job_id"]), 0 if task is not None else 1, task or 0


def _words(parsed: Parsed) -> list[str]:
    return [word for text in parsed.every("jobs") for word in split_list(text)]


def _steps(parsed: Parsed) -> dict[str, set[str | None]]:
    """-j 里写明了作业步的：作业号 -> 要哪些步；None 是作业自己。"""
    found: dict[str, set[str | None]] = {}
    for word in _words(parsed):
        job, dot, step = word.partition(".")
        found.setdefault(job, set()).add(step if dot else None)
    return found if any(steps != {None} for steps in found.values()) else {}


def _states(text: str | None) -> list[str] | None:
    if not text:
        return None
    found = []
    for word in text.upper().split(","):
        name = of.LONG_STATES.get(word.strip(), word.strip())
        if name in of.SHORT_STATES:
            found.append(name)
        elif name not in of.ABSENT_STATES:
            raise Fatal(f"unrecognized job state value '{word.strip().lower()}'", prefix="fatal: ")
    return found


def _time(text: str) -> float:
    try:
        return past_instant(text)
    except ValueError:
        raise Fatal(f"Invalid time specification (pos=0): {text}", prefix=None) from None


def _jobs(client: JsonClient, parsed: Parsed, needs: set[str] | None = None) -> list[dict[str, Any]]:
    """要列的作业；needs 是要用的字段，None 是全部。"""
    ids = [word.partition(".")[0] for word in _words(parsed)]
    for word in ids:
        if not re.fullmatch(r"\d+(_(\d+|\[[\d,:-]+\])|\+\d+)?", word):
            raise Fatal(f"Bad job/step specified: {word}", prefix="fatal: ")
    _check_names(client, parsed)
    filters = _filters(client, parsed)
    if needs is not None:
        filters |= {"limit": _SLIM_PAGE, "fields": ",".join(sorted(needs))}
    states = _states(parsed.last("state"))
    start = parsed.last("starttime") or os.environ.get("SLURM_SACCT_STARTTIME")
    end = parsed.last("endtime")
    since = _time(start) if start else None
    until = _time(end) if end else time.time() + 1
    bounded = end is not None
    if since is not None and since > until:
        raise Fatal(f"Start time ({instant(since)}) requested is after end time ({instant(until)}).")
    if since is not None and states and not end and not ids:
        # sacct(1) 的 -S：写了 -s 而没有 -E，是那一刻还在的。
        until, bounded = since, True
    if since is None and not ids:
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        # 写了状态而没有写 -S 的，看的是末了那一刻（sacct(1) 的 DEFAULT TIME WINDOW）。
        since = until - (1 if end is None else 0) if states else midnight.timestamp()
        if states and any(state not in of.ACTIVE for state in states):
            since = midnight.timestamp()
    if ids:
        try:
            # 数组的作业号包括它的全部任务；没有的作业号不是错误。
            found = list(client.jobs(job_id=",".join(dict.fromkeys(ids)), sort="job_id", **filters))
        except Problem as problem:
            if problem.status != 404:
                raise
            found = []
    else:
        found = _in_window(client, since or 0.0, filters)
    kept = [
        job
        for job in found
        if _within(job, since, until if bounded else None)
        and (states is None or any(_was(job, state, since or 0.0, until) for state in states))
    ]
    asked = any(key in parsed for key in _ASKING_NEEDS if key != "state")
    return [job for job in kept if _asked_for(job, parsed)] if asked else kept


def _check_names(client: JsonClient, parsed: Parsed) -> None:
    """没有的组与 QOS 是错误，不是空的表（同 Slurm）。"""
    import grp

    groups = {name for each in grp.getgrall() for name in (each.gr_name, str(each.gr_gid))}
    for name in (parsed.last("gid") or "").split(","):
        if name and name not in groups:
            raise Fatal(f"Invalid group id: {name}")
    wanted = [name for name in (parsed.last("qos") or "").split(",") if name]
    if wanted:
        known = [row["name"] for row in client.qos()]
        for name in wanted:
            if name not in known:
                print(f"sacct: error: You gave a bad qos '{name}'. Valid QOS's are {','.join(known)}", file=sys.stderr)
                raise Fatal("problem processing qos list", prefix="fatal: ")


def _was(job: dict[str, Any], state: str, since: float, until: float) -> bool:
    """那段时间里有没有过这个状态（sacct(1) 的 -s）：此刻就是，或者那时在排队、在运行。"""
    submitted, started, ended = (epoch(job[name]) for name in ("submit_time", "start_time", "end_time"))
    if job["state"] == state:
        # 结束了的，是在那段时间里结束的。
        return ended is None or since <= ended <= until
    if state == "RUNNING":
        return started is not None and started <= until and (ended is None or ended >= since)
    if state == "PENDING":
        left = started or ended
        return (submitted or 0) <= until and left is not None and left >= since and left > (submitted or 0)
    return False


_WORDS_ASKED: dict[str, Callable[[of.Job], Any]] = {
    "name": lambda job: job["name"],
    "wckeys": lambda job: job["wckey"],
    "reason": of.reason,
}


def _asked_for(job: dict[str, Any], parsed: Parsed) -> bool:
    """服务器没有的条件：--name -W -R -C -g -i --ncpus -k -K。"""
    for key, value_of in _WORDS_ASKED.items():
        if parsed.last(key) and value_of(job) not in (parsed.last(key) or "").split(","):
            return False
    if parsed.last("constraints") and (job["constraints"] or "") not in (parsed.last("constraints") or "").split(","):
        return False
    if parsed.last("gid"):
        _, gid, group = of.user_ids(job["user_name"])
        if not {gid, group} & set((parsed.last("gid") or "").split(",")):
            return False
    for key, count_of in (("nnodes", of.nodes), ("ncpus", of.cpus)):
        low, dash, high = (parsed.last(key) or "").partition("-")
        if low.isdigit() and not int(low) <= count_of(job) <= (int(high) if dash and high.isdigit() else int(low)):
            return False
    limit = of.limit_s(job)
    least, most = (_limit(parsed.last(key)) for key in ("timelimit_min", "timelimit_max"))
    if least is None and most is None:
        return True
    if most is None:
        # 只有 -k 时要正好相等（sacct(1)）。
        return limit == least
    return limit is not None and (least or 0) <= limit <= most


def _limit(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(parse_time_limit(text) or 0)
    except ValueError:
        raise Fatal(f"Invalid time limit specification: {text}", prefix="fatal: ") from None


def _in_window(client: JsonClient, since: float, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """那段时间里还在的：没有结束的，以及此后才结束的。"""
    live = list(client.jobs(state=list(of.ACTIVE), sort="job_id", **filters))
    ended = list(client.jobs(end_after=instant_text(since), sort="end_time", **filters))
    seen = {job["job_id"] for job in live}
    return live + [job for job in ended if job["job_id"] not in seen]


def _within(job: dict[str, Any], since: float | None, until: float | None) -> bool:
    """until 为 None 是到现在：没有谁在将来提交。"""
    if since is not None and job["end_time"] is not None and (epoch(job["end_time"]) or 0) < since:
        return False
    return until is None or (epoch(job["submit_time"]) or 0) <= until


def _filters(client: JsonClient, parsed: Parsed) -> dict[str, Any]:
    filters: dict[str, Any] = {"limit": _PAGE}
    for key, name in (("accounts", "account"), ("partition", "partition"), ("qos", "qos")):
        if parsed.last(key):
            filters[name] = parsed.last(key)
    if parsed.last("nodelist"):
        from scns_conductor.slurm.parse.hosts import named_hosts

        filters["node"] = ",".join(named_hosts(parsed.last("nodelist") or ""))
    users = parsed.last("user")
    if users:
        filters["user"] = ",".join(_user(word) for word in users.split(",") if word)
    elif "me" in parsed or ("allusers" not in parsed and os.geteuid() != 0 and "jobs" not in parsed):
        filters["user"] = user_name_of(client.token)
    return filters


def _user(word: str) -> str:
    import pwd

    try:
        return (pwd.getpwuid(int(word)) if word.isdigit() else pwd.getpwnam(word)).pw_name
    except KeyError:
        raise Fatal(f"Invalid user id: {word}") from None
