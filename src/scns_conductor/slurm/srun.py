"""srun：在分配里启动作业步；不在分配里就先申请一份，做完交还（srun(1)）。"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from scns_conductor.client import Client, ClientError, Problem
from scns_conductor.slurm import allocation
from scns_conductor.slurm.batch_options import job_fields
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, say, slurm_error
from scns_conductor.slurm.srun_options import OPTIONS, given_options, local_file, step_fields
from scns_conductor.slurm.step_link import Listener, StepLink
from scns_conductor.slurm.step_output import StepOutput

_USAGE = "Usage: srun [OPTIONS(0)... [executable(0) [args(0)...]]] [ : [OPTIONS(N)...]] executable(N) [args(N)...]"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
BUSY_FIRST_PAUSE_S, BUSY_LAST_PAUSE_S = 0.05, 2.0
# 只属于申请分配的选项：在分配里的作业步用不上。
_ALLOCATION_ONLY = frozenset({"output", "error", "input", "export", "open_mode", "chdir"})


def main(words: list[str]) -> int:
    """返回各任务退出码的最大值；被信号杀死的是 128 加信号。"""
    parsed = parse_or_exit("srun", words, OPTIONS, permute=False)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if parsed.last("mpi") == "list":
        print("MPI plugin types are...\n\tnone", file=sys.stderr)
        return 0
    if not parsed.arguments:
        raise Fatal("must supply remote command", prefix="fatal: ")
    inside = parsed.last("jobid") or os.environ.get("SLURM_JOB_ID") or os.environ.get("SLURM_JOBID")
    given = given_options(parsed.pairs, os.environ, alone=inside is None)
    with connect() as client:
        if inside is not None:
            return _run_step(client, inside, given, parsed.arguments)
        return _run_alone(client, given, parsed.arguments)


def _run_alone(client: Client, given: Mapping[str, str], argv: Sequence[str]) -> int:
    job = job_fields({key: value for key, value in given.items() if key not in _ALLOCATION_ONLY}, os.environ)
    job["environment"] = {}
    job.setdefault("name", os.path.basename(argv[0]))
    job["current_working_directory"] = os.path.abspath(given.get("chdir") or os.getcwd())
    try:
        found = allocation.request(client, "srun", job, immediate="immediate" in given, quiet="quiet" in given)
    except allocation.Revoked as revoked:
        return 128 + revoked.number if revoked.number else 1
    job_id = str(found["job_id"])
    code = 1
    try:
        code = _run_step(client, job_id, given, argv, alone=True)
    finally:
        allocation.give_back(client, job_id, code)
    return code


def _run_step(
    client: Client, job_id: str, given: Mapping[str, str], argv: Sequence[str], *, alone: bool = False
) -> int:
    pty = "pty" in given
    listener = Listener(urlsplit(client.url).hostname or "127.0.0.1")
    fields = step_fields(given, argv, listening=True)
    if pty and sys.stdin.isatty():
        fields["streams"] |= dict(zip(("columns", "rows"), os.get_terminal_size(0), strict=True))
    fields["connection"] = listener.description()
    fields["release_allocation"] = alone
    step = _create(client, job_id, fields, quiet="quiet" in given)
    output = StepOutput(
        step,
        label="label" in given and not pty,
        stdout=local_file(given, "output", job_id, step["step_id"]),
        stderr=local_file(given, "error", job_id, step["step_id"]),
        append=(given.get("open_mode") or "t")[0].lower() == "a",
        kill_on_bad_exit=given.get("kill_on_bad_exit", "0") != "0",
        quit_on_interrupt="quit_on_interrupt" in given,
        quiet="quiet" in given,
    )
    with _input(given, job_id, step["step_id"], argv) as input_fd, _raw_terminal(enabled=pty):
        link = StepLink(
            listener,
            {node["name"]: node["tasks"] for node in step["nodes"]},
            output,
            input_fd=input_fd,
            missing=lambda names: _missing(client, job_id, step["step_id"], names),
            signals=(*_SIGNALS, signal.SIGWINCH) if pty else _SIGNALS,
        )
        output.link = link
        link.run()
    return output.finish()


def _create(client: Client, job_id: str, fields: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """建立作业步；CPU 被别的步占着就等（srun 的 retrying）。"""
    pause_s, told, began = BUSY_FIRST_PAUSE_S, False, time.monotonic()
    while True:
        try:
            created = client.create_step(job_id, fields)
            if told and not quiet:
                say("srun", f"Step created for job {job_id}")
            return created
        except Problem as problem:
            if problem.code != "step_busy":
                raise Fatal(*_refusal(problem, fields)) from problem
            if not told and not quiet and time.monotonic() - began > 0.5:
                text = "Job step creation temporarily disabled, retrying (Requested nodes are busy)"
                say("srun", text)
                told = True
        except ClientError as error:
            raise Fatal(f"Unable to create step for job {job_id}: {slurm_error(error)}") from error
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, BUSY_LAST_PAUSE_S)


def _refusal(problem: Problem, fields: Mapping[str, Any]) -> list[str]:
    if problem.code == "step_too_large":
        why = "More processors requested than permitted"
        if fields.get("nodes") or fields.get("node_list"):
            why = "Requested node configuration is not available"
        return [f"Unable to create step for job: {why}", problem.detail]
    why = {"job_not_running": "Job/step already completing or completed"}.get(problem.code, slurm_error(problem))
    return [f"Unable to confirm allocation for job: {why}"]


def _missing(client: Client, job_id: str, step_id: int, names: list[str]) -> Sequence[str]:
    """没有按时连过来的节点：请系统再送一遍消息；系统说已经结束的不会再来。"""
    try:
        found = client.step(job_id, step_id)
        ended = [name for name in names if name not in found["pending_nodes"]]
        if found["state"] not in ("RUNNING", "SUSPENDED"):
            return names
        if len(ended) < len(names):
            client.relaunch_step(job_id, step_id)
        return ended
    except ClientError as error:
        return names if isinstance(error, Problem) and error.status in (404, 409) else []


@contextlib.contextmanager
def _input(given: Mapping[str, str], job_id: str, step_id: int, argv: Sequence[str]) -> Iterator[int | None]:
    """转给任务的输入：自己的标准输入，或 -i 写的文件；none 与归节点管的没有。"""
    wanted = given.get("input")
    if wanted == "none":
        yield None
        return
    path = local_file(given, "input", job_id, step_id)
    if path is None:
        yield 0 if wanted is None or wanted == "all" or wanted.isdigit() else None
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Fatal(f"Could not open stdin file: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _raw_terminal(*, enabled: bool) -> Iterator[None]:
    """--pty：本地终端不再自己处理按键，全部送到那一头的终端。"""
    if not enabled or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    old = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, old)
