"""scancel：取消作业或发信号（scancel(1)）。"""

import os
import sys
from typing import Any

from scns_conductor.client import Client, ClientError, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm.parse.options import Parsed, flags, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, say, slurm_error
from scns_conductor.slurm.table import job_values as of

OPTIONS = [
    *flags("-b --batch", "-c --cron", "-f --full", "-H --hurry", "-i --interactive", "--me", "-Q --quiet"),
    *flags("-v --verbose", "-V --version", "--help", "--usage", "--ctld"),
    *values("-A --account", "-n --name --jobname", "-p --partition", "-q --qos", "-R --reservation", "-s --signal"),
    *values("-t --state", "-u --user", "-w --nodelist", "--wckey", "-M --clusters"),
    option("--sibling", "value"),
]
_FILTERS = ("account", "name", "partition", "qos", "user", "state", "nodelist", "reservation", "wckey", "me")


def main(words: list[str]) -> int:
    """逐个取消；有一个出错则退出码 1，其余照做。"""
    parsed = parse_or_exit("scancel", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: scancel [OPTIONS] [job_id[_array_id][.step_id]]")
        return 0
    of.require_own_cluster(parsed.last("clusters"))
    if "sibling" in parsed:
        raise Fatal("--sibling is not supported by this system")
    signal = _signal(parsed.last("signal"))
    filtered = any(key in parsed for key in _FILTERS)
    if not parsed.arguments and not filtered:
        raise Fatal("No job identification provided")
    words_given = [word for text in parsed.arguments for word in _split(text)]
    for word in words_given or parsed.arguments:
        if not _valid(word):
            raise Fatal(f"Invalid job id {word}")
    with connect() as client:
        targets = _chosen(client, parsed, words_given) if filtered else words_given
        codes = [_one(client, target, signal, parsed) for target in targets]
    return max(codes, default=0)


def _split(text: str) -> list[str]:
    """逗号分开几个作业，方括号里的不分。"""
    from scns_conductor.slurm.parse.hosts import split_list

    return split_list(text)


def _valid(word: str) -> bool:
    from scns_conductor.core.job_reference import parse_job_reference

    job, dot, step = word.partition(".")
    return parse_job_reference(job) is not None and (not dot or step.isdigit() or step in ("batch", "extern"))


def _signal(text: str | None) -> str | None:
    if text is None:
        return None
    import signal as signals

    word = text.upper().removeprefix("SIG")
    if word.isdigit() and int(word) < 64:
        return word
    if not hasattr(signals, f"SIG{word}"):
        raise Fatal(f"Unknown job signal: {text}", prefix=None)
    return word


def _chosen(client: Client, parsed: Parsed, words: list[str]) -> list[str]:
    """条件选中的作业；同时给了作业号时是两者的交。"""
    filters: dict[str, Any] = {}
    for key in ("account", "name", "partition", "qos", "user"):
        if key in parsed:
            filters[key] = parsed.last(key)
    if "nodelist" in parsed:
        from scns_conductor.slurm.parse.hosts import named_hosts

        filters["node"] = ",".join(named_hosts(parsed.last("nodelist") or ""))
    if "me" in parsed:
        filters["user"] = user_name_of(client.token)
    state = (parsed.last("state") or "").upper()
    name = of.LONG_STATES.get(state, state)
    if name and name not in of.ACTIVE:
        raise Fatal(
            f"Invalid job state specified: {parsed.last('state')}",
            "Valid job states are PENDING, RUNNING, and SUSPENDED",
            prefix=None,
        )
    if words:
        filters["job_id"] = ",".join(words)
    found = list(client.jobs(state=name or list(of.ACTIVE), sort="job_id", **filters))
    if not found and "user" in parsed and not _is_user(parsed.last("user") or ""):
        raise Fatal(f"Invalid user name: {parsed.last('user')}")
    wanted = {key: parsed.last(key) for key in ("reservation", "wckey") if key in parsed}
    return [
        of.display_id(job).partition("%")[0].rstrip("]") + ("]" if "[" in of.display_id(job) else "")
        for job in found
        if all(job[key] == value for key, value in wanted.items())
    ]


def _is_user(name: str) -> bool:
    import pwd

    return any(name in (each.pw_name, str(each.pw_uid)) for each in pwd.getpwall())


def _one(client: Client, word: str, signal: str | None, parsed: Parsed) -> int:
    job_id, _, step = word.partition(".")
    quiet = "quiet" in parsed or bool(os.environ.get("SCANCEL_QUIET"))
    if "interactive" in parsed and not _confirmed(word):
        return 0
    if "verbose" in parsed and not quiet:
        say("scancel", f"Signal {signal or 9} to job {word}" if signal else f"Terminating job {word}")
    try:
        if step and step != "batch":
            if not step.isdigit():
                raise Problem(404, "job_not_found", word)
            client.signal_step(job_id, int(step), signal or "KILL")
            return 0
        if signal is None and not step and "batch" not in parsed:
            return _cancel(client, job_id, word, quiet)
        target = {"batch_only": True} if "batch" in parsed or step == "batch" else {"target": "job"}
        if "full" in parsed:
            target = {"target": "all"}
        # KILL 在 Slurm 里就是取消。
        if signal in ("KILL", "9") and "batch" not in parsed and not step:
            return _cancel(client, job_id, word, quiet)
        client.transport.request("POST", f"/jobs/{job_id}/signal", body={"signal": signal or "KILL", **target})
    except ClientError as error:
        if isinstance(error, Problem) and error.code == "job_not_running" and signal is None and not step:
            # 还没有开始的作业没有脚本可以单独结束：-b 也就是取消。
            return _cancel(client, job_id, word, quiet)
        missing = isinstance(error, Problem) and error.status == 404
        if missing and "verbose" not in parsed:
            # 没有的作业号：Slurm 不出声，退出码 0（scripts/slurm_compare.py 对比过）。
            return 0
        if not quiet or not isinstance(error, Problem):
            say("scancel", f"error: Kill job error on job id {word}: {slurm_error(error)}")
        return 0 if missing else 1
    return 0


def _cancel(client: Client, job_id: str, word: str, quiet: bool) -> int:
    answer = client.cancel(job_id)
    ended = answer.get("state") not in ("CANCELLED", *of.ACTIVE)
    if ended and not quiet:
        # 已经结束的不算失败（scancel.c：SIGKILL 时忽略 ESLURM_ALREADY_DONE）。
        say("scancel", f"error: Kill job error on job id {word}: Job/step already completing or completed")
    return 0


def _confirmed(word: str) -> bool:
    sys.stdout.write(f"Cancel job_id={word} [y/n]? ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
