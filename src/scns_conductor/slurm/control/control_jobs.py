"""scontrol 对作业与作业步做的：保留、放行、重排、挂起、修改、取脚本、等到开始。"""

import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, ControlAction, JsonClient, Problem
from scns_conductor.slurm.control.control_changes import Relative, job_changes, step_changes
from scns_conductor.slurm.control.control_nodes import slurm_call
from scns_conductor.slurm.error_words import slurm_words
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.keywords import full_key
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal, connect, slurm_error

_MAX_WAIT_S = 2.0
# 号里有它的是数组的任务。
_TASK = "_"


def _jobs(
    words: Sequence[str], what: str, action: ControlAction, conditions: dict[str, str] | None = None, **options: Any
) -> int:
    """一批作业一个请求；写的是作业名时，是叫这个名字的全部作业。逐个报错误，其余照做。

    写了 conditions 的只管其中符合的；一个也没有不算错误。
    """
    given = [job for word in words for job in split_list(word.partition("=")[2] or word)]
    if not given:
        raise Fatal(f"too few arguments for keyword:{what}", prefix=None)
    numbers = [text for text in given if text[:1].isdigit()]
    last, whole = "", False
    with connect() as client:
        errors: dict[str, ClientError] = {}
        if numbers:
            errors |= client.control(action, numbers, conditions, **options)[1]
        for name in [text for text in given if text not in numbers]:
            # 名字里可以有逗号：按整个名字找。
            done, refused = client.control(action, conditions={"name": name, **(conditions or {})}, **options)
            errors |= refused
            if not done and not refused and not conditions:
                errors[name] = _named_elsewhere(client, name)
        for job_id, error in errors.items():
            if what in ("suspend", "resume"):
                error = _still_pending(client, job_id, error)
            last = slurm_error(error)
            print(_told_of(job_id, last), file=sys.stderr)
            whole = whole or _TASK not in job_id
    if last and whole and what in ("hold", "release"):
        print(f"slurm_suspend error: {last}", file=sys.stderr)
    return 1 if last else 0


def _told_of(job_id: str, why: str) -> str:
    """一个作业的错误；数组的任务 Slurm 先写号。"""
    return f"{job_id}: {why}" if _TASK in job_id else f"{why} for job {job_id}"


def _named_elsewhere(client: JsonClient, name: str) -> Problem:
    """叫这个名字的作业没有一个在该在的状态里：有没有这样的作业，话不同。"""
    found = next(iter(client.jobs(name=name, state="PENDING,RUNNING,SUSPENDED", most=1)), None)
    return Problem(409, "job_not_pending", name) if found else Problem(404, "job_not_found", name)


def _by_name(client: JsonClient, text: str, user: str | None = None) -> list[str]:
    """作业号；写的是作业名时，是叫这个名字的（user 的）全部作业。"""
    if text[:1].isdigit():
        return [text]
    found = client.jobs(name=text, user=user, state="PENDING,RUNNING,SUSPENDED", fields="job_id")
    return [str(job["job_id"]) for job in found] or [text]


def hold(_parsed: Parsed, words: list[str]) -> int:
    """scontrol hold：排队的保留。"""
    return _jobs(words, "hold", "hold")


def release(_parsed: Parsed, words: list[str]) -> int:
    """scontrol release：放行。"""
    return _jobs(words, "release", "release")


def requeue(_parsed: Parsed, words: list[str]) -> int:
    """scontrol requeue [Incomplete]：重新排队。"""
    _outlive_own_job()
    return _requeue(words, "requeue")


def _outlive_own_job() -> None:
    """作业里请求重排自己：结束这次尝试的 SIGTERM 可能比回答先到，作业就以为没有成（submitit 的检查点）。"""
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def requeue_hold(_parsed: Parsed, words: list[str]) -> int:
    """scontrol requeuehold [Incomplete] [State=SpecialExit]：重新排队，并保留。"""
    _outlive_own_job()
    return _requeue(words, "requeuehold", hold=True)


def _requeue(words: Sequence[str], what: str, *, hold: bool = False) -> int:
    """前面的词：Incomplete 只管没有结束的；State=SpecialExit 另是一种保留。"""
    flags, words = set(), list(words)
    while words and (word := words[0].lower().removeprefix("state=")) in ("incomplete", "specialexit"):
        flags.add(word)
        words.pop(0)
    conditions = {"state": "RUNNING,SUSPENDED"} if "incomplete" in flags else None
    special = {"special_exit": True} if hold and "specialexit" in flags else {}
    return _jobs(words, what, "requeue", conditions, hold=hold, **special)


def _still_pending(client: JsonClient, job: str, error: ClientError) -> ClientError:
    """挂起与恢复：排队的作业 Slurm 有另一句话。"""
    known = isinstance(error, Problem) and error.code in ("job_not_running", "job_not_suspended")
    if known and client.query(job)["state"] == "PENDING":
        return Problem(409, "job_pending", str(error))
    return error


def suspend(_parsed: Parsed, words: list[str]) -> int:
    """scontrol suspend：挂起。"""
    return _jobs(words, "suspend", "suspend")


def resume(_parsed: Parsed, words: list[str]) -> int:
    """scontrol resume：恢复。"""
    return _jobs(words, "resume", "resume")


def update_step(target: str, given: dict[str, str]) -> int:
    """update StepId=12.0 TimeLimit=5；只写作业号的是它正在运行的各步。"""
    changes = step_changes(given)
    job_id, dot, step = target.partition(".")
    if dot and not step.isdecimal():
        raise Fatal("Invalid step id specified", prefix=None)
    with connect() as client:
        steps = [int(step)] if dot else [each["step_id"] for each in client.steps([job_id]) if not each["end_time"]]
        if not steps:
            raise Fatal("slurm_update error: Invalid job id specified", prefix=None)
        for number in steps:
            slurm_call("slurm_update error", partial(client.update_step, job_id, number, **changes))
    return 0


def update_job(target: str, given: dict[str, str]) -> int:
    """改这些作业；作业号可以用逗号相连。数组里改不了的任务（已经启动）各报一行，其余照改。"""
    return _update(lambda client: [each for text in split_list(target) for each in _by_name(client, text)], given)


def update_named(name: str, given: dict[str, str]) -> int:
    """没有写作业号而写了 JobName 的：改叫这个名字的全部作业；写了 UserId（名字或号）的只是他的（scontrol(1)）。"""
    key = next((key for key in given if full_key(key, ["userid"], least=4)), None)
    user = None if key is None else given.pop(key)
    if user is not None and user.isdigit():
        try:
            user = pwd.getpwuid(int(user)).pw_name
        except KeyError:
            raise Fatal(f"Invalid user id: {user}", prefix=None) from None
    return _update(lambda client: _by_name(client, name, user), given)


def _update(find: Callable[[JsonClient], list[str]], given: dict[str, str]) -> int:
    changes = job_changes(given)
    with connect() as client:
        job_ids = find(client)
        relative = isinstance(changes.get("time_limit"), Relative)
        resizes = bool({"nodes", "required_nodes"} & changes.keys())
        if len(job_ids) > 1 and not relative and not resizes:
            done, refused = client.update_many(job_ids, changes)
            return max(_say_refused(refused), _say_skipped(done))
        code = 0
        for job_id in job_ids:
            try:
                answer = client.update(job_id, _made(client, job_id, changes))
            except ClientError as error:
                code = max(code, _say_refused({job_id: error}))
                continue
            code = max(code, _say_skipped([answer]))
            if answer["state"] == "RUNNING" and resizes:
                _write_resize_scripts(client.job(job_id))
    return code


def _say_refused(errors: Mapping[str, ClientError]) -> int:
    for job_id, error in errors.items():
        print(_told_of(job_id, _update_refused(error)), file=sys.stderr)
    return int(bool(errors))


def _say_skipped(answers: Sequence[Mapping[str, Any]]) -> int:
    tasks = [task for answer in answers for task in answer.get("skipped") or ()]
    for task in tasks:
        print(f"{task}: {slurm_words('job_not_pending')}", file=sys.stderr)
    return int(bool(tasks))


def _write_resize_scripts(job: dict[str, Any]) -> None:
    from scns_conductor.slurm.control.resize_scripts import write_resize_scripts

    try:
        write_resize_scripts(job)
    except OSError as error:
        print(f"Could not create file {error.filename}: {error.strerror}", file=sys.stderr)


def _made(client: JsonClient, job_id: str, changes: dict[str, Any]) -> dict[str, Any]:
    """TimeLimit=+10、EndTime=… 要看作业此刻的时限与开始的时刻。"""
    if not isinstance(changes.get("time_limit"), Relative):
        return changes
    return {**changes, "time_limit": changes["time_limit"].resolved(client.job(job_id))}


def _update_refused(error: ClientError) -> str:
    """改成永远放不下的：scontrol 的话与 sbatch 的不同（与 22.05 对比过）。"""
    if isinstance(error, Problem) and error.code in ("cpus_exceed_partition", "node_count_invalid"):
        return "Requested partition configuration not available now"
    if isinstance(error, Problem) and error.code in ("deadline_past", "deadline_unreachable"):
        return "Invalid time specified"
    return slurm_error(error)


def write(_parsed: Parsed, words: list[str]) -> int:
    """scontrol write batch_script：取脚本。"""
    if not words:
        raise Fatal("too few arguments for keyword:write", prefix=None)
    if words[0].lower() != "batch_script":
        raise Fatal(f"invalid write argument:{words[0]}", prefix=None)
    if len(words) < 2:
        raise Fatal("missing jobid argument for write batch_script", prefix=None)
    job_id = words[1]
    with connect() as client:
        try:
            script = client.script(job_id)
        except ClientError as error:
            raise Fatal(f"job script retrieval failed: {slurm_error(error)}", prefix=None) from error
    path = words[2] if len(words) > 2 else f"slurm-{job_id}.sh"
    if path == "-":
        sys.stdout.write(script)
        return 0
    Path(path).write_text(script)
    print(f"batch script for job {job_id} written to {path}")
    return 0


def wait_job(_parsed: Parsed, words: list[str]) -> int:
    """等作业的节点可用：本系统分到就能用，所以等到它开始。"""
    if not words:
        raise Fatal("too few arguments for keyword:wait_job", prefix=None)
    pause_s = 0.05
    with connect() as client:
        while True:
            try:
                state = client.query(words[0])["state"]
            except Problem as problem:
                raise Fatal(f"Problem running job {words[0]}", prefix="") from problem
            if state in TERMINAL_STATES:
                raise Fatal(f"Job {words[0]} no longer running", prefix="")
            if state != "PENDING":
                print(f"Job {words[0]} ready")
                return 0
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _MAX_WAIT_S)
