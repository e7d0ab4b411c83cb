"""sacct 看哪些作业：作业号、时间窗、状态与别的条件。"""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from scns_conductor.client import JsonClient, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.core.units import parse_time_limit
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columnar import Columnar, R, Row, column, once, ordered
from scns_conductor.slurm.table.times import epoch, instant, instant_text, past_instant

_PAGE = 1000
# 只取要用的字段时，一行小得多。
_SLIM_PAGE = 10_000
ASKING_NEEDS = {
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


def _in_order(rows: Sequence[R]) -> Sequence[R]:
    """按作业号；数组里按任务号，还没有启动的那一行在最后。"""
    places = list(map(_place, *(column(rows, name) for name in ("job_id", "array_job_id", "array_task_id"))))
    return ordered(rows, sorted(range(len(rows)), key=places.__getitem__))


def _place(job_id: Any, array_job_id: Any, task: int | None) -> tuple[int, int, int]:
    return int(array_job_id or job_id), 0 if task is not None else 1, task or 0


def _words(parsed: Parsed) -> list[str]:
    return [word for text in parsed.every("jobs") for word in split_list(text)]


def asked_steps(parsed: Parsed) -> dict[str, set[str | None]]:
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


def moment(text: str) -> float:
    """sacct 的时刻 -> Unix 秒；写错了抛 Fatal。"""
    try:
        return past_instant(text)
    except ValueError:
        raise Fatal(f"Invalid time specification (pos=0): {text}", prefix=None) from None


class _Window(NamedTuple):
    """看哪一段时间（Unix 秒）、哪些状态。

    since 为 None 是不看何时结束的；bounded 为假是到现在；states 为 None 是全部。
    """

    since: float | None
    until: float
    bounded: bool
    states: list[str] | None


def _window(parsed: Parsed, *, by_id: bool) -> _Window:
    states = _states(parsed.last("state"))
    start = parsed.last("starttime") or os.environ.get("SLURM_SACCT_STARTTIME")
    end = parsed.last("endtime")
    since = moment(start) if start else None
    until = moment(end) if end else time.time() + 1
    bounded = end is not None
    if since is not None and since > until:
        raise Fatal(f"Start time ({instant(since)}) requested is after end time ({instant(until)}).")
    if since is not None and states and not end and not by_id:
        # sacct(1) 的 -S：写了 -s 而没有 -E，是那一刻还在的。
        until, bounded = since, True
    if since is None and not by_id:
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        # 写了状态而没有写 -S 的，看的是末了那一刻（sacct(1) 的 DEFAULT TIME WINDOW）。
        since = until - (1 if end is None else 0) if states else midnight.timestamp()
        if states and any(state not in of.ACTIVE for state in states):
            since = midnight.timestamp()
    return _Window(since, until, bounded, states)


def chosen_jobs(client: JsonClient, parsed: Parsed, needs: set[str] | None = None) -> list[dict[str, Any]]:
    """要列的作业；needs 是要用的字段，None 是全部。"""
    ids = [word.partition(".")[0] for word in _words(parsed)]
    for word in ids:
        if not re.fullmatch(r"\d+(_(\d+|\[[\d,:-]+\])|\+\d+)?", word):
            raise Fatal(f"Bad job/step specified: {word}", prefix="fatal: ")
    whole = _whole(parsed)
    if whole:
        ids = [word.partition("+")[0] for word in ids]
    _check_names(client, parsed)
    filters = _filters(client, parsed, needs)
    since, until, bounded, states = _window(parsed, by_id=bool(ids))
    if ids:
        try:
            # 数组的作业号包括它的全部任务；没有的作业号不是错误。
            found = list(client.jobs(job_id=",".join(dict.fromkeys(ids)), sort="job_id", **filters))
        except Problem as problem:
            if problem.status != 404:
                raise
            found = []
    else:
        answers = [job for asked in _asked(since or 0.0, filters) for job in client.jobs(**asked)]
        found = list(once(answers, "job_id"))
    kept = [
        job
        for job in found
        if _within(job, since, until if bounded else None)
        and (states is None or any(_was(job, state, since or 0.0, until) for state in states))
    ]
    if whole is False and ids:
        kept = [job for job in kept if not job["het_job_offset"] or of.display_id(job) in ids]
    asked = any(key in parsed for key in ASKING_NEEDS if key != "state")
    return list(_in_order([job for job in kept if _asked_for(job, parsed)] if asked else kept))


def job_columns(client: JsonClient, parsed: Parsed, needs: set[str]) -> Sequence[Row] | None:
    """同 chosen_jobs，一列一列地：十万行时少用三分之一的 CPU。

    要逐个看的条件（-j、-s、-E、--name……）办不了，是 None。
    """
    if any(parsed.last(key) is not None for key in ("jobs", "endtime", "whole_hetjob", *ASKING_NEEDS)):
        return None
    _check_names(client, parsed)
    since, _, _, _ = _window(parsed, by_id=False)
    asked = _asked(since or 0.0, _filters(client, parsed, needs))
    return _in_order(once(Columnar.gathered(page for each in asked for page in client.job_columns(**each)), "job_id"))


def _whole(parsed: Parsed) -> bool | None:
    """--whole-hetjob[=yes|no]：写了一个部分也列整个异构作业，或写了整个的号也只列第 0 个部分；没有写是 None。"""
    text = parsed.last("whole_hetjob")
    if text is None:
        return None
    if text.lower() not in ("", "yes", "no"):
        raise Fatal(f"Invalid --whole-hetjob specification: {text}", prefix="fatal: ")
    return text.lower() != "no"


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


def _asked(since: float, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """那段时间里还在的，问两次：没有结束的，以及此后才结束的（精确到秒）。"""
    return [
        filters | {"state": list(of.ACTIVE), "sort": "job_id"},
        filters | {"end_after": instant_text(since), "sort": "end_time"},
    ]


def _within(job: dict[str, Any], since: float | None, until: float | None) -> bool:
    """until 为 None 是到现在：没有谁在将来提交。"""
    if since is not None and job["end_time"] is not None and (epoch(job["end_time"]) or 0) < since:
        return False
    return until is None or (epoch(job["submit_time"]) or 0) <= until


def _filters(client: JsonClient, parsed: Parsed, needs: set[str] | None) -> dict[str, Any]:
    filters: dict[str, Any] = {"limit": _PAGE}
    if needs is not None:
        filters = {"limit": _SLIM_PAGE, "fields": ",".join(sorted(needs))}
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
        filters["user"] = user_name_of(client)
    return filters


def _user(word: str) -> str:
    import pwd

    try:
        return (pwd.getpwuid(int(word)) if word.isdigit() else pwd.getpwnam(word)).pw_name
    except KeyError:
        raise Fatal(f"Invalid user id: {word}") from None
