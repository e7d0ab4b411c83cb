"""squeue：排队与运行中的作业（squeue(1)）。"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from scns_conductor.client import Client, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm import job_values as of
from scns_conductor.slurm.columns import Column, fields, letters, table
from scns_conductor.slurm.options import Parsed, flags, option, values
from scns_conductor.slurm.queue_columns import LETTERS, NAMES
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.step_values import queue_lines
from scns_conductor.slurm.times import elapsed_s, epoch

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG_FORMAT = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
# 结束的作业还可见多久（slurm.conf 的 MinJobAge）。
MIN_JOB_AGE_S = 300
_PAGE = 10_000
OPTIONS = [
    *flags("-a --all", "-r --array", "--hide", "-h --noheader", "-l --long", "--local", "--me", "--federation"),
    *flags("--sibling", "--start", "-v --verbose", "--only-job-state", "-V --version", "--help", "--usage"),
    *flags("--array-unique", "--notme", "-P --priority", "--noconvert", "--yaml"),
    *values("-A --account --accounts", "-i --iterate", "-L --licenses --license", "-M --clusters --cluster"),
    *values("-n --name", "-o --format", "-O --Format", "-p --partition --partitions", "-q --qos"),
    *values("-R --reservation", "-S --sort", "-t --states --state", "-u --user --users", "-w --nodelist --nodes"),
    option("-j --jobs", "optional"),
    option("-s --steps", "optional"),
    option("--json", "optional"),
]
_STATE_ORDER = list(of.SHORT_STATES)


def main(words: list[str]) -> int:
    """列出作业。"""
    parsed = parse_or_exit("squeue", _job_words(words), OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: squeue [-A account] [--clusters names] [-i seconds] [--jobs=job_id] ...")
        return 0
    if parsed.arguments:
        raise Fatal(f"Unrecognized option: {parsed.arguments[0]}")
    if "clusters" in parsed:
        raise Fatal("-M/--clusters is not supported by this system")
    period_s = _seconds(parsed.last("iterate"))
    with connect() as client:
        while True:
            code = _once(client, parsed)
            if period_s is None:
                return code
            sys.stdout.flush()
            time.sleep(period_s)


def _job_words(words: Sequence[str]) -> list[str]:
    """-j 的值可以写成下一个词（squeue 自己这样处理可省略的值）。"""
    done: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        long = word.startswith("--j") and word != "--json" and "--jobs".startswith(word)
        short = (
            word.startswith("-")
            and not word.startswith("--")
            and word[-1:] in "js"
            and not set(word[1:-1]) - set("ahlrv")
        )
        if (long or short or word == "--steps") and waiting and waiting[0][:1].isdigit():
            following = waiting.pop(0)
            done.append(f"{word}={following}" if word.startswith("--") else f"{word}{following}")
        else:
            done.append(word)
    return done


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise Fatal(f"--iterate={text}")
    return float(text)


def _once(client: Client, parsed: Parsed) -> int:
    if "steps" in parsed:
        return _steps(client, parsed)
    columns = _columns(parsed)
    jobs = _jobs(client, parsed)
    if any(column.header == "PRIORITY" for column in columns):
        from scns_conductor.slurm.queue_priority import with_priorities

        jobs = with_priorities(client, jobs)
    if "json" in parsed:
        print(json.dumps({"meta": {"Slurm": {"release": "22.05.8"}}, "errors": [], "jobs": jobs}, indent=2))
        return 0
    if "array" in parsed:
        jobs = [each for job in jobs for each in _expanded(job)]
    jobs = _sorted(
        jobs, parsed.last("sort") or os.environ.get("SQUEUE_SORT") or ("S" if "start" in parsed else "P,t,-p")
    )
    if "long" in parsed and not parsed.last("format") and "noheader" not in parsed:
        print(time.strftime("%a %b %d %H:%M:%S %Y"))
    lines = table(columns, jobs, header="noheader" not in parsed)
    if lines:
        print("\n".join(lines))
    return 0


def _steps(client: Client, parsed: Parsed) -> int:
    """-s：正在运行的作业步；-s 12.0 只看这一步，-j、-u 照常。"""
    wanted = [word for text in parsed.every("steps") if text for word in text.split(",")]
    jobs = job_ids(parsed.every("jobs"))
    users = {name for text in parsed.every("user") for name in text.split(",")}
    steps = [
        step
        for step in client.steps()
        if (not wanted or step["step"] in wanted or step["job_id"] in wanted)
        and (not jobs or step["job_id"] in jobs)
        and (not users or step["user_name"] in users)
    ]
    for line in queue_lines(steps, header="noheader" not in parsed):
        print(line)
    return 0


def _columns(parsed: Parsed) -> list[Column]:
    shapes = [(key, value) for key, value in parsed.pairs if key in ("format", "Format")]
    if not shapes:
        for name, key in (("SQUEUE_FORMAT", "format"), ("SQUEUE_FORMAT2", "Format")):
            if os.environ.get(name) and "long" not in parsed and "start" not in parsed:
                shapes.append((key, os.environ[name]))
    if "only_job_state" in parsed and not shapes:
        shapes = [("format", "%.18i %.2t")]
    key, value = shapes[-1] if shapes else ("format", LONG_FORMAT if "long" in parsed else DEFAULT_FORMAT)
    if not shapes and "start" in parsed:
        value = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
    return letters("squeue", value, LETTERS) if key == "format" else fields(value, NAMES)


def _states(text: str | None) -> list[str]:
    if text is None:
        return list(of.ACTIVE)
    found: list[str] = []
    for word in text.upper().split(","):
        name = of.LONG_STATES.get(word.strip(), word.strip())
        if name == "ALL":
            return list(of.SHORT_STATES)
        if name in of.SHORT_STATES:
            found.append(name)
        elif name not in of.ABSENT_STATES:
            valid = ",".join([*of.SHORT_STATES, *sorted(of.ABSENT_STATES)])
            raise Fatal(f"Invalid job state specified: {word.strip()}", f"Valid job states include: {valid}")
    return found


def job_ids(texts: Sequence[str]) -> list[str]:
    """-j 的作业号；写错了照 Slurm 报错。方括号里的逗号不分开。"""
    found: list[str] = []
    for text in texts:
        word, depth = "", 0
        for letter in text + ",":
            depth += {"[": 1, "]": -1}.get(letter, 0)
            if letter == "," and depth <= 0:
                if word.strip():
                    found.append(word.strip())
                word = ""
            else:
                word += letter
    for word in found:
        head, _, tail = word.partition("_")
        if (
            not head.isdigit()
            or int(head) < 1
            or (tail and not tail.strip("[]").replace("-", "").replace(",", "").isdigit())
        ):
            raise Fatal(f"Invalid job id: {word}")
    return found


def _jobs(client: Client, parsed: Parsed) -> list[dict[str, Any]]:
    states = _states(parsed.last("states") or os.environ.get("SQUEUE_STATES"))
    ids = job_ids([text for text in parsed.every("jobs") if text])
    filters = _filters(client, parsed)
    recent = time.time() - MIN_JOB_AGE_S
    if ids:
        found = _by_id(client, ids, recent)
        keep = [job for job in found if job["state"] in states and _matches(job, filters)]
        return keep
    found = []
    active = [state for state in states if state in of.ACTIVE]
    if active:
        found += client.jobs(state=active, sort="job_id", limit=_PAGE, **filters)
    ended = [state for state in states if state not in of.ACTIVE]
    if ended:
        found += client.jobs(state=ended, sort="job_id", end_after=str(int(recent)), limit=_PAGE, **filters)
    if "notme" in parsed:
        me = user_name_of(client.token)
        found = [job for job in found if job["user_name"] != me]
    return found


def _filters(client: Client, parsed: Parsed) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for key, name in (("account", "account"), ("partition", "partition"), ("name", "name"), ("qos", "qos")):
        text = parsed.last(key) or os.environ.get(f"SQUEUE_{key.upper()}")
        if text and text.lower() != "all":
            filters[name] = text
    users = parsed.last("user") or os.environ.get("SQUEUE_USERS")
    if users:
        filters["user"] = ",".join(_user(word) for word in users.split(",") if word)
    if "me" in parsed:
        filters["user"] = user_name_of(client.token)
    hosts = parsed.last("nodelist")
    if hosts:
        from scns_conductor.core.hostlist import expand

        try:
            filters["node"] = ",".join(expand(hosts))
        except ValueError:
            raise Fatal(f"Invalid node name {hosts}") from None
    return filters


def _user(word: str) -> str:
    import pwd

    if not word.isdigit():
        try:
            pwd.getpwnam(word)
        except KeyError:
            # 照 Slurm：说一句，仍以 0 退出。节点上的用户这里不一定有，所以照样去问。
            print(f"squeue: error: Invalid user: {word}", file=sys.stderr)
        return word
    try:
        return pwd.getpwuid(int(word)).pw_name
    except KeyError:
        raise Fatal(f"Invalid user: {word}") from None


def _by_id(client: Client, ids: Sequence[str], recent: float) -> list[dict[str, Any]]:
    """只问一个而没有（或早已结束）是错误；问几个（含同一个两次）就不是。"""
    unique = list(dict.fromkeys(ids))
    try:
        found = list(client.jobs(job_id=",".join(unique), sort="job_id"))
    except Problem as problem:
        if problem.code != "job_not_found":
            raise
        found = []
    visible = [job for job in found if not job["end_time"] or (epoch(job["end_time"]) or 0) >= recent]
    if not visible and len(ids) == 1:
        raise Fatal("slurm_load_jobs error: Invalid job id specified", prefix=None)
    return visible


def _matches(job: dict[str, Any], filters: dict[str, Any]) -> bool:
    for key, column in (("user", "user_name"), ("account", "account"), ("name", "name"), ("qos", "qos")):
        if key in filters and str(job[column]) not in filters[key].split(","):
            return False
    if "partition" in filters and not set(job["partition"].split(",")) & set(filters["partition"].split(",")):
        return False
    if "node" in filters:
        from scns_conductor.core.hostlist import expand

        return bool(set(expand(job["node_list"] or "")) & set(filters["node"].split(",")))
    return True


def _expanded(job: dict[str, Any]) -> list[dict[str, Any]]:
    """-r：数组每个任务一行。"""
    if not of.is_array_rest(job) or not job["array_remaining"]:
        return [job]
    from scns_conductor.core.array_spec import parse_array

    ranges = parse_array(job["array_remaining"], max_tasks=10_000_000).ranges
    return [{**job, "array_task_id": task} for span in ranges for task in range(span.lower, span.upper)]


def _sorted(jobs: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """-S 的各个字母，前面的为主；相同时按作业号。"""
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "t": lambda job: _STATE_ORDER.index(job["state"]),
        "T": lambda job: _STATE_ORDER.index(job["state"]),
        "p": of.priority,
        "Q": of.priority,
        "i": lambda job: (int(job["array_job_id"] or job["job_id"]), job["array_task_id"] or 0),
        "A": lambda job: int(job["job_id"]),
        "M": elapsed_s,
        "l": lambda job: of.limit_s(job) or float("inf"),
        "C": of.cpus,
        "D": of.nodes,
        "S": lambda job: epoch(job["start_time"] or job["expected_start_time"]) or float("inf"),
        "e": lambda job: epoch(job["end_time"]) or float("inf"),
        "V": lambda job: epoch(job["submit_time"]) or 0.0,
        "m": lambda job: job["memory_per_node"] or job["memory_per_cpu"] or 0,
    }
    jobs = sorted(jobs, key=lambda job: int(job["job_id"]))
    for word in reversed([word for word in order.split(",") if word]):
        letter = word.lstrip("+-")
        if letter not in LETTERS:
            raise Fatal(f"Invalid sort specification: {letter}")
        jobs.sort(key=keys.get(letter, LETTERS[letter][1]), reverse=word.startswith("-"))
    return jobs
