"""srun 的选项：表、SLURM_* 变量，以及换成 API 的作业步。"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.batch_script import exported, gpu_fields
from scns_conductor.core.task_binding import cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.units import parse_memory_mb, parse_time_limit
from scns_conductor.slurm.batch_options import OPTIONS as BATCH_OPTIONS
from scns_conductor.slurm.options import Option, flags, option, values
from scns_conductor.slurm.session import Fatal

_NOT_HERE = frozenset(
    {"wrap", "array", "wait", "test_only", "parsable", "requeue", "no_requeue", "immediate", "no_kill", "overcommit"}
)
_REFUSED = [*values("--het-group", "--bcast-exclude"), *flags("-Z --no-allocate")]
MPI_TYPES = ("none", "pmi2")
REFUSED = {each.key: each.long[0] for each in _REFUSED if each.long}
OPTIONS: list[Option] = [
    *(each for each in BATCH_OPTIONS if each.key not in _NOT_HERE),
    *flags("-l --label", "-u --unbuffered", "--overlap", "--exact", "--multi-prog", "-X --disable-status",
           "--quit-on-interrupt", "-E --preserve-env", "-k --no-kill", "-O --overcommit", "--interactive",
           "--external-launcher"),
    *values("--mpi", "--jobid", "-W --wait", "-T --threads", "--slurmd-debug", "--task-prolog", "--task-epilog",
            "--prolog", "--epilog", "-r --relative", "--msg-timeout", "--resv-ports", "--accel-bind"),
    option("--bcast", "optional"),
    option("--send-libs", "optional"),
    option("--compress", "optional"),
    option("--pty", "optional"),
    option("-K --kill-on-bad-exit", "optional"),
    option("-I --immediate", "optional"),
    *_REFUSED,
]  # fmt: skip
# srun(1) 的 INPUT ENVIRONMENT VARIABLES。
_VARIABLES = {
    "SLURM_NTASKS": "ntasks", "SLURM_NTASKS_PER_NODE": "ntasks_per_node", "SRUN_CPUS_PER_TASK": "cpus_per_task",
    "SLURM_LABELIO": "label", "SLURM_OVERLAP": "overlap", "SLURM_EXACT": "exact", "SLURM_KILL_BAD_EXIT":
    "kill_on_bad_exit", "SLURM_STDOUTMODE": "output", "SLURM_STDERRMODE": "error", "SLURM_STDINMODE": "input",
    "SLURM_WORKING_DIR": "chdir", "SLURM_MPI_TYPE": "mpi", "SLURM_DISTRIBUTION": "distribution",
    "SRUN_EXPORT_ENV": "export", "SLURM_EXPORT_ENV": "export", "SLURM_OPEN_MODE": "open_mode",
    "SLURM_DISABLE_STATUS": "disable_status", "SLURM_WAIT": "wait", "SLURM_THREADS": "threads",
    "SLURM_UNBUFFEREDIO": "unbuffered", "SLURM_CPU_BIND": "cpu_bind", "SLURM_GPU_BIND": "gpu_bind",
    "SLURM_TASK_PROLOG": "task_prolog", "SLURM_TASK_EPILOG": "task_epilog", "SLURM_PROLOG": "prolog",
    "SLURM_EPILOG": "epilog", "SLURM_BCAST": "bcast", "SLURM_NO_KILL": "no_kill", "SLURM_OVERCOMMIT": "overcommit",
}  # fmt: skip
_ALONE_VARIABLES = {
    "SLURM_PARTITION": "partition", "SLURM_ACCOUNT": "account", "SLURM_QOS": "qos", "SLURM_TIMELIMIT": "time",
    "SLURM_CONSTRAINT": "constraint", "SLURM_GRES": "gres", "SLURM_RESERVATION": "reservation",
    "SLURM_IMMEDIATE": "immediate", "SLURM_EXCLUSIVE": "exclusive", "SLURM_JOB_NAME": "job_name",
}  # fmt: skip
_PER_TASK = re.compile(r"%\d*[tnN]")


def given_options(pairs: Sequence[tuple[str, str]], environment: Mapping[str, str], *, alone: bool) -> dict[str, str]:
    """命令行胜过变量。布尔的变量写 0 表示没有。"""
    table = {**_VARIABLES, **(_ALONE_VARIABLES if alone else {})}
    flag_keys = {each.key for each in OPTIONS if each.takes == "none"}
    found: dict[str, str] = {}
    for name, key in table.items():
        value = environment.get(name)
        if value and not (key in flag_keys and value in ("0", "no")):
            found[key] = value
    given = {**found, **dict(pairs)}
    for key, name in REFUSED.items():
        if key in given:
            raise Fatal(f"--{name} is not supported by this system")
    mpi = given.get("mpi", "none").lower()
    if mpi == "openmpi":
        mpi = "none"
    if mpi not in MPI_TYPES:
        raise Fatal(f"MPI plugin type {mpi} is not supported by this system; use --mpi=list for a list of valid types")
    given["mpi"] = mpi
    if mpi != "none":
        # 一个任务死了，别的会在 MPI 里永远等它。
        given.setdefault("kill_on_bad_exit", "1")
    if given.get("send_libs", "no").lower() not in ("no", "n"):
        raise Fatal("--send-libs is not supported by this system")
    written = dict(pairs)
    if "ntasks" not in written and "ntasks_per_node" in written:
        # 另写了每节点任务数的，不沿用作业的任务数。
        given.pop("ntasks", None)
    return given


def whole_number(given: Mapping[str, str], key: str) -> int:
    """不小于 0 的整数；没有写是 0，写错了抛 Fatal。"""
    text = given.get(key) or "0"
    if not re.fullmatch(r"\+?\d{1,9}", text):
        raise Fatal(f'Invalid numeric value "{text}" for --{key.replace("_", "-")}.')
    return int(text)


def _positive(given: Mapping[str, str], key: str) -> int | None:
    text = given.get(key)
    if text is None:
        return None
    if not re.fullmatch(r"\+?\d{1,9}", text) or int(text) < 1:
        raise Fatal(f'Invalid numeric value "{text}" for --{key.replace("_", "-")}.')
    return int(text)


def step_fields(given: Mapping[str, str], argv: Sequence[str], *, listening: bool) -> dict[str, Any]:
    """选项 -> API 的作业步（connection 除外）。写错了抛 Fatal。"""
    nodes = given.get("nodes")
    if nodes is not None and not re.fullmatch(r"[1-9]\d{0,8}(-[1-9]\d{0,8})?", nodes):
        raise Fatal(f'"{nodes}" is not a valid node count', "invalid node count `-N'")
    overlap = "overlap" in given
    step: dict[str, Any] = {
        "argv": list(argv),
        "tasks": _positive(given, "ntasks"),
        "nodes": int(nodes.partition("-")[0]) if nodes else None,
        "tasks_per_node": _positive(given, "ntasks_per_node"),
        "cpus_per_task": _positive(given, "cpus_per_task") or 1,
        "node_list": given.get("nodelist"),
        "cyclic": (given.get("distribution") or "").startswith("cyclic"),
        # -c 与 --exclusive 都含 --exact（srun(1)）。
        "exact": not overlap and ("exact" in given or "exclusive" in given or "cpus_per_task" in given),
        "overlap": overlap,
        "current_working_directory": os.path.abspath(given.get("chdir") or os.getcwd()),
        "environment": exported(given.get("export") or "ALL", os.environ),
        "relative": whole_number(given, "relative") or None,
        "overcommit": "overcommit" in given or None,
        "mpi": given.get("mpi"),
        **_resources(given),
        **{name: _program(given[name]) for name in ("task_prolog", "task_epilog") if given.get(name)},
        "streams": _streams(given, listening=listening),
    }
    if "job_name" in given:
        step["name"] = given["job_name"]
    if given.get("time"):
        try:
            step["time_limit"] = parse_time_limit(given["time"])
        except ValueError:
            raise Fatal("Invalid --time specification") from None
    if "multi_prog" in given:
        step.setdefault("name", os.path.basename(argv[0]))
        step["multi_prog"], step["argv"] = multi_prog(argv[0])
        step["argv"] = step["argv"] or ["false"]
        ranks = [int(rank) for rank in step["multi_prog"]]
        step["tasks"] = step["tasks"] or (max(ranks) + 1 if ranks else None)
    return {name: value for name, value in step.items() if value is not None}


def _resources(given: Mapping[str, str]) -> dict[str, Any]:
    """--gpus*、--gres、--mem*、--cpu-bind、--gpu-bind。"""
    found: dict[str, Any] = {
        {"tres_per_job": "tres_per_step"}.get(name, name): text for name, text in gpu_fields(given).items()
    }
    if given.get("gres", "").lower() == "none":
        found["tres_per_node"] = "none"
    names = {"mem": "memory_per_node", "mem_per_cpu": "memory_per_cpu", "mem_per_gpu": "memory_per_gpu"}
    for key, name in names.items():
        if given.get(key):
            try:
                parse_memory_mb(given[key])
            except ValueError:
                raise Fatal(f"Invalid --{key.replace('_', '-')} specification") from None
            found[name] = given[key]
    for key, check in (("cpu_bind", cpu_bind_mode), ("gpu_bind", lambda text: gpu_bind_mode(text, 0))):
        if given.get(key):
            try:
                check(given[key])
            except ValueError:
                raise Fatal(f"Invalid --{key.replace('_', '-')} argument: {given[key]}") from None
            found[key] = given[key]
    return found


def _program(path: str) -> str:
    """--task-prolog 的程序：相对的路径从当前目录算起。"""
    return os.path.abspath(path) if "/" in path else path


def _streams(given: Mapping[str, str], *, listening: bool) -> dict[str, Any]:
    """每个任务各有文件的（%t、%n、%N）由节点写；其余的由 srun 自己写。"""
    found: dict[str, Any] = {"append": (given.get("open_mode") or "t")[0].lower() == "a"}
    for key, name in (("input", "stdin"), ("output", "stdout"), ("error", "stderr")):
        pattern = given.get(key)
        if pattern and (pattern == "none" or _PER_TASK.search(pattern) or (key == "input" and pattern.isdigit())):
            found[name] = pattern
    if "stdout" in found and "stderr" not in found and given.get("error"):
        # 标准输出归节点写，标准错误仍归 srun。
        found["stderr"] = "all"
    if "pty" in given and listening:
        found["pty"] = True
    return found


def local_file(given: Mapping[str, str], key: str, job_id: str, step_id: int) -> str | None:
    """srun 自己读写的文件；没有写、或归节点管的是 None。"""
    pattern = given.get(key)
    if not pattern or pattern in ("none", "all") or _PER_TASK.search(pattern) or (key == "input" and pattern.isdigit()):
        return None
    values = {"j": job_id, "J": f"{job_id}.{step_id}", "s": str(step_id), "A": job_id, "%": "%",
              "u": os.environ.get("USER", ""), "x": given.get("job_name", "")}  # fmt: skip
    return re.sub(r"%(\d*)([jJsAux%])", lambda match: values[match[2]].zfill(int(match[1] or 0)), pattern)


def multi_prog(path: str) -> tuple[dict[str, list[str]], list[str]]:
    """--multi-prog 的文件：任务序号（0、1-3、*）与命令；%t 是序号，%o 是在这一行里的次序。"""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().replace("\\\n", " ").splitlines()
    except OSError as error:
        raise Fatal(f"Unable to open configuration file {path}: {error.strerror}") from None
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if len(words) < 2:
            raise Fatal(f"Invalid line in configuration file {path}: {line}")
        if words[0] == "*":
            rest = words[1:]
            continue
        offset = 0
        for part in words[0].split(","):
            first, _, last = part.partition("-")
            if not first.isdigit() or (last and not last.isdigit()):
                raise Fatal(f"Invalid task range specification ({words[0]}) in {path}")
            for rank in range(int(first), int(last or first) + 1):
                found[str(rank)] = [word.replace("%o", str(offset)) for word in words[1:]]
                offset += 1
    return found, rest
