"""scancel：取消作业或发信号（scancel(1)）。"""

import os
import sys
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm.parse.options import Parsed, flags, hints, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, say, slurm_error
from scns_conductor.slurm.table import job_values as of

OPTIONS = [
    *flags("-b --batch", "-f --full", "-i --interactive", "--me", "-Q --quiet"),
    *flags("-v --verbose", "-V --version", "--help", "--usage"),
    *hints(flags("-c --cron", "-H --hurry", "--ctld")),
    *values("-A --account", "-n --name --jobname", "-p --partition", "-q --qos", "-R --reservation", "-s --signal"),
    *values("-t --state", "-u --user", "-w --nodelist", "--wckey", "-M --clusters"),
    *refused(values("--admin-comment", "--sibling")),
]
_PAGE = 10_000
# 一个也没有选中时（-v）说的各条件：选项 -> Slurm 的名字，按它的次序。
_TOLD = {
    "account": "account", "name": "job_name", "nodelist": "nodelist", "partition": "partition", "qos": "qos",
    "reservation": "reservation", "state": "state", "user": "user_name", "wckey": "wckey",
}  # fmt: skip
# 要逐个看的：问、说、只给脚本，与服务器没有的条件。
_ONE_BY_ONE = ("interactive", "verbose", "batch", "reservation", "wckey")
_FILTERS = ("account", "name", "partition", "qos", "user", "state", "nodelist", "reservation", "wckey", "me")


def main(words: list[str]) -> int:
    """逐个取消；有一个出错则退出码 1，其余照做。"""
    parsed = parse_or_exit("scancel", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: scancel [OPTIONS] [job_id[_array_id][.step_id]]")
        return 0
    of.require_own_cluster(parsed.last("clusters"))
    if "admin_comment" in parsed:
        raise Fatal("--admin-comment is not supported by this system")
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
    simple = signal in (None, "KILL", "9") and not any(key in parsed for key in _ONE_BY_ONE)
    with connect() as client:
        if filtered and simple and not any("." in word for word in words_given):
            # 条件交给服务器：几万个也是一个请求。
            done, errors = client.control("cancel", words_given, _conditions(client, parsed))
            _require_user(parsed, bool(done or errors))
            return _cancelled(done, errors, parsed)
        targets = _chosen(client, parsed, words_given) if filtered else words_given
        if filtered and not targets and "verbose" in parsed and not _quiet(parsed):
            _say_none_matched(client, parsed)
        return _all(client, targets, signal, parsed)


def _say_none_matched(client: JsonClient, parsed: Parsed) -> None:
    """-v：没有一个作业合乎全部条件；不算错误（同 Slurm）。"""
    given = {key: parsed.last(key) or "" for key in _TOLD if key in parsed}
    if "me" in parsed:
        given["user"] = user_name_of(client)
    if "state" in given:
        given["state"] = _conditions(client, parsed)["state"]
    told = "".join(f"{name}={given[key]} " for key, name in _TOLD.items() if key in given)
    say("scancel", f"error: No active jobs match ALL job filters, including: {told}")


def _number(signal: str | None) -> int:
    import signal as signals

    word = signal or "KILL"
    return int(word) if word.isdigit() else int(getattr(signals, f"SIG{word}"))


def _all(client: JsonClient, targets: list[str], signal: str | None, parsed: Parsed) -> int:
    """同一种做法的作业一起一个请求；作业步各是各的。"""
    verbose = "verbose" in parsed and not _quiet(parsed)
    code, together = 0, []
    for word in targets:
        if "interactive" in parsed:
            confirmed = _confirmed(client, word)
            if confirmed is None:
                # 已经结束了的没有可问的：-i 时是错误（同 Slurm）。
                say("scancel", f"error: Kill job error on job id {word}: Invalid job id specified")
                code = 1
            if not confirmed:
                continue
        if verbose:
            what = "step" if "." in word else "job"
            kill = signal in (None, "KILL", "9")
            say("scancel", f"Terminating {what} {word}" if kill else f"Signal {_number(signal)} to {what} {word}")
        if "." in word:
            code = max(code, _step(client, word, signal, parsed))
        else:
            together.append(word)
    if not together:
        return code
    # KILL 在 Slurm 里就是取消；-b 只给脚本。
    if "batch" not in parsed and signal in (None, "KILL", "9"):
        return max(code, _cancel(client, together, parsed))
    target = "batch" if "batch" in parsed else "all" if "full" in parsed else "job"
    _, errors = client.control("signal", together, signal=signal or "KILL", target=target)
    waiting = [word for word, error in errors.items() if error.code == "job_not_running" and signal is None]
    if waiting:
        # 还没有开始的作业没有脚本可以单独结束：-b 也就是取消。
        code = max(code, _cancel(client, waiting, parsed))
    failed = [_told(word, error, parsed) for word, error in errors.items() if word not in waiting]
    return max([code, *failed])


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


def _conditions(client: JsonClient, parsed: Parsed) -> dict[str, str]:
    """服务器有的条件。"""
    found = {key: parsed.last(key) or "" for key in ("account", "name", "partition", "qos", "user") if key in parsed}
    if "nodelist" in parsed:
        from scns_conductor.slurm.parse.hosts import named_hosts

        found["node"] = ",".join(named_hosts(parsed.last("nodelist") or ""))
    if "me" in parsed:
        found["user"] = user_name_of(client)
    state = (parsed.last("state") or "").upper()
    name = of.LONG_STATES.get(state, state)
    if name and name not in of.ACTIVE:
        raise Fatal(
            f"Invalid job state specified: {parsed.last('state')}",
            "Valid job states are PENDING, RUNNING, and SUSPENDED",
            prefix=None,
        )
    return {**found, "state": name or ",".join(of.ACTIVE)}


def _chosen(client: JsonClient, parsed: Parsed, words: list[str]) -> list[str]:
    """条件选中的作业；同时给了作业号时是两者的交。"""
    filters: dict[str, Any] = dict(_conditions(client, parsed))
    if words:
        filters["job_id"] = ",".join(words)
    fields = "array_job_id,array_task_id,array_remaining,reservation,wckey"
    found = list(client.jobs(sort="job_id", limit=_PAGE, fields=fields, **filters))
    _require_user(parsed, bool(found))
    wanted = {key: parsed.last(key) for key in ("reservation", "wckey") if key in parsed}
    return [
        of.display_id(job).partition("%")[0].rstrip("]") + ("]" if "[" in of.display_id(job) else "")
        for job in found
        if all(job[key] == value for key, value in wanted.items())
    ]


def _require_user(parsed: Parsed, found: bool) -> None:
    """一个也没有，是不是用户写错了。"""
    if not found and "user" in parsed and not _is_user(parsed.last("user") or ""):
        raise Fatal(f"Invalid user name: {parsed.last('user')}")


def _is_user(name: str) -> bool:
    import pwd

    return any(name in (each.pw_name, str(each.pw_uid)) for each in pwd.getpwall())


def _step(client: JsonClient, word: str, signal: str | None, parsed: Parsed) -> int:
    """12.0、12.batch。"""
    job_id, _, step = word.partition(".")
    try:
        if step == "batch":
            body = {"signal": signal or "KILL", "batch_only": True}
            client.transport.request("POST", f"/jobs/{job_id}/signal", body=body)
        elif step.isdigit():
            client.signal_step(job_id, int(step), signal or "KILL")
        else:
            raise Problem(404, "job_not_found", word)
    except Problem as error:
        if error.status != 404:
            return _told(word, error, parsed)
        if _waiting(client, job_id):
            # 还没有开始的没有步可取消：Slurm 不出声。
            return 0
        if not _quiet(parsed):
            say("scancel", f"error: Kill job error on job step id {word}: Invalid job id specified")
        return 1
    return 0


def _waiting(client: JsonClient, job_id: str) -> bool:
    try:
        return bool(client.query(job_id)["state"] == "PENDING")
    except Problem:
        return False


def _cancel(client: JsonClient, words: list[str], parsed: Parsed) -> int:
    return _cancelled(*client.control("cancel", words), parsed)


def _cancelled(done: list[dict[str, Any]], errors: dict[str, Problem], parsed: Parsed) -> int:
    for each in done:
        if each["state"] not in ("CANCELLED", *of.ACTIVE) and not _quiet(parsed):
            # 已经结束的不算失败（scancel.c：SIGKILL 时忽略 ESLURM_ALREADY_DONE）。
            say(
                "scancel",
                f"error: Kill job error on job id {each['job_id']}: Job/step already completing or completed",
            )
    return max((_told(word, error, parsed) for word, error in errors.items()), default=0)


def _told(word: str, error: Problem, parsed: Parsed) -> int:
    """没有的作业号：Slurm 不出声，退出码 0，加 -v 才说（scripts/slurm_compare.py 对比过）；别的错误是 1。"""
    missing = error.status == 404
    if not _quiet(parsed) and (not missing or "verbose" in parsed):
        say("scancel", f"error: Kill job error on job id {word}: {slurm_error(error)}")
    return 0 if missing else 1


def _quiet(parsed: Parsed) -> bool:
    return "quiet" in parsed or bool(os.environ.get("SCANCEL_QUIET"))


def _confirmed(client: JsonClient, word: str) -> bool | None:
    """-i：先问，话照 scancel.c 的 _confirmation；没有这样的作业、已经结束了的没有可问的，是 None。"""
    job_id, dot, _ = word.partition(".")
    try:
        job = next(iter(client.jobs(job_id=job_id, state=list(of.ACTIVE), most=1)), None)
    except Problem:
        job = None
    if job is None:
        return None
    shown = f"step_id={word}" if dot else f"job_id={word}"
    sys.stdout.write(f"Cancel {shown} name={job['name']} partition={job['partition']} [y/n]? ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
