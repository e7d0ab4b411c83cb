"""salloc：申请一份分配，在本机运行命令（缺省是 shell），做完交还（salloc(1)）。"""

import os
import signal
import subprocess
from typing import Any

from scns_conductor.slurm import allocation
from scns_conductor.slurm.batch_options import OPTIONS as BATCH_OPTIONS
from scns_conductor.slurm.batch_options import job_fields
from scns_conductor.slurm.options import Option, flags, option
from scns_conductor.slurm.session import connect, parse_or_exit, say

_USAGE = "Usage: salloc [OPTIONS(0)...] [ : [OPTIONS(N)...]] [command(0) [args(0)...]]"
_NOT_HERE = frozenset(
    {"wrap", "array", "wait", "test_only", "parsable", "export", "output", "error", "input", "open_mode", "requeue",
     "no_requeue", "immediate"}
)  # fmt: skip
OPTIONS: list[Option] = [
    *(each for each in BATCH_OPTIONS if each.key not in _NOT_HERE),
    *flags("--no-shell", "--bell", "--no-bell", "-K --kill-command"),
    option("-I --immediate", "optional"),
]
# salloc(1) 的 INPUT ENVIRONMENT VARIABLES。
_VARIABLES = {
    "SALLOC_ACCOUNT": "account", "SALLOC_CONSTRAINT": "constraint", "SALLOC_EXCLUSIVE": "exclusive",
    "SALLOC_GPUS": "gpus", "SALLOC_GRES": "gres", "SALLOC_MEM_PER_CPU": "mem_per_cpu", "SALLOC_MEM_PER_NODE": "mem",
    "SALLOC_PARTITION": "partition", "SALLOC_QOS": "qos", "SALLOC_RESERVATION": "reservation",
    "SALLOC_TIMELIMIT": "time", "SALLOC_IMMEDIATE": "immediate", "SALLOC_NO_BELL": "no_bell",
}  # fmt: skip


def main(words: list[str]) -> int:
    """返回命令的退出码。"""
    parsed = parse_or_exit("salloc", words, OPTIONS, permute=False)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    given = {key: os.environ[name] for name, key in _VARIABLES.items() if name in os.environ} | dict(parsed.pairs)
    command = parsed.arguments or [os.environ.get("SHELL") or "/bin/sh"]
    job = job_fields({**given, "export": "NONE"}, os.environ)
    job.setdefault("name", os.path.basename(parsed.arguments[0]) if parsed.arguments else "interactive")
    job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or os.getcwd())
    quiet = "quiet" in parsed
    with connect() as client:
        try:
            found = allocation.request(client, "salloc", job, immediate="immediate" in given, quiet=quiet)
        except allocation.Revoked as revoked:
            return 128 + revoked.number if revoked.number else 1
        job_id = str(found["job_id"])
        if not quiet:
            say("salloc", f"Granted job allocation {job_id}")
        if "no_shell" in parsed:
            return 0
        code = 1
        try:
            code = _run(command, {**os.environ, **allocation.variables(found)})
        finally:
            if not quiet:
                say("salloc", f"Relinquishing job allocation {job_id}")
            allocation.give_back(client, job_id, code)
        return code


def _run(command: list[str], environment: dict[str, str]) -> int:
    """在前台运行命令：终端的 Ctrl-C 归它，salloc 自己不理；SIGTERM 与 SIGHUP 转给它。"""
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        say("salloc", f'error: Unable to exec command "{command[0]}": {error.strerror}')
        return 127 if isinstance(error, FileNotFoundError) else 126

    def pass_on(number: int, _frame: Any) -> None:
        process.send_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    code = process.wait()
    return 128 - code if code < 0 else code
