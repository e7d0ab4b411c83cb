"""salloc：申请一份分配，在本机运行命令（缺省是 shell），做完交还（salloc(1)）。"""

import os
import shutil
import signal
import subprocess
import sys
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, JsonClient
from scns_conductor.slurm.parse.options import Option, flags, hints, option
from scns_conductor.slurm.session import Fatal, connect, current_umask, say
from scns_conductor.slurm.step.x11_display import VARIABLE as X11_VARIABLE
from scns_conductor.slurm.step.x11_display import display_of
from scns_conductor.slurm.submit import allocation
from scns_conductor.slurm.submit.batch_options import BAD_OPTION, job_fields, merged
from scns_conductor.slurm.submit.batch_options import OPTIONS as BATCH_OPTIONS
from scns_conductor.slurm.submit.batch_options import VARIABLES as BATCH_VARIABLES
from scns_conductor.slurm.submit.het_components import parse_components, propagated
from scns_conductor.slurm.submit.node_orders import step_variables
from scns_conductor.slurm.submit.verbosity import tell_job, tell_options

_USAGE = "Usage: salloc [OPTIONS(0)...] [ : [OPTIONS(N)...]] [command(0) [args(0)...]]"
# 命令被这些信号杀死不算失败（salloc(1) 的 RETURN VALUE）。
_HARMLESS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGQUIT)
# 命令运行时多久看一次分配还在不在。
_CHECK_S = 2.0
_NOT_HERE = frozenset(
    {"wrap", "array", "wait", "test_only", "parsable", "export", "output", "error", "input", "open_mode", "requeue",
     "no_requeue", "immediate"}
)  # fmt: skip
# 说的是批处理脚本的：没有脚本，收下不用。
_OF_SCRIPT = frozenset({"get_user_env", "propagate"})
OPTIONS: list[Option] = [
    *(each for each in BATCH_OPTIONS if each.key not in {*_NOT_HERE, *_OF_SCRIPT}),
    *hints(each for each in BATCH_OPTIONS if each.key in _OF_SCRIPT),
    *flags("--no-shell", "--bell", "--no-bell"),
    option("-K --kill-command", "optional"),
    option("-I --immediate", "optional"),
    option("--x11", "optional"),
]
# salloc(1) 的 INPUT ENVIRONMENT VARIABLES：与 sbatch 的同名，另有几个。
_VARIABLES = {
    **{name.replace("SBATCH_", "SALLOC_"): key for name, key in BATCH_VARIABLES.items() if key not in _NOT_HERE},
    "SALLOC_IMMEDIATE": "immediate", "SALLOC_NO_BELL": "no_bell", "SALLOC_KILL_CMD": "kill_command",
    "SALLOC_BELL": "bell", "SALLOC_BURST_BUFFER": "bb",
}  # fmt: skip


def main(words: list[str]) -> int:
    """返回命令的退出码。"""
    parts = parse_components("salloc", words, OPTIONS, code=BAD_OPTION)
    parsed = parts[0]
    parsed.arguments = parts[-1].arguments
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    variables = [(key, os.environ[name]) for name, key in _VARIABLES.items() if name in os.environ]
    every = [merged([], variables, pairs) for pairs in propagated(part.pairs for part in parts)]
    given = every[0]
    loud = tell_options("salloc", given, parsed.pairs, "SALLOC_DEBUG")
    command = parsed.arguments or [os.environ.get("SHELL") or "/bin/sh"]
    jobs = [job_fields({**each, "export": "NONE"}, os.environ) for each in every]
    for job in jobs:
        job["umask"] = current_umask()
        job.setdefault("name", os.path.basename(parsed.arguments[0]) if parsed.arguments else "interactive")
        job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or os.getcwd())
    quiet, kill, folder = "quiet" in parsed, _kill_signal(given), parsed.last("chdir")
    if folder is not None and not os.path.isdir(folder):
        raise Fatal(f"chdir to {folder}: No such file or directory", prefix="fatal: ")
    forwarded = display_of(given, os.environ, "salloc") if "x11" in given else None
    with connect() as client:
        try:
            found = allocation.request(client, "salloc", jobs, immediate=allocation.immediate_s(given), quiet=quiet)
        except allocation.Revoked as revoked:
            return 128 + revoked.number if revoked.number else 1
        job_id = str(found[0]["job_id"])
        if loud:
            for job in found:
                tell_job("salloc", job)
        if not quiet:
            say("salloc", f"Granted job allocation {job_id}")
        if "no_shell" in parsed:
            return 0
        code, gone = 1, False
        try:
            environment = allocation.command_environment(os.environ, found)
            if forwarded is not None:
                # 本机的命令用自己的显示；里面的 srun 各自转发。
                environment[X11_VARIABLE] = forwarded.where
            environment |= step_variables(given)
            for index, each in enumerate(every):
                if "overcommit" in each:
                    environment |= _crowded(jobs[index], "" if len(jobs) == 1 else f"_HET_GROUP_{index}")
            code, gone = _run(client, job_id, command, environment, folder=folder, kill=kill, quiet=quiet)
        finally:
            if not gone:
                if not quiet:
                    say("salloc", f"Relinquishing job allocation {job_id}")
                allocation.give_back(client, job_id, code)
        return code


def _crowded(job: dict[str, Any], suffix: str) -> dict[str, str]:
    """-O：任务数是要的，不是分到的。"""
    own = job["environment"]
    names = {"SLURM_OVERCOMMIT": "SLURM_OVERCOMMIT", "SLURM_NTASKS": "SLURM_NTASKS", "SLURM_NPROCS": "SLURM_NTASKS"}
    return {f"{name}{suffix}": own[source] for name, source in names.items()}


def _kill_signal(given: dict[str, str]) -> int | None:
    """-K：分配没了给命令什么信号；没有写是 None，没有写哪个的交互时是 SIGHUP，否则 SIGTERM。"""
    text = given.get("kill_command")
    if text is None:
        return None
    if not text:
        return signal.SIGHUP if sys.stdin.isatty() else signal.SIGTERM
    try:
        return int(
            signal.Signals(int(text)) if text.isdigit() else signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
        )
    except (KeyError, ValueError):
        raise Fatal("Invalid --kill-command specification", code=BAD_OPTION) from None


def _run(
    client: JsonClient,
    job_id: str,
    command: list[str],
    environment: dict[str, str],
    *,
    folder: str | None,
    kill: int | None,
    quiet: bool,
) -> tuple[int, bool]:
    """在前台（-D 的目录里）运行命令：(退出码, 分配是不是中途没了)。

    终端的 Ctrl-C 归它，salloc 自己不理；SIGTERM 与 SIGHUP 转给它。
    """
    try:
        process = subprocess.Popen([_program(command[0], folder), *command[1:]], env=environment, cwd=folder)
    except (FileNotFoundError, PermissionError):
        # Slurm 找的是可以执行的文件。
        say("salloc", f'error: _fork_command: Unable to find command "{command[0]}"')
        return 1, False
    except OSError as error:
        say("salloc", f'error: Unable to exec command "{command[0]}": {error.strerror}')
        return 1, False

    def pass_on(number: int, _frame: Any) -> None:
        process.send_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    revoked = False
    while True:
        try:
            code = process.wait(None if revoked else _CHECK_S)
            break
        except subprocess.TimeoutExpired:
            revoked = _gone(client, job_id)
        if revoked:
            if not quiet:
                say("salloc", f"Job allocation {job_id} has been revoked.")
            if kill is not None:
                process.send_signal(kill)
    return (code if code >= 0 else 0 if -code in _HARMLESS else 1), revoked


def _program(name: str, folder: str | None) -> str:
    """命令在哪里：含 / 的照写，其余按 PATH，最后是 -D 的目录（没有写是当前目录；search_path 的 check_cwd_last）。"""
    if "/" in name or shutil.which(name):
        return name
    here = os.path.join(os.path.abspath(folder or "."), name)
    return here if os.access(here, os.X_OK) and os.path.isfile(here) else name


def _gone(client: JsonClient, job_id: str) -> bool:
    """分配已经没了（取消、到时、节点坏了）；服务器一时不在不算。"""
    try:
        return client.job(job_id)["state"] in TERMINAL_STATES
    except ClientError:
        return False
