"""scontrol：查看与控制（scontrol(1)）。"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, ControlAction, JsonClient, Problem
from scns_conductor.slurm.control import control_reservations
from scns_conductor.slurm.control.control_changes import Relative, job_changes, pairs, partition_changes, step_changes
from scns_conductor.slurm.control.control_show import show
from scns_conductor.slurm.error_words import slurm_words
from scns_conductor.slurm.parse.hosts import named_hosts, split_list
from scns_conductor.slurm.parse.keywords import full_key
from scns_conductor.slurm.parse.options import Parsed, flags, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error, told
from scns_conductor.slurm.table.job_values import require_own_cluster
from scns_conductor.slurm.table.json_answer import asked_version, structured, write_answer

OPTIONS = [
    *flags("-a --all", "-d --details", "-F --future", "-h --help", "--hide", "--local", "-o --oneliner"),
    *flags("-Q --quiet", "--sibling", "--federation", "-v --verbose", "-V --version", "--usage"),
    *values("-M --clusters --cluster", "-u --uid"),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
_USAGE = "scontrol [<OPTION>] [<COMMAND>]"
_MAX_WAIT_S = 2.0


def main(words: list[str]) -> int:
    """执行一条 scontrol 命令；没有命令时从标准输入逐行读。"""
    parsed = parse_or_exit("scontrol", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    require_own_cluster(parsed.last("clusters"))
    if parsed.arguments:
        return _command(parsed, parsed.arguments)
    return _lines(parsed)


def _lines(parsed: Parsed) -> int:
    """逐行读命令；有一条出错，最后的退出码就是它的。"""
    import shlex

    from scns_conductor.slurm.parse.line_mode import prompted_lines

    code = 0
    for line in prompted_lines("scontrol"):
        try:
            given = shlex.split(line)
            if given and given[0] in ("exit", "quit", "q"):
                return code
            code = (_command(parsed, given) if given else 0) or code
        except ValueError as error:
            print(f"scontrol: error: {error}", file=sys.stderr)
            code = 1
        except Fatal as error:
            # 一条出错不妨碍下一条。
            code = told("scontrol", error)
    return code


def _command(parsed: Parsed, words: Sequence[str]) -> int:
    verb, rest = words[0].lower(), list(words[1:])
    matches = [verb] if verb in _VERBS else [name for name in _VERBS if len(verb) > 2 and name.startswith(verb)]
    if not matches:
        print(f"invalid keyword: {words[0]}", file=sys.stderr)
        return 1
    return _VERBS[matches[0]](parsed, rest)


def _jobs(words: Sequence[str], what: str, action: ControlAction, **options: Any) -> int:
    """一批作业一个请求；写的是作业名时，是叫这个名字的全部作业。逐个报错误，其余照做。"""
    given = [job for word in words for job in split_list(word.partition("=")[2] or word)]
    if not given:
        raise Fatal(f"too few arguments for keyword:{what}", prefix=None)
    numbers = [text for text in given if text[:1].isdigit()]
    last = ""
    with connect() as client:
        errors: dict[str, ClientError] = {}
        if numbers:
            errors |= client.control(action, numbers, **options)[1]
        for name in [text for text in given if text not in numbers]:
            # 名字里可以有逗号：按整个名字找。
            done, refused = client.control(action, conditions={"name": name}, **options)
            errors |= refused
            if not done and not refused:
                errors[name] = _named_elsewhere(client, name)
        for job_id, error in errors.items():
            if what in ("suspend", "resume"):
                error = _still_pending(client, job_id, error)
            last = slurm_error(error)
            print(f"{last} for job {job_id}", file=sys.stderr)
    if last and what in ("hold", "release"):
        print(f"slurm_suspend error: {last}", file=sys.stderr)
    return 1 if last else 0


def _named_elsewhere(client: JsonClient, name: str) -> Problem:
    """叫这个名字的作业没有一个在该在的状态里：有没有这样的作业，话不同。"""
    found = next(iter(client.jobs(name=name, state="PENDING,RUNNING,SUSPENDED", most=1)), None)
    return Problem(409, "job_not_pending", name) if found else Problem(404, "job_not_found", name)


def _by_name(client: JsonClient, text: str) -> list[str]:
    """作业号；写的是作业名时，是叫这个名字的全部作业。"""
    if text[:1].isdigit():
        return [text]
    return [job["job_id"] for job in client.jobs(name=text, state="PENDING,RUNNING,SUSPENDED")] or [text]


def _hold(_parsed: Parsed, words: list[str]) -> int:
    return _jobs(words, "hold", "hold")


def _release(_parsed: Parsed, words: list[str]) -> int:
    return _jobs(words, "release", "release")


def _requeue(_parsed: Parsed, words: list[str]) -> int:
    _outlive_own_job()
    return _jobs(words, "requeue", "requeue")


def _outlive_own_job() -> None:
    """作业里请求重排自己：结束这次尝试的 SIGTERM 可能比回答先到，作业就以为没有成（submitit 的检查点）。"""
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _requeue_hold(_parsed: Parsed, words: list[str]) -> int:
    _outlive_own_job()
    words = [word for word in words if not word.lower().startswith("state=")]
    return _jobs(words, "requeuehold", "requeue", hold=True)


def _still_pending(client: JsonClient, job: str, error: ClientError) -> ClientError:
    """挂起与恢复：排队的作业 Slurm 有另一句话。"""
    known = isinstance(error, Problem) and error.code in ("job_not_running", "job_not_suspended")
    if known and client.query(job)["state"] == "PENDING":
        return Problem(409, "job_pending", str(error))
    return error


def _suspend(_parsed: Parsed, words: list[str]) -> int:
    return _jobs(words, "suspend", "suspend")


def _resume(_parsed: Parsed, words: list[str]) -> int:
    return _jobs(words, "resume", "resume")


def _update(_parsed: Parsed, words: list[str]) -> int:
    if not words:
        raise Fatal("too few arguments for update keyword", prefix=None)
    if words and words[0].lower() in ("job", "node", "partition") and len(words) > 1:
        # update job 12 … 与 update jobid=12 … 都有人写。
        words = [
            f"{words[0]}id={words[1]}" if words[0].lower() == "job" and "=" not in words[1] else words[1],
            *words[2:],
        ]
    given = pairs(words)
    # 先看有没有作业号：partition= 可以是作业的，也可以是要改的分区。
    for name, update in (
        ("jobid", _update_job),
        ("stepid", _update_step),
        ("nodename", _update_node),
        ("reservationname", _update_reservation),
        ("partitionname", _update_partition),
    ):
        key = next((key for key in given if full_key(key, [name], least=3)), None)
        if key is not None:
            return update(given.pop(key), given)
    raise Fatal(
        "No valid entity in update command",
        'Input line must include "NodeName", "PartitionName", "Reservation", "JobId", or "SlurmctldDebug"',
        prefix=None,
    )


def _update_step(target: str, given: dict[str, str]) -> int:
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
            _slurm_call("slurm_update error", partial(client.update_step, job_id, number, **changes))
    return 0


def _update_job(target: str, given: dict[str, str]) -> int:
    """逐个作业改；作业号可以用逗号相连。数组里改不了的任务（已经启动）各报一行，其余照改。"""
    changes = job_changes(given)
    code = 0
    with connect() as client:
        for job_id in [number for text in split_list(target) for number in _by_name(client, text)]:
            try:
                answer = client.update(job_id, _made(client, job_id, changes))
            except ClientError as error:
                print(f"{_update_refused(error)} for job {job_id}", file=sys.stderr)
                code = 1
                continue
            for task in answer.get("skipped", ()):
                print(f"{task}: {slurm_words('job_not_pending')}", file=sys.stderr)
                code = 1
            if answer["state"] == "RUNNING" and {"nodes", "required_nodes"} & changes.keys():
                _write_resize_scripts(client.job(job_id))
    return code


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


# 没有的状态换成意思最近的；别的由服务器拒绝。
_NODE_STATES = {"FAIL": "DRAIN", "IDLE": "RESUME"}


def _update_node(target: str, given: dict[str, str]) -> int:
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if key == "state":
            changes["state"] = _NODE_STATES.get(value.upper(), value.upper())
            if changes["state"] not in ("DOWN", "DRAIN", "RESUME", "UNDRAIN"):
                raise Fatal(
                    f"Invalid input: {key}={value}",
                    "Request aborted",
                    "Valid states are: NoResp DRAIN FAIL FUTURE RESUME POWER_DOWN POWER_UP UNDRAIN",
                    "Not all states are valid given a node's prior state",
                    prefix=None,
                )
        elif key in ("reason", "weight", "features", "availablefeatures", "activefeatures"):
            name = "features" if "features" in key else key
            if name == "weight" and not value.isdigit():
                print(f"scontrol: error: Weight value ({value}) is not a valid number", file=sys.stderr)
                raise Fatal("No changes specified", prefix=None)
            changes[name] = int(value) if name == "weight" else value.split(",") if name == "features" else value
        else:
            raise Fatal(f"Update of this parameter is not supported: {key}={value}", "Request aborted", prefix=None)
    if changes.get("state") in ("DOWN", "DRAIN") and not changes.get("reason"):
        raise Fatal("You must specify a reason when DOWNING or DRAINING a node. Request denied", prefix=None)
    with connect() as client:
        names = [node["name"] for node in client.nodes()] if target.upper() == "ALL" else named_hosts(target)
        for name in names:
            _slurm_call("slurm_update error", partial(client.update_node, name, changes))
    return 0


def _update_reservation(target: str, given: dict[str, str]) -> int:
    with connect() as client:
        return control_reservations.update(client, target, given)


def _update_partition(target: str, given: dict[str, str]) -> int:
    changes = partition_changes(given)
    if not changes:
        raise Fatal("No changes specified")
    with connect() as client:
        _slurm_call("slurm_update error", lambda: client.update_partition(target, changes))
    return 0


def _slurm_call(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except ClientError as error:
        raise Fatal(f"{what}: {slurm_error(error)}", prefix=None) from error


def _create(_parsed: Parsed, words: list[str]) -> int:
    if not words:
        raise Fatal("too few arguments for create keyword", prefix=None)
    given = pairs([word for word in words if "=" in word])
    if any(full_key(word.partition("=")[0], ["reservationname"], least=3) for word in words):
        with connect() as client:
            return control_reservations.create(client, given)
    name = _named(given, "partitionname")
    if name is None:
        raise Fatal(f"Invalid creation entity: {words[0]}")
    with connect() as client:
        _slurm_call(
            "Error creating the partition", lambda: client.create_partition({"name": name, **partition_changes(given)})
        )
    return 0


def _named(given: dict[str, str], name: str) -> str | None:
    """取走 name=（至少前三个字母）的值；没有、是空的都是 None。"""
    key = next((key for key in given if full_key(key, [name], least=3)), None)
    return (given.pop(key) or None) if key is not None else None


def _delete(_parsed: Parsed, words: list[str]) -> int:
    if not words:
        raise Fatal("too few arguments for delete keyword", prefix=None)
    given = pairs([word for word in words if "=" in word])
    reserved = _named(given, "reservationname")
    if reserved is not None:
        with connect() as client:
            return control_reservations.delete(client, reserved, words[0])
    node = _named(given, "nodename")
    if node is not None:
        return _delete_node(node)
    name = _named(given, "partitionname")
    if name is None:
        raise Fatal(f"Invalid deletion entity: {words[0]}", prefix=None)
    with connect() as client:
        _slurm_call(f"delete_partition partitionname={name}", lambda: client.delete_partition(name))
    return 0


def _delete_node(name: str) -> int:
    with connect() as client:
        try:
            client.delete_node(name)
        except ClientError as error:
            text = f"delete_node nodename={name}: {slurm_error(error)}"
            # Slurm 的话不说为什么忙；原因与怎么办附在后面一行。
            known = isinstance(error, Problem) and error.status == 409
            raise Fatal(f"{text}\n{error}" if known else text, prefix=None) from error
    return 0


def _write(_parsed: Parsed, words: list[str]) -> int:
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


def _ping(parsed: Parsed, _words: list[str]) -> int:
    host = os.uname().nodename
    began, alive = time.perf_counter(), True
    try:
        with connect() as client:
            client.transport.request("GET", "/health/live")
    except ClientError:
        alive = False
    if structured(parsed):
        from scns_conductor.slurm.shapes.statistics import ping_record

        latency_us = int((time.perf_counter() - began) * 1e6)
        record = ping_record(asked_version(parsed), host, alive=alive, latency_us=latency_us)
        write_answer(parsed, "openapi_ping_array_resp", "pings", [record])
        return 0 if alive else 1
    if not alive:
        print(f"Slurmctld(primary) at {host} is DOWN")
        return 1
    print(f"Slurmctld(primary) at {host} is UP")
    return 0


def _token(_parsed: Parsed, words: list[str]) -> int:
    given = pairs(words)
    body: dict[str, Any] = {}
    for word in words:
        if word.partition("=")[0].lower() not in ("username", "lifespan"):
            raise Fatal(f"Invalid option: `{word}`", prefix=None)
    if given.get("username"):
        body["user_name"] = given["username"]
    if "lifespan" in given and not given["lifespan"].isdigit():
        raise Fatal("Error fetching token", prefix=None)
    if "lifespan" in given:
        body["lifetime_s"] = int(given["lifespan"])
    with connect() as client:
        answer = client.transport.request("POST", "/tokens", body=body).json()
    print(f"SLURM_JWT={answer['token']}")
    return 0


def _wait_job(_parsed: Parsed, words: list[str]) -> int:
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


def _version(_parsed: Parsed, _words: list[str]) -> int:
    from scns_conductor.slurm.shapes.spoken import release

    print(f"slurm {release()}")
    return 0


def _reconfigure(_parsed: Parsed, _words: list[str]) -> int:
    """设置在启动时读；问一次服务器，连不上照样报错。"""
    with connect() as client:
        client.config()
    return 0


def _errnumstr(_parsed: Parsed, words: list[str]) -> int:
    from scns_conductor.slurm.error_words import NUMBERS

    if not words:
        raise Fatal("one arguments required for keyword:errnumstr", prefix=None)
    if not words[0].lstrip("-").isdigit():
        raise Fatal("numeric arguments required for keyword:errnumstr", prefix=None)
    number = int(words[0])
    known = {value: text for text, value in NUMBERS.items()}
    print(known.get(number) or (os.strerror(number) if 0 <= number < 200 else f"Unknown error {number}"))
    return 0


def _list_pids(parsed: Parsed, words: list[str]) -> int:
    from scns_conductor.slurm.control.control_processes import list_pids

    return list_pids(parsed, words)


def _pid_info(parsed: Parsed, words: list[str]) -> int:
    from scns_conductor.slurm.control.control_processes import pid_info

    return pid_info(parsed, words)


def _nothing(_parsed: Parsed, _words: list[str]) -> int:
    """只在交互时有意义的开关（all、oneliner……）：照 Slurm 成功。"""
    return 0


def _help(_parsed: Parsed, _words: list[str]) -> int:
    print(_USAGE)
    return 0


def _cluster(_parsed: Parsed, words: list[str]) -> int:
    require_own_cluster(words[0] if words else "")
    return 0


def _unsupported(name: str, why: str) -> Callable[[Parsed, list[str]], int]:
    def refuse(_parsed: Parsed, _words: list[str]) -> int:
        raise Fatal(f"scontrol {name} is not supported by this system: {why}", prefix=None)

    return refuse


_LOGGING = "set SCNS_LOG_LEVEL and restart"
_PROCESSES = "stop the processes with scns up's terminal, systemd or docker compose"
_REFUSED = {
    "abort": _PROCESSES,
    "shutdown": _PROCESSES,
    "takeover": "standby schedulers take over by themselves when the lease runs out",
    "reboot": "it never reboots machines; drain the node with scontrol update nodename=NAME state=drain reason=WHY",
    "cancel_reboot": "it never reboots machines",
    "top": "change the order of your own jobs with scontrol update jobid=ID nice=N",
    "notify": "a job's standard error belongs to the job alone",
    "setdebug": _LOGGING,
    "setdebugflags": _LOGGING,
    "schedloglevel": _LOGGING,
    "fsdampeningfactor": "fair share uses Fair Tree without a dampening factor",
    "crontab": "scrontab jobs are not kept here",
}
_SWITCHES = (
    "exit", "quit", "all", "hide", "details", "oneliner", "quiet", "verbose", "local", "completing",
)  # fmt: skip
_VERBS: dict[str, Callable[[Parsed, list[str]], int]] = {
    "show": show,
    "hold": _hold,
    "uhold": _hold,
    "release": _release,
    "requeue": _requeue,
    "requeuehold": _requeue_hold,
    "suspend": _suspend,
    "resume": _resume,
    "update": _update,
    "create": _create,
    "delete": _delete,
    "write": _write,
    "ping": _ping,
    "token": _token,
    "wait_job": _wait_job,
    "version": _version,
    "reconfigure": _reconfigure,
    "errnumstr": _errnumstr,
    "listpids": _list_pids,
    "pidinfo": _pid_info,
    "help": _help,
    "cluster": _cluster,
    **dict.fromkeys(_SWITCHES, _nothing),
    **{name: _unsupported(name, why) for name, why in _REFUSED.items()},
}
