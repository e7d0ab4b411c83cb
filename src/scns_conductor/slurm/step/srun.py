"""srun：在分配里启动作业步；不在分配里就先申请一份，做完交还（srun(1)）。"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scns_conductor.client import JsonClient
from scns_conductor.core.step_wire import component_of_place
from scns_conductor.slurm.session import Fatal, connect, current_umask, say
from scns_conductor.slurm.step.broadcast import broadcast_program
from scns_conductor.slurm.step.het_groups import het_groups
from scns_conductor.slurm.step.multi_prog import multi_prog
from scns_conductor.slurm.step.srun_link import Listener, StepLink
from scns_conductor.slurm.step.srun_options import (
    MPI_TYPES,
    OPTIONS,
    given_options,
    local_file,
    node_range,
    step_fields,
    stream_kind,
    whole_number,
)
from scns_conductor.slurm.step.step_creation import create, create_together, missing, missing_together
from scns_conductor.slurm.step.step_output import StepOutput
from scns_conductor.slurm.step.task_files import Destination
from scns_conductor.slurm.step.terminal import raw_terminal
from scns_conductor.slurm.step.x11_display import X11Display, display_of
from scns_conductor.slurm.submit import allocation
from scns_conductor.slurm.submit.batch_options import BAD_OPTION, job_fields
from scns_conductor.slurm.submit.het_components import Pairs, of_group, parse_commands, propagated
from scns_conductor.slurm.submit.sbatch import plan_only
from scns_conductor.slurm.submit.verbosity import tell_allocation, tell_job, tell_options, tell_request, tell_step

_USAGE = "Usage: srun [OPTIONS(0)... [executable(0) [args(0)...]]] [ : [OPTIONS(N)...]] executable(N) [args(N)...]"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# 只属于作业步的选项：申请分配时不带。
_STEP_ONLY = frozenset(
    {"output", "error", "input", "export", "open_mode", "chdir", "overcommit", "no_kill", "wait", "immediate",
     "task_hosts", "x11"}
)  # fmt: skip
_TOLD_NODE = ("SLURM_GRES_FLAGS",)
# 只属于分配：自己申请的分配里就这一步，不必再分。
_SHARED_OUT = frozenset({"gpus", "gpus_per_node", "gres", "mem", "mem_per_cpu", "mem_per_gpu"})


def main(words: list[str]) -> int:
    """返回各任务退出码的最大值；被信号杀死的是 128 加信号。"""
    pieces = parse_commands("srun", words, OPTIONS, code=BAD_OPTION)
    first = pieces[0]
    if "help" in first or "usage" in first:
        print(_USAGE)
        return 0
    if first.last("mpi") == "list":
        print("MPI plugin types are...", *MPI_TYPES, sep="\n\t", file=sys.stderr)
        return 0
    if not all(piece.arguments for piece in pieces):
        raise Fatal("No command given to execute.", prefix="fatal: ")
    lines = propagated(piece.pairs for piece in pieces)
    inside = first.last("jobid") or os.environ.get("SLURM_JOB_ID") or os.environ.get("SLURM_JOBID")
    alone = inside is None or "test_only" in first
    with connect() as client:
        groups = het_groups(client, None if alone else inside, [dict(line).get("het_group") for line in lines])
        parts = [
            _part(group, lines[index], pieces[index].arguments, inside, alone=alone, several=len(groups) > 1)
            for index, group in groups
        ]
        if "test_only" in parts[0].given:
            return max(
                plan_only(client, _job(part.given, part.argv), "", "srun", quiet="quiet" in part.given)
                for part in parts
            )
        x11 = display_of(parts[0].given, os.environ, "srun")
        if inside is not None:
            return _run_step(client, inside, parts, x11)
        return _run_alone(client, parts, x11)


@dataclass(slots=True)
class _Part:
    """一步在异构作业一个部分里的那一份；group 为 None 是平常的作业。"""

    group: int | None
    given: dict[str, str]
    argv: list[str]


def _part(group: int | None, line: Pairs, argv: list[str], inside: str | None, *, alone: bool, several: bool) -> _Part:
    environment = os.environ if group is None or alone else of_group(os.environ, group)
    given = given_options(line, environment, alone=alone)
    if alone and "relative" in given:
        raise Fatal("--relative option invalid for job allocation request", prefix="fatal: ")
    if several and ("pty" in given or "bcast" in given):
        name = "pty" if "pty" in given else "bcast"
        raise Fatal(f"--{name} is not supported with several heterogeneous job components")
    if "multi_prog" in given and "ntasks" not in given:
        given["ntasks"] = str(len(multi_prog(argv, None)))
    tell_options("srun", given, line, "SLURM_DEBUG")
    _fewer_nodes(given, inside, environment)
    return _Part(group, given, list(argv))


def _fewer_nodes(given: dict[str, str], inside: str | None, environment: Mapping[str, str]) -> None:
    """任务比节点少时少用几个节点；-N、-r 超出作业的节点照 Slurm 拒绝。"""
    least, _ = node_range(given)
    own = inside is not None and inside in (os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOBID"))
    held = int(environment.get("SLURM_JOB_NUM_NODES") or environment.get("SLURM_NNODES") or 0) if own else 0
    wanted, tasks = least or held, whole_number(given, "ntasks")
    if tasks and tasks < wanted:
        if "quiet" not in given:
            say("srun", f"Warning: can't run {tasks} processes on {wanted} nodes, setting nnodes to {tasks}")
        if least:
            given["nodes"] = str(tasks)
        wanted = tasks
    first = whole_number(given, "relative")
    if held and first and first + wanted > held:
        raise Fatal(
            f"--relative and --nodes option incompatible with count of allocated nodes ({first}+{wanted}>{held})"
        )
    if held and least and least > held:
        raise Fatal(f"Only allocated {held} nodes asked for {least}")


def _job(given: Mapping[str, str], argv: Sequence[str]) -> dict[str, Any]:
    """自己申请的分配。"""
    job = job_fields({key: value for key, value in given.items() if key not in _STEP_ONLY}, os.environ)
    if "overcommit" in given:
        # 每个节点一个 CPU 就够开始；任务都挤在上面。
        job["tasks"] = int((given.get("nodes") or "1").partition("-")[0])
    hosts = given["task_hosts"].split(",") if "task_hosts" in given else []
    if hosts:
        # 每个节点都按最多的那个要：列表怎样重复都放得下。
        job["tasks_per_node"] = max(map(hosts.count, hosts))
        job["nodes"] = str(len(set(hosts)))
        job["tasks"] = job["tasks_per_node"] * len(set(hosts))
    # 任务的环境由步带着；这里只有说给节点听的。
    job["environment"] = {name: job["environment"][name] for name in _TOLD_NODE if name in job["environment"]}
    job["umask"] = current_umask()
    job.setdefault("name", os.path.basename(argv[0]))
    job["current_working_directory"] = os.path.abspath(given.get("chdir") or os.getcwd())
    return job


def _run_alone(client: JsonClient, parts: Sequence[_Part], x11: X11Display | None) -> int:
    given = parts[0].given
    jobs, immediate = [_job(part.given, part.argv) for part in parts], allocation.immediate_s(given)
    try:
        found = allocation.request(client, "srun", jobs, immediate=immediate, quiet="quiet" in given)
    except allocation.Revoked as revoked:
        return 128 + revoked.number if revoked.number else 1
    job_id = str(found[0]["job_id"])
    if "verbose" in given:
        for job in found:
            tell_job("srun", job)
    code = 1
    try:
        steps = [
            _Part(part.group, {key: value for key, value in part.given.items() if key not in _SHARED_OUT}, part.argv)
            for part in parts
        ]
        code = _run_step(client, job_id, steps, x11, alone=True)
    finally:
        allocation.give_back(client, job_id, code)
    return code


def _run_step(
    client: JsonClient, job_id: str, parts: Sequence[_Part], x11: X11Display | None, *, alone: bool = False
) -> int:
    given, argv, several = parts[0].given, parts[0].argv, len(parts) > 1
    pty, quiet, immediate = "pty" in given, "quiet" in given, allocation.immediate_s(given)
    if not several and parts[0].group:
        job_id = f"{job_id}+{parts[0].group}"
    if "bcast" in given:
        argv = [broadcast_program(client, job_id, argv[0], given["bcast"]), *argv[1:]]
    _run_locally("prolog", given)
    listener = Listener(urlsplit(client.url).hostname or "127.0.0.1")
    wanted = []
    for part in parts:
        fields = step_fields(part.given, argv if part is parts[0] else part.argv, listening=True)
        fields["connection"] = listener.description()
        fields["release_allocation"] = alone
        if x11 is not None:
            fields["x11"] = x11.description()
        wanted.append((part.group or 0, fields))
    if pty and sys.stdin.isatty():
        wanted[0][1]["streams"] |= dict(zip(("columns", "rows"), os.get_terminal_size(0), strict=True))
    for _group, fields in wanted:
        tell_request("srun", int(given.get("verbose", "0")), job_id, fields)
    if several:
        step = create_together(client, job_id, wanted, quiet=quiet, immediate=immediate)
    else:
        step = create(client, job_id, wanted[0][1], quiet=quiet, immediate=immediate)
    head, step_id = str(step["job_id"]), step["step_id"]
    absent = missing_together if several else missing
    if "verbose" in given:
        if not alone:
            own = os.environ if parts[0].group is None else of_group(os.environ, parts[0].group)
            named = (own.get(name, "") for name in ("SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE"))
            tell_allocation("srun", head, *named)
        tell_step("srun", step)
    output = StepOutput(
        step,
        label="label" in given and not pty,
        files=[_destination(part, step, head, several=several) for part in parts],
        kill_on_bad_exit=given.get("kill_on_bad_exit", "0") != "0",
        kill_on_kill=given.get("oom_kill_step", "0") != "0",
        quit_on_interrupt="quit_on_interrupt" in given or "disable_status" in given,
        no_kill="no_kill" in given,
        wait_s=whole_number(given, "wait"),
        quiet=quiet,
        verbose="verbose" in given,
    )
    with _input(given, head, step_id, argv) as input_fd, raw_terminal(enabled=pty):
        link = StepLink(
            listener,
            {node["name"]: node["tasks"] for node in step["nodes"]},
            output,
            input_fd=input_fd,
            missing=lambda names: absent(client, head, step_id, names),
            signals=(*_SIGNALS, signal.SIGWINCH) if pty else _SIGNALS,
            x11=x11,
        )
        output.link = link
        link.run()
    code = output.finish()
    _run_locally("epilog", given)
    return code


def _destination(part: _Part, step: Mapping[str, Any], job_id: str, *, several: bool) -> Destination:
    """一个部分的任务，输出写到它自己的 -o、-e 的文件。"""
    ranks = [
        rank
        for node in step["nodes"]
        if not several or component_of_place(node["name"]) == (part.group or 0)
        for rank in node["tasks"]
    ]
    out, error = (local_file(part.given, key, job_id, step["step_id"]) for key in ("output", "error"))
    return Destination(ranks, out, error, (part.given.get("open_mode") or "t")[0].lower() == "a")


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
    kind = stream_kind(given, "input")
    path = local_file(given, "input", job_id, step_id)
    if path is None:
        # 由节点做的里，只给一个任务的（-i 序号）仍从这里读。
        yield 0 if kind == "all" or (kind == "node" and given["input"].isdigit()) else None
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Fatal(f"Could not open stdin file: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)
