"""scontrol：查看与控制（scontrol(1)）。"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from scns_conductor.client import ClientError, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, told
from scns_conductor.slurm.table.job_values import require_own_cluster
from scns_conductor.slurm.table.json_answer import asked_version, structured, write_answer

OPTIONS = [
    *flags("-d --details", "-h --help", "-o --oneliner", "-Q --quiet", "-v --verbose", "-V --version", "--usage"),
    *hints(flags("-a --all", "-F --future", "--hide", "--local", "--sibling", "--federation")),
    *values("-M --clusters --cluster"),
    *refused(values("-u --uid")),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
_USAGE = "scontrol [<OPTION>] [<COMMAND>]"


def main(words: list[str]) -> int:
    """执行一条 scontrol 命令；没有命令时从标准输入逐行读。"""
    parsed = parse_or_exit("scontrol", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if "uid" in parsed:
        raise Fatal("--uid is not supported by this system")
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
    from scns_conductor.slurm.control.control_changes import pairs

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


def _crontab(_parsed: Parsed, words: list[str]) -> int:
    """看一个用户的 crontab；不写是自己的。"""
    with connect() as client:
        try:
            sys.stdout.write(str(client.crontab(words[0] if words else None)["text"]))
        except Problem as error:
            if error.code != "crontab_not_found":
                raise
            raise Fatal(f"no crontab for {words[0] if words else user_name_of(client)}", prefix=None) from error
    return 0


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


def _in(module: str, name: str) -> Callable[[Parsed, list[str]], int]:
    """control 房间里 module 的函数；用到才载入。"""

    def call(parsed: Parsed, words: list[str]) -> int:
        found = importlib.import_module(f"scns_conductor.slurm.control.{module}")
        return int(getattr(found, name)(parsed, words))

    return call


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
    "notify": "a job's standard error belongs to the job alone",
    "setdebug": _LOGGING,
    "setdebugflags": _LOGGING,
    "schedloglevel": _LOGGING,
    "fsdampeningfactor": "fair share uses Fair Tree without a dampening factor",
}
_SWITCHES = (
    "exit", "quit", "all", "hide", "details", "oneliner", "quiet", "verbose", "local", "completing",
)  # fmt: skip
_VERBS: dict[str, Callable[[Parsed, list[str]], int]] = {
    "show": _in("control_show", "show"),
    "hold": _in("control_jobs", "hold"),
    "uhold": _in("control_jobs", "hold"),
    "release": _in("control_jobs", "release"),
    "requeue": _in("control_jobs", "requeue"),
    "requeuehold": _in("control_jobs", "requeue_hold"),
    "suspend": _in("control_jobs", "suspend"),
    "resume": _in("control_jobs", "resume"),
    "update": _in("control_entities", "update"),
    "create": _in("control_entities", "create"),
    "delete": _in("control_entities", "delete"),
    "reboot": _in("control_nodes", "reboot_nodes"),
    "cancel_reboot": _in("control_nodes", "cancel_reboot"),
    "power": _in("control_nodes", "power_nodes"),
    "getaddrs": _in("control_nodes", "node_addresses"),
    "write": _in("control_jobs", "write"),
    "ping": _ping,
    "token": _token,
    "top": _in("control_top", "top"),
    "wait_job": _in("control_jobs", "wait_job"),
    "version": _version,
    "reconfigure": _reconfigure,
    "errnumstr": _errnumstr,
    "crontab": _crontab,
    "listpids": _in("control_processes", "list_pids"),
    "listjobs": _in("control_processes", "list_jobs"),
    "liststeps": _in("control_processes", "list_steps"),
    "pidinfo": _in("control_processes", "pid_info"),
    "help": _help,
    "cluster": _cluster,
    **dict.fromkeys(_SWITCHES, _nothing),
    **{name: _unsupported(name, why) for name, why in _REFUSED.items()},
}
