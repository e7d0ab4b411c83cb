"""sacct：作业的账（sacct(1)）；数据库里的每个作业都在，不论结束多久。"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scns_conductor.client import Client, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm import job_values as of
from scns_conductor.slurm.account_columns import CANONICAL, FIELDS
from scns_conductor.slurm.columns import Row
from scns_conductor.slurm.hosts import split_list
from scns_conductor.slurm.options import Parsed, flags, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit

DEFAULT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
BRIEF = "JobID,State,ExitCode"
LONG = "JobID,JobIDRaw,JobName,Partition,MaxRSS,AveRSS,NTasks,AllocCPUS,Elapsed,State,ExitCode,ReqMem,ReqTRES,AllocTRES"
OPTIONS = [
    *flags("-a --allusers", "-b --brief", "-c --completion", "-D --duplicates", "-e --helpformat", "-h --help"),
    *flags("-l --long", "-L --allclusters", "-n --noheader", "-p --parsable", "-P --parsable2", "-T --truncate"),
    *flags("-v --verbose", "-V --version", "-X --allocations", "--noconvert", "--usage", "--local"),
    *values("-A --accounts --account", "-E --endtime", "-j --jobs", "-M --clusters", "-N --nodelist", "--name"),
    *values("-o --format", "-q --qos", "-r --partition", "-s --state", "-S --starttime", "-u --uid --user"),
    *values("--delimiter", "--units"),
    option("--json", "optional"),
]
_FIELD = re.compile(r"^([A-Za-z_]+)(?:%(-?\d+))?$")
_STEP = re.compile(r"^(\d+(?:_(?:\d+|\[[\d,-]+\]))?)(?:\.(\w+))?$")


@dataclass(frozen=True, slots=True)
class AccountColumn:
    """一列：名字与宽度，负的靠左。"""

    name: str
    width: int

    def show(self, text: str) -> str:
        """补齐；太长的截断，末尾是 +。"""
        size = abs(self.width)
        if len(text) > size:
            text = text[: size - 1] + "+"
        return text.ljust(size) if self.width < 0 else text.rjust(size)


def main(words: list[str]) -> int:
    """列出账目。"""
    parsed = parse_or_exit("sacct", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sacct [<OPTION>]\n    Valid <OPTION> values are: see sacct(1)")
        return 0
    if "helpformat" in parsed:
        names = sorted(FIELDS, key=str.lower)
        for start in range(0, len(names), 4):
            print(" ".join(name.ljust(19) for name in names[start : start + 4]).rstrip())
        return 0
    for key in ("clusters", "completion"):
        if key in parsed:
            raise Fatal(f"--{key} is not supported by this system")
    columns = _columns(parsed)
    with connect() as client:
        rows = _rows(client, parsed)
    if "json" in parsed:
        import json

        print(json.dumps({"meta": {}, "errors": [], "jobs": rows}, indent=2))
        return 0
    for line in _lines(columns, rows, parsed):
        print(line)
    return 0


def _columns(parsed: Parsed) -> list[AccountColumn]:
    given = parsed.every("format") or [os.environ.get("SACCT_FORMAT") or ""]
    if "long" in parsed and not parsed.every("format"):
        given = [LONG]
    if "brief" in parsed and not parsed.every("format"):
        given = [BRIEF]
    found: list[AccountColumn] = []
    for word in ",".join(given).split(",") if any(given) else DEFAULT.split(","):
        if not word.strip():
            continue
        match = _FIELD.match(word.strip())
        name = CANONICAL.get(match[1].lower()) if match else None
        if match is not None and name is None:
            # 唯一的前缀也认（sacct 的 strncasecmp）：取表里的第一个。
            name = next((full for low, full in sorted(CANONICAL.items()) if low.startswith(match[1].lower())), None)
        if match is None or name is None:
            raise Fatal(f'Invalid field requested: "{word.strip()}"')
        found.append(AccountColumn(name, int(match[2]) if match[2] else FIELDS[name][0]))
    return found


def _lines(columns: Sequence[AccountColumn], rows: Sequence[Row], parsed: Parsed) -> list[str]:
    cells = [[FIELDS[column.name][1](row) for column in columns] for row in rows]
    heads = [] if "noheader" in parsed else [[column.name for column in columns]]
    if "parsable" in parsed or "parsable2" in parsed:
        mark = parsed.last("delimiter") or "|"
        tail = "" if "parsable2" in parsed else mark
        return [mark.join(line) + tail for line in [*heads, *cells]]
    rules = [["-" * abs(column.width) for column in columns]] if heads else []

    def padded(line: list[str]) -> str:
        return " ".join(column.show(text) for column, text in zip(columns, line, strict=True)) + " "

    return [padded(line) for line in [*heads, *rules, *cells]]


def _rows(client: Client, parsed: Parsed) -> list[dict[str, Any]]:
    filters: dict[str, Any] = {}
    for key, name in (("accounts", "account"), ("name", "name"), ("partition", "partition"), ("qos", "qos")):
        if parsed.last(key):
            filters[name] = parsed.last(key)
    if parsed.last("nodelist"):
        from scns_conductor.core.hostlist import expand

        filters["node"] = ",".join(expand(parsed.last("nodelist") or ""))
    ids = _ids(parsed)
    if parsed.last("uid"):
        filters["user"] = ",".join(_user(word) for word in (parsed.last("uid") or "").split(",") if word)
    elif not ids and "allusers" not in parsed and os.geteuid() != 0:
        filters["user"] = user_name_of(client.token)
    states = _states(parsed.last("state"))
    steps: dict[str, set[str]] = {}
    if ids:
        for job, step in ids:
            if step:
                steps.setdefault(job, set()).add(step)
        filters["job_id"] = ",".join(dict.fromkeys(job for job, _ in ids))
    since = parsed.last("starttime")
    if since is None and not ids:
        today = time.localtime()
        since = time.strftime("%Y-%m-%dT00:00:00", today)
    try:
        jobs = list(client.jobs(sort="job_id", **filters))
    except Problem as problem:
        if problem.code != "job_not_found":
            raise
        jobs = []
    jobs = _in_window(jobs, since, parsed.last("endtime"))
    if states:
        jobs = [job for job in jobs if job["state"] in states]
    jobs.sort(key=lambda job: (int(job["array_job_id"] or job["job_id"]), _task_order(job)))
    rows: list[dict[str, Any]] = []
    for job in jobs:
        wanted = steps.get(of.display_id(job)) or steps.get(str(job["job_id"]))
        if not wanted:
            rows.append(job)
        if "allocations" not in parsed and job.get("start_time") and not job.get("interactive"):
            batch = {**job, "step": "batch"}
            if not wanted or "batch" in wanted:
                rows.append(batch)
    return rows


def _task_order(job: dict[str, Any]) -> float:
    # 还没有启动的一批排在最后，同 sacct 的 12_[4-9]。
    task = job["array_task_id"]
    return float("inf") if task is None else float(task)


def _in_window(jobs: list[dict[str, Any]], since: str | None, until: str | None) -> list[dict[str, Any]]:
    """窗口之内曾经有效的作业：结束不早于起点，提交不晚于终点。"""
    from datetime import UTC, datetime

    from scns_conductor.core.instants import parse_instant
    from scns_conductor.slurm.times import epoch

    now = datetime.now(UTC).astimezone()
    try:
        low = parse_instant(since, now).timestamp() if since else None
        high = parse_instant(until, now).timestamp() if until else None
    except ValueError:
        raise Fatal(f"Invalid time specification (pos=0): {since} {until}") from None
    return [
        job
        for job in jobs
        if (low is None or (epoch(job["end_time"]) or now.timestamp()) >= low)
        and (high is None or (epoch(job["submit_time"]) or 0) <= high)
    ]


def _ids(parsed: Parsed) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for text in parsed.every("jobs"):
        for word in split_list(text):
            match = _STEP.match(word)
            if match is None:
                raise Fatal(f"Bad job/step specified: {word}")
            found.append((match[1], match[2]))
    return found


def _states(text: str | None) -> set[str]:
    found: set[str] = set()
    for word in (text or "").upper().split(","):
        name = of.LONG_STATES.get(word.strip(), word.strip())
        if name and name not in of.SHORT_STATES and name not in of.ABSENT_STATES:
            raise Fatal(f"Unknown state: {word.strip()}")
        if name:
            found.add(name)
    return found


def _user(word: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(int(word)).pw_name if word.isdigit() else word
    except KeyError:
        raise Fatal(f"Invalid user id: {word}") from None
