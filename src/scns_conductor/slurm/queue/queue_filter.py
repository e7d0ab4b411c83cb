"""squeue 要列哪些作业：-j -t -u -p -A -q -n -w -R -L 与相应的环境变量。"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columnar import Columnar, Row, once
from scns_conductor.slurm.table.times import epoch, instant_text

_PAGE = 10_000
# 选与排要用到的字段。
_ALWAYS = frozenset(
    {"state", "user_name", "partition", "array_job_id", "array_task_id", "hold", "priority", "het_job_id",
     "het_job_offset"}
)  # fmt: skip
# 次序同 Slurm 的提示。
_VALID_STATES = (
    "PENDING,RUNNING,SUSPENDED,COMPLETED,CANCELLED,FAILED,TIMEOUT,NODE_FAIL,PREEMPTED,BOOT_FAIL,DEADLINE,"
    "OUT_OF_MEMORY,COMPLETING,CONFIGURING,RESIZING,RESV_DEL_HOLD,REQUEUED,REQUEUE_FED,REQUEUE_HOLD,REVOKED,"
    "SIGNALING,SPECIAL_EXIT,STAGE_OUT,STOPPED"
)


def wanted_states(text: str | None) -> list[str]:
    if text is None:
        return list(of.ACTIVE)
    found: list[str] = []
    for word in text.split(","):
        name = word.strip().upper()
        name = of.LONG_STATES.get(name, name)
        if name == "ALL":
            return list(of.SHORT_STATES)
        if name in of.SHORT_STATES or name in of.SHOWN_AS:
            found.append(name)
        elif name not in of.ABSENT_STATES:
            # 行末的换行与 Slurm 相同。
            raise Fatal(f"Invalid job state specified: {word.strip()}", f"Valid job states include: {_VALID_STATES}\n")
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
    # 写了作业步的（12.0）看的是作业。
    found = [word.partition(".")[0] for word in found]
    for word in found:
        head, _, tail = word.partition("_")
        head, plus, component = head.partition("+")
        if (plus and not component.isdigit()) or (
            not head.isdigit()
            or int(head) < 1
            or (tail and not tail.strip("[]").replace("-", "").replace(",", "").isdigit())
        ):
            raise Fatal(f"Invalid job id: {word}")
    return found


def _shown_so(
    client: JsonClient, parsed: Parsed, needs: Iterable[str] | None, states: list[str]
) -> list[dict[str, Any]]:
    """-t CF、SE：服务器那里是 RUNNING、PENDING 的一种，取来再挑。"""
    wider = ",".join(sorted({of.SHOWN_AS.get(state, state) for state in states}))
    asked = Parsed([*parsed.pairs, ("states", wider)], parsed.arguments)
    found = chosen_jobs(client, asked, None if needs is None else {*needs, "configuring"})
    return [job for job in found if job["state"] in states or of.state(job) in states]


def chosen_jobs(client: JsonClient, parsed: Parsed, needs: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """要列的作业；needs 是要显示的字段（None 是全部），只取这些，十万行才快。"""
    states = wanted_states(parsed.last("states") or os.environ.get("SQUEUE_STATES"))
    if of.SHOWN_AS.keys() & states:
        return _shown_so(client, parsed, needs, states)
    if "start" in parsed:
        states = [state for state in states if state == "PENDING"]
    ids = job_ids([text for text in parsed.every("jobs") if text])
    filters = _filters(client, parsed)
    if ids:
        found = _by_id(client, ids)
        return _narrowed([job for job in found if job["state"] in states and _matches(job, filters)], parsed)
    answers = [job for asked in _asked(client, states, filters, needs) for job in client.jobs(**asked)]
    found = list(once(answers, "job_id"))
    if "notme" in parsed:
        me = user_name_of(client)
        found = [job for job in found if job["user_name"] != me]
    return _narrowed(found, parsed)


def job_columns(client: JsonClient, parsed: Parsed, needs: Iterable[str]) -> Sequence[Row] | None:
    """同 chosen_jobs，一列一列地（十万行时快一倍）；要逐个看的条件（-j、-R、-L、--notme……）办不了，是 None。"""
    states = wanted_states(parsed.last("states") or os.environ.get("SQUEUE_STATES"))
    looks_at_each = "notme" in parsed or any(parsed.last(key) for key in ("jobs", "reservation", "licenses"))
    if looks_at_each or of.SHOWN_AS.keys() & states:
        return None
    if "start" in parsed:
        states = [state for state in states if state == "PENDING"]
    asked = _asked(client, states, _filters(client, parsed), needs)
    return once(Columnar.gathered(page for each in asked for page in client.job_columns(**each)), "job_id")


def _asked(
    client: JsonClient, states: Sequence[str], filters: dict[str, Any], needs: Iterable[str] | None
) -> Iterator[dict[str, Any]]:
    """问 API 的几次：活着的，刚结束的；needs 是要哪些字段，None 是全部。"""
    fields = None if needs is None else ",".join(sorted({*needs, *_ALWAYS} - {"job_id"}))
    shared = filters | {"sort": "job_id", "limit": _PAGE, "fields": fields}
    active = [state for state in states if state in of.ACTIVE]
    if active:
        yield shared | {"state": active}
    ended = [state for state in states if state not in of.ACTIVE]
    if ended:
        yield shared | {"state": ended, "end_after": instant_text(_recent(client))}


def _narrowed(jobs: list[dict[str, Any]], parsed: Parsed) -> list[dict[str, Any]]:
    """-R 与 -L：服务器没有这两个条件。"""
    reservation, licenses = parsed.last("reservation"), parsed.last("licenses")
    if reservation:
        jobs = [job for job in jobs if job["reservation"] == reservation]
    if licenses:
        names = set(licenses.split(","))
        jobs = [job for job in jobs if names & {one.partition(":")[0] for one in (job["licenses"] or "").split(",")}]
    return jobs


def _filters(client: JsonClient, parsed: Parsed) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    for key, name in (("account", "account"), ("partition", "partition"), ("name", "name"), ("qos", "qos")):
        text = parsed.last(key) or os.environ.get("SQUEUE_NAMES" if key == "name" else f"SQUEUE_{key.upper()}")
        if text and text.lower() != "all":
            filters[name] = text
    users = parsed.last("user") or os.environ.get("SQUEUE_USERS")
    if users:
        filters["user"] = ",".join(_user(word) for word in users.split(",") if word)
    if "me" in parsed:
        filters["user"] = user_name_of(client)
    hosts = parsed.last("nodelist")
    if hosts:
        from scns_conductor.core.hostlist import expand

        try:
            names = expand(hosts)
        except ValueError:
            raise Fatal(f"Invalid node name {hosts}") from None
        known = {node["name"] for node in client.nodes()}
        for name in names:
            if name not in known:
                raise Fatal(f"Invalid node name {name}")
        filters["node"] = ",".join(names)
    return filters


def _user(word: str) -> str:
    import pwd

    if not word.isdigit():
        try:
            pwd.getpwnam(word)
        except KeyError:
            # 照 Slurm：说一句，仍以 0 退出。节点上的用户这里不一定有，所以照样去问。
            print(f"squeue: error: Invalid user: {word}\n", file=sys.stderr)
        return word
    try:
        return pwd.getpwuid(int(word)).pw_name
    except KeyError:
        print(f"squeue: error: Invalid user: {word}\n", file=sys.stderr)
        return word


def _recent(client: JsonClient) -> float:
    """此刻之前 SCNS_MIN_JOB_AGE_S 秒（slurm.conf 的 MinJobAge）：更早结束的不再可见。"""
    return time.time() - float(client.config()["min_job_age_s"])


def _by_id(client: JsonClient, ids: Sequence[str]) -> list[dict[str, Any]]:
    """只问一个而没有（或早已结束）是错误；问几个（含同一个两次）就不是。"""
    unique = list(dict.fromkeys(ids))
    try:
        found = list(client.jobs(job_id=",".join(unique), sort="job_id"))
    except Problem as problem:
        if problem.code != "job_not_found":
            raise
        found = []
    visible = found
    if any(job["end_time"] for job in found):
        recent = _recent(client)
        visible = [job for job in found if not job["end_time"] or (epoch(job["end_time"]) or 0) >= recent]
    if not visible and len(ids) == 1 and "_" not in ids[0]:
        raise Fatal("slurm_load_jobs error: Invalid job id specified", prefix=None)
    return [each for job in visible for each in asked_tasks(job, unique)]


def asked_tasks(job: dict[str, Any], ids: Sequence[str]) -> list[dict[str, Any]]:
    """问的是 12_3 而它还没有启动：只列这几个任务，不列那一行里的其余。"""
    from scns_conductor.core.array_spec import MAX_TASK_ID, TaskRange, intersection, parse_array, union

    array = str(job["array_job_id"])
    if not of.is_array_rest(job) or not job["array_remaining"] or {array, str(job["job_id"])} & set(ids):
        return [job]
    left = parse_array(job["array_remaining"], max_tasks=MAX_TASK_ID)
    slots: tuple[TaskRange, ...] = ()
    for word in ids:
        head, _, text = word.partition("_")
        if head == array:
            slots = union(slots, left.stride.slots(parse_array(text.strip("[]")).ids))
    return [
        {**job, "array_task_id": left.stride.task_id(slot)}
        for span in intersection(left.ranges, slots)
        for slot in range(span.lower, span.upper)
    ]


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
