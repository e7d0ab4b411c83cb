"""srun 的选项：表、SLURM_* 变量，以及换成 API 的作业步。"""

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.batch_script import exported, gpu_fields, not_exported
from scns_conductor.core.distribution import socket_order, task_order
from scns_conductor.core.hostlist import MAX_HOSTS, expand, split_hostlist
from scns_conductor.core.memory_binding import memory_bind
from scns_conductor.core.output_path import OutputFields, expand_output_path
from scns_conductor.core.preserved_environment import PRESERVE_VARIABLE, PRESERVED
from scns_conductor.core.task_binding import cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.units import parse_memory_mb
from scns_conductor.slurm.parse.options import Option, flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal, current_umask, warn_not_exported
from scns_conductor.slurm.step.multi_prog import MOST_TASKS, multi_prog
from scns_conductor.slurm.submit import newer_options
from scns_conductor.slurm.submit.batch_derived import nodes_in
from scns_conductor.slurm.submit.batch_hints import check_hints
from scns_conductor.slurm.submit.batch_options import ARBITRARY_VARIABLE, BAD_OPTION, whole_minutes
from scns_conductor.slurm.submit.batch_options import OPTIONS as BATCH_OPTIONS
from scns_conductor.slurm.submit.node_orders import limit_variables, oom_variables
from scns_conductor.slurm.submit.unmet_options import warn_unmet

_NOT_HERE = frozenset(
    {"wrap", "array", "wait", "parsable", "requeue", "no_requeue", "immediate", "no_kill", "overcommit"}
)
_REFUSED = refused(
    values("--bcast-exclude"),
    flags("-Z --no-allocate"),
    [option("--send-libs", "optional")],
)
MPI_TYPES = ("none", "pmi2", "pmix")
REFUSED = {
    each.key: each.long[0]
    for each in (*_REFUSED, *newer_options.REFUSED, *newer_options.STEP_REFUSED)
    if each.key != "send_libs"
}
OPTIONS: list[Option] = [
    *(each for each in BATCH_OPTIONS if each.key not in {*_NOT_HERE, "get_user_env"}),
    *hints(each for each in BATCH_OPTIONS if each.key == "get_user_env"),
    *flags("-l --label", "-u --unbuffered", "--overlap", "--exact", "--multi-prog", "-X --disable-status",
           "--quit-on-interrupt", "-O --overcommit"),
    *values("--mpi", "--jobid", "-W --wait", "--task-prolog", "--task-epilog", "--prolog", "--epilog",
            "-r --relative", "--cpu-bind", "--het-group --pack-group"),
    *flags("-E --preserve-env"),
    *values("--accel-bind"),
    *hints(flags("--interactive"), [option("--compress", "optional")],
           values("-T --threads", "--slurmd-debug", "--msg-timeout")),
    option("--bcast", "optional"),
    option("--pty", "optional"),
    option("--x11", "optional"),
    option("-K --kill-on-bad-exit", "optional"),
    option("-I --immediate", "optional"),
    option("-k --no-kill", "optional"),
    *_REFUSED,
    *newer_options.STEP_REFUSED,
    *newer_options.STEP_WORKING,
    *newer_options.STEP_HINTS,
]  # fmt: skip
# srun(1) 的 INPUT ENVIRONMENT VARIABLES；排在后面的胜过前面的。
_VARIABLES = {
    "SLURM_NPROCS": "ntasks", "SLURM_NTASKS": "ntasks", "SLURM_NTASKS_PER_NODE": "ntasks_per_node",
    "SRUN_CPUS_PER_TASK": "cpus_per_task",
    "SLURM_LABELIO": "label", "SLURM_OVERLAP": "overlap", "SLURM_EXACT": "exact", "SLURM_KILL_BAD_EXIT":
    "kill_on_bad_exit", "SLURM_STDOUTMODE": "output", "SLURM_STDERRMODE": "error", "SLURM_STDINMODE": "input",
    "SLURM_REMOTE_CWD": "chdir", "SLURM_WORKING_DIR": "chdir", "SLURM_MPI_TYPE": "mpi",
    "SLURM_DISTRIBUTION": "distribution", "SLURM_EXPORT_ENV": "export", "SRUN_EXPORT_ENV": "export",
    "SLURM_OPEN_MODE": "open_mode", "SLURM_DISABLE_STATUS": "disable_status", "SLURM_WAIT": "wait",
    "SLURM_THREADS": "threads", "SLURM_UNBUFFEREDIO": "unbuffered", "SLURM_CPU_BIND": "cpu_bind",
    "SLURM_GPU_BIND": "gpu_bind", "SLURM_TRES_BIND": "tres_bind", "SLURM_STEP_GRES": "gres",
    "SLURM_TASK_PROLOG": "task_prolog", "SLURM_TASK_EPILOG": "task_epilog", "SLURM_PROLOG": "prolog",
    "SLURM_EPILOG": "epilog", "SLURM_BCAST": "bcast", "SLURM_NO_KILL": "no_kill", "SLURM_OVERCOMMIT": "overcommit",
    "SLURM_IMMEDIATE": "immediate", "SLURM_HINT": "hint", "SLURM_THREADS_PER_CORE": "threads_per_core",
    "SLURM_MEM_BIND": "mem_bind", "SLURM_OOM_KILL_STEP": "oom_kill_step", "SLURM_GRES_FLAGS": "gres_flags",
    "SLURM_RESV_PORTS": "resv_ports", "SLURM_PRESERVE_ENV": "preserve_env",
    "SLURM_CONTAINER": "container", "SRUN_CONTAINER": "container",
    "SLURM_CONTAINER_IMAGE": "container_image", "SRUN_CONTAINER_IMAGE": "container_image",
}  # fmt: skip
# 只在没有分配、要申请一份时看：分配里的这些变量说的是作业，不是步。
_ALONE_VARIABLES = {
    "SLURM_PARTITION": "partition", "SLURM_ACCOUNT": "account", "SLURM_QOS": "qos", "SLURM_TIMELIMIT": "time",
    "SLURM_CONSTRAINT": "constraint", "SLURM_GRES": "gres", "SLURM_RESERVATION": "reservation",
    "SLURM_EXCLUSIVE": "exclusive", "SLURM_JOB_NAME": "job_name", "SLURM_NNODES": "nodes",
    "SLURM_JOB_NUM_NODES": "nodes", "SLURM_GPUS": "gpus", "SLURM_GPUS_PER_NODE": "gpus_per_node",
    "SLURM_GPUS_PER_TASK": "gpus_per_task", "SLURM_MEM_PER_CPU": "mem_per_cpu", "SLURM_MEM_PER_GPU": "mem_per_gpu",
    "SLURM_MEM_PER_NODE": "mem", "SLURM_CPUS_PER_GPU": "cpus_per_gpu", "SLURM_NTASKS_PER_GPU": "ntasks_per_gpu",
    "SLURM_SIGNAL": "signal", "SLURM_REQ_SWITCH": "switches", "SLURM_WCKEY": "wckey",
    "SLURM_DEPENDENCY": "dependency", "SLURM_CORE_SPEC": "core_spec", "SLURM_THREAD_SPEC": "thread_spec",
    "SLURM_CLUSTERS": "clusters", "SLURM_BURST_BUFFER": "bb", "SLURM_WAIT4SWITCH": "wait4switch",
    "SLURM_CONTAINER_ID": "container_id",
}  # fmt: skip
_PER_TASK = re.compile(r"%\d*[tnN]")


def given_options(pairs: Sequence[tuple[str, str]], environment: Mapping[str, str], *, alone: bool) -> dict[str, str]:
    """命令行胜过变量。"""
    table = {**_VARIABLES, **(_ALONE_VARIABLES if alone else {})}
    flag_keys = {each.key for each in OPTIONS if each.takes == "none"}
    found: dict[str, str] = {}
    for name, key in table.items():
        value = environment.get(name)
        if value is not None and (_switched_on(value) if key in flag_keys else value):
            found[key] = value
    given = {**found, **dict(pairs)}
    _one_container(given, dict(pairs))
    for key, name in REFUSED.items():
        if key in given:
            raise Fatal(f"--{name} is not supported by this system")
    given = newer_options.gpu_bound(given)
    _accelerators(given)
    if not alone:
        # 分配之外的由 job_fields 看。
        check_hints(dict(pairs))
        warn_unmet(dict(pairs))
    if "external_launcher" in given:
        given.setdefault("overlap", "")
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
    if given.get("no_kill") == "off":
        del given["no_kill"]
    written = dict(pairs)
    if "ntasks" not in written and "ntasks_per_node" in written:
        # 另写了每节点任务数的，不沿用作业的任务数。
        given.pop("ntasks", None)
    if given.get("nodefile"):
        given["nodelist"] = nodes_in(given.pop("nodefile"))
    _name_the_nodes(given, environment)
    if "relative" in given and ("nodelist" in given or "exclude" in given):
        raise Fatal("-r,--relative not allowed with -w,--nodelist or -x,--exclude.")
    return given


def _accelerators(given: dict[str, str]) -> None:
    """--accel-bind：g 是挨着任务的核的卡（--gpu-bind=closest），v 说出来；n 是网卡，任务总看得见全部。"""
    text = given.get("accel_bind")
    if text is None:
        return
    if not re.fullmatch(r"[gnv,]+", text, re.IGNORECASE):
        raise Fatal(f"Invalid --accel-bind specification: {text}", code=BAD_OPTION)
    if "g" in text.lower():
        given.setdefault("gpu_bind", ("verbose," if "v" in text.lower() else "") + "closest")


def _one_container(given: dict[str, str], written: Mapping[str, str]) -> None:
    """命令行写了一种的，不看变量里（作业的）另一种。"""
    for own, other in (("container", "container_image"), ("container_image", "container")):
        if own in written and other not in written:
            given.pop(other, None)


def _switched_on(value: str) -> bool:
    """没有值的选项的变量：空的、yes、不为 0 的数才算写了（srun(1)）。"""
    return value in ("", "yes") or (value.isdigit() and int(value) != 0)


def _name_the_nodes(given: dict[str, str], environment: Mapping[str, str]) -> None:
    """-w、-x 的文件与 n1*2；-m arbitrary 的列表在 task_hosts 里，逗号相隔、逐个任务一个。"""
    for key in ("nodelist", "exclude"):
        if "/" in given.get(key, ""):
            given[key] = nodes_in(given[key])
    file = environment.get("SLURM_HOSTFILE")
    arbitrary = given.get("distribution", "").lower().startswith("arbitrary")
    if file and "nodelist" not in given:
        given["nodelist"], arbitrary = nodes_in(file), True
    if arbitrary and "nodelist" not in given and environment.get(ARBITRARY_VARIABLE):
        # 作业的列表；要的任务少的用前面的。
        listed = environment[ARBITRARY_VARIABLE].split(",")
        given["nodelist"] = ",".join(listed[: int(given["ntasks"])] if given.get("ntasks", "").isdecimal() else listed)
    if not arbitrary and "*" not in given.get("nodelist", ""):
        return
    if "nodelist" not in given:
        raise Fatal("With Arbitrary distribution you need to specify a nodelist or hostfile with the -w option")
    hosts: list[str] = []
    try:
        for word in split_hostlist(given["nodelist"]):
            name, star, times = word.partition("*")
            if star and not (times.isdecimal() and 0 < int(times[:6]) <= MAX_HOSTS):
                raise ValueError(word)
            hosts += expand(name, (MAX_HOSTS - len(hosts)) // int(times or 1)) * int(times or 1)
    except ValueError:
        raise Fatal(f'Invalid node list "{given["nodelist"][:64]}"') from None
    given["nodelist"] = ",".join(dict.fromkeys(hosts))
    if arbitrary:
        given["task_hosts"] = ",".join(hosts)
        given.setdefault("ntasks", str(len(hosts)))
        if given["ntasks"].isdigit() and int(given["ntasks"]) > len(hosts):
            raise Fatal("Too few NodeNames in Slurm Hostfile", "Failure getting NodeNames from hostfile")


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
    overlap = "overlap" in given
    least, most = node_range(given)
    step: dict[str, Any] = {
        "argv": list(argv),
        "tasks": _positive(given, "ntasks"),
        "nodes": least,
        "most_nodes": most,
        "tasks_per_node": _positive(given, "ntasks_per_node"),
        "cpus_per_task": _positive(given, "cpus_per_task") or 1,
        "node_list": given.get("nodelist"),
        "excluded_nodes": given.get("exclude"),
        **_order(given),
        # -c 与 --exclusive 都含 --exact（srun(1)）。
        "exact": not overlap and ("exact" in given or "exclusive" in given or "cpus_per_task" in given),
        "overlap": overlap,
        "current_working_directory": os.path.abspath(given.get("chdir") or os.getcwd()),
        "environment": _exported(given.get("export") or "ALL") | _told(given),
        "inherit_environment": False,
        "umask": current_umask(),
        "relative": whole_number(given, "relative") or None,
        "overcommit": "overcommit" in given or None,
        "threads_per_core": _threads(given),
        "mpi": given.get("mpi"),
        **_resources(given),
        **{name: _program(given[name]) for name in ("task_prolog", "task_epilog") if given.get(name)},
        "streams": _streams(given, listening=listening),
    }
    ports = given.get("resv_ports", "0") or "auto"
    if not re.fullmatch(r"auto|\d{1,5}", ports):
        raise Fatal("Invalid --resv-ports specification", code=BAD_OPTION)
    if int(ports if ports != "auto" else 1):
        # 没有写几个的照任务数。
        step["resv_ports"] = 0 if ports == "auto" else int(ports)
    if given.get("container"):
        step["container"] = os.path.abspath(given["container"])
    if given.get("container_image"):
        step["container_image"] = given["container_image"]
    if "job_name" in given:
        step["name"] = given["job_name"]
    if given.get("time"):
        try:
            minutes = whole_minutes(given["time"])
        except ValueError:
            raise Fatal("Invalid --time specification", code=BAD_OPTION) from None
        step["time_limit"] = None if minutes == "UNLIMITED" else int(minutes) * 60
    if "multi_prog" in given:
        step.setdefault("name", os.path.basename(argv[0]))
        step["multi_prog"] = multi_prog(argv, step["tasks"])
        step["argv"] = step["multi_prog"]["0"]
        step["tasks"] = len(step["multi_prog"])
    return {name: value for name, value in step.items() if value is not None}


def _threads(given: Mapping[str, str]) -> int | None:
    """一个核用几个线程：--threads-per-core，或 --hint。"""
    threads = _positive(given, "threads_per_core")
    hints = set(given.get("hint", "").lower().split(","))
    return 1 if threads is None and hints & {"nomultithread", "compute_bound", "memory_bound"} else threads


def node_range(given: Mapping[str, str]) -> tuple[int | None, int | None]:
    """-N 的最少与最多；写错了抛 Fatal。"""
    text = given.get("nodes")
    if text is None:
        return None, None
    if not re.fullmatch(r"[1-9]\d{0,8}(-[1-9]\d{0,8})?", text):
        raise Fatal(f'"{text}" is not a valid node count', "invalid node count `-N'", code=BAD_OPTION)
    low, _, high = text.partition("-")
    if high and int(high) < int(low):
        raise Fatal(f"Maximum node count {high} is less than minimum node count {low}", code=BAD_OPTION)
    return int(low), int(high or low)


def _exported(text: str) -> dict[str, str]:
    """--export；与 sbatch 不同，ALL 里有的胜过同时写出的值（srun(1)）。"""
    for name in not_exported(text, os.environ):
        warn_not_exported(name)
    chosen = exported(text, os.environ)
    return chosen | exported("ALL", os.environ) if "ALL" in text.upper().split(",") else chosen


def _order(given: Mapping[str, str]) -> dict[str, Any]:
    """-m：怎样摆任务。"""
    if "task_hosts" in given:
        return {"task_hosts": given["task_hosts"].split(",")}
    order = given.get("distribution") if socket_order(given.get("distribution")) else None
    try:
        plane, pack = task_order(given.get("distribution"), os.environ.get("SLURM_DIST_PLANESIZE"))
    except ValueError:
        plane_only = (given.get("distribution") or "").lower() == "plane"
        lines = ["Invalid plane size or size not specified"] if plane_only else []
        raise Fatal(*lines, "Invalid --distribution specification", code=BAD_OPTION) from None
    return {"plane": plane, "pack": pack, "distribution": order}


def _told(given: Mapping[str, str]) -> dict[str, str]:
    """选项里要告诉任务的（srun(1) 的 OUTPUT ENVIRONMENT VARIABLES）；没有写的沿用作业的。"""
    found = {"SLURM_UMASK": f"{current_umask():04o}", "SRUN_DEBUG": "3"} | limit_variables(given) | oom_variables(given)
    for key, name in (("cpus_per_task", "SLURM_CPUS_PER_TASK"), ("distribution", "SLURM_DISTRIBUTION")):
        if given.get(key):
            found[name] = given[key]
    if "overcommit" in given:
        found["SLURM_OVERCOMMIT"] = "1"
    if "preserve_env" in given:
        found |= {PRESERVE_VARIABLE: "1"} | {name: os.environ[name] for name in PRESERVED if name in os.environ}
    if given.get("cpu_bind"):
        how, mode = re.fullmatch(r"(?:(v|verbose|q|quiet),)?(.*)", given["cpu_bind"]).groups()  # type: ignore[union-attr]
        loudness = "verbose" if (how or mode)[0] == "v" else "quiet"
        kind, colon, listed = mode.partition(":")
        found |= {
            "SLURM_CPU_BIND": f"{loudness},{mode}",
            "SLURM_CPU_BIND_VERBOSE": loudness,
            "SLURM_CPU_BIND_TYPE": kind + colon,
            "SLURM_CPU_BIND_LIST": listed,
        }
    return found


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
    for key, check in (
        ("cpu_bind", cpu_bind_mode),
        ("gpu_bind", lambda text: gpu_bind_mode(text, 0)),
        ("mem_bind", memory_bind),
    ):
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
    """每个任务各有文件的（%t、%n、%N）、只要一个任务的由节点做；其余的由 srun 自己写。"""
    found: dict[str, Any] = {"append": (given.get("open_mode") or "t")[0].lower() == "a"}
    for key, name in (("input", "stdin"), ("output", "stdout"), ("error", "stderr")):
        kind = stream_kind(given, key)
        if kind in ("none", "node"):
            found[name] = "none" if kind == "none" else given[key]
    if "stdout" in found and "stderr" not in found and given.get("error"):
        # 标准输出归节点写，标准错误仍归 srun。
        found["stderr"] = "all"
    if "pty" in given and listening:
        found["pty"] = True
    elif "unbuffered" in given:
        found["unbuffered"] = True
    return found


def stream_kind(given: Mapping[str, str], key: str) -> str:
    """-i、-o、-e 的去向：all 经连接，none 没有，node 由节点做，file 是 srun 自己的文件。"""
    pattern = given.get(key) or "all"
    if pattern == "-" or pattern.lower() in ("all", "none"):
        return "none" if pattern.lower() == "none" else "all"
    tasks = given.get("ntasks", "")
    if pattern.isdigit() and int(pattern) < (int(tasks) if tasks.isdigit() else MOST_TASKS):
        return "node"
    return "node" if _PER_TASK.search(pattern) and "\\" not in pattern else "file"


def local_file(given: Mapping[str, str], key: str, job_id: str, step_id: int) -> str | None:
    """srun 自己读写的文件；没有写、或归节点管的是 None。"""
    if stream_kind(given, key) != "file":
        return None
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    fields = OutputFields(
        job_id=int(job_id),
        job_name=given.get("job_name") or os.environ.get("SLURM_JOB_NAME", ""),
        user_name=pwd.getpwuid(os.getuid()).pw_name,
        node_name="",
        array_job_id=int(os.environ.get("SLURM_ARRAY_JOB_ID") or job_id),
        array_task_id=int(task) if task else None,
        step=str(step_id),
    )
    return expand_output_path(given[key], fields, os.getcwd())
