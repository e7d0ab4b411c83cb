"""srun：在分配里启动作业步；不在分配里就先申请一份，做完交还（srun(1)）。"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from scns_conductor.client import Client
from scns_conductor.slurm import allocation
from scns_conductor.slurm.batch_options import job_fields
from scns_conductor.slurm.broadcast import broadcast_program
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, say
from scns_conductor.slurm.srun_options import (
    MPI_TYPES,
    OPTIONS,
    given_options,
    local_file,
    step_fields,
    whole_number,
)
from scns_conductor.slurm.step_creation import create, missing
from scns_conductor.slurm.step_link import Listener, StepLink
from scns_conductor.slurm.step_output import StepOutput
from scns_conductor.slurm.terminal import raw_terminal

_USAGE = "Usage: srun [OPTIONS(0)... [executable(0) [args(0)...]]] [ : [OPTIONS(N)...]] executable(N) [args(N)...]"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# 只属于作业步的选项：申请分配时不带。
_STEP_ONLY = frozenset({"output", "error", "input", "export", "open_mode", "chdir", "overcommit", "no_kill", "wait"})
# 只属于分配：自己申请的分配里就这一步，不必再分。
_SHARED_OUT = frozenset({"gpus", "gpus_per_node", "gres", "mem", "mem_per_cpu", "mem_per_gpu"})


def main(words: list[str]) -> int:
    """返回各任务退出码的最大值；被信号杀死的是 128 加信号。"""
    parsed = parse_or_exit("srun", words, OPTIONS, permute=False)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if parsed.last("mpi") == "list":
        print("MPI plugin types are...", *MPI_TYPES, sep="\n\t", file=sys.stderr)
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
    job = job_fields({key: value for key, value in given.items() if key not in _STEP_ONLY}, os.environ)
    if "overcommit" in given:
        # 每个节点一个 CPU 就够开始；任务都挤在上面。
        job["tasks"] = int((given.get("nodes") or "1").partition("-")[0])
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
        step = {key: value for key, value in given.items() if key not in _SHARED_OUT}
        code = _run_step(client, job_id, step, argv, alone=True)
    finally:
        allocation.give_back(client, job_id, code)
    return code


def _run_step(
    client: Client, job_id: str, given: Mapping[str, str], argv: Sequence[str], *, alone: bool = False
) -> int:
    pty = "pty" in given
    if "bcast" in given:
        argv = [broadcast_program(client, job_id, argv[0], given["bcast"]), *argv[1:]]
    _run_locally("prolog", given)
    listener = Listener(urlsplit(client.url).hostname or "127.0.0.1")
    fields = step_fields(given, argv, listening=True)
    if pty and sys.stdin.isatty():
        fields["streams"] |= dict(zip(("columns", "rows"), os.get_terminal_size(0), strict=True))
    fields["connection"] = listener.description()
    fields["release_allocation"] = alone
    step = create(client, job_id, fields, quiet="quiet" in given)
    output = StepOutput(
        step,
        label="label" in given and not pty,
        stdout=local_file(given, "output", job_id, step["step_id"]),
        stderr=local_file(given, "error", job_id, step["step_id"]),
        append=(given.get("open_mode") or "t")[0].lower() == "a",
        kill_on_bad_exit=given.get("kill_on_bad_exit", "0") != "0",
        quit_on_interrupt="quit_on_interrupt" in given or "disable_status" in given,
        no_kill="no_kill" in given,
        wait_s=whole_number(given, "wait"),
        quiet="quiet" in given,
    )
    with _input(given, job_id, step["step_id"], argv) as input_fd, raw_terminal(enabled=pty):
        link = StepLink(
            listener,
            {node["name"]: node["tasks"] for node in step["nodes"]},
            output,
            input_fd=input_fd,
            missing=lambda names: missing(client, job_id, step["step_id"], names),
            signals=(*_SIGNALS, signal.SIGWINCH) if pty else _SIGNALS,
        )
        output.link = link
        link.run()
    code = output.finish()
    _run_locally("epilog", given)
    return code


def _run_locally(key: str, given: Mapping[str, str]) -> None:
    """--prolog 与 --epilog：由 srun 自己在步的前后运行。"""
    program = given.get(key)
    if not program or program.lower() == "none":
        return
    try:
        subprocess.run([program], check=False)
    except OSError as error:
        say("srun", f"error: {key} {program}: {error.strerror}")


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
