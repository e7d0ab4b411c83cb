"""sbatch 的选项：表、SBATCH_* 变量，以及换成 API 的 job。"""

import contextlib
import os
import re
import signal as signals
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scns_conductor.core.batch_script import exported, gpu_fields, not_exported, warning_signal
from scns_conductor.core.distribution import check_distribution
from scns_conductor.core.mail import MAIL_TYPES
from scns_conductor.core.units import parse_duration, parse_memory_mb, parse_time_limit
from scns_conductor.slurm.parse.options import Option, flags, hints, option, refused, values, warned
from scns_conductor.slurm.session import Fatal, warn_not_exported
from scns_conductor.slurm.submit import newer_options
from scns_conductor.slurm.submit.batch_derived import derived, file_environment, nodes_in, submitted_variables
from scns_conductor.slurm.submit.batch_hints import check_hints
from scns_conductor.slurm.submit.newer_options import segmented
from scns_conductor.slurm.submit.unmet_options import warn_unmet
from scns_conductor.slurm.table.job_values import require_own_cluster

# 选项的值写错时 sbatch 的退出码（exit(-1)；与真的 Slurm 22.05 对比过）。数目写错的是 1。
BAD_OPTION = 255
Pairs = Sequence[tuple[str, str]]
_MEMORY = frozenset({"mem", "mem_per_cpu", "mem_per_gpu"})
_MOST_NICE = 2**31 - 3
_MOST_PRIORITY = 2**32 - 3
_MOST_SIGNAL_DELAY_S = 65535
# -m arbitrary 的列表，逐个任务一个：里面的 srun 照它。
ARBITRARY_VARIABLE = "SLURM_ARBITRARY_NODELIST"
# 选项 -> API 的字段，原样传过去。
_FIELDS = {
    "job_name": "name",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "wckey": "wckey",
    "time": "time_limit",
    "time_min": "time_minimum",
    "begin": "begin_time",
    "deadline": "deadline",
    "nodes": "nodes",
    "mem": "memory_per_node",
    "mem_per_cpu": "memory_per_cpu",
    "mem_per_gpu": "memory_per_gpu",
    "tmp": "temporary_disk_per_node",
    "constraint": "constraints",
    "nodelist": "required_nodes",
    "exclude": "excluded_nodes",
    "licenses": "licenses",
    "distribution": "distribution",
    "dependency": "dependency",
    "array": "array",
    "chdir": "current_working_directory",
    "input": "standard_input",
    "output": "standard_output",
    "error": "standard_error",
    "open_mode": "open_mode",
    "comment": "comment",
    "extra": "extra",
    "mail_type": "mail_type",
    "mail_user": "mail_user",
    "tres_per_task": "tres_per_task",
    "prefer": "prefer",
    "container": "container",
    "container_image": "container_image",
}
_COUNTS = {
    "ntasks": "tasks",
    "ntasks_per_node": "tasks_per_node",
    "cpus_per_task": "cpus_per_task",
    "mincpus": "minimum_cpus_per_node",
    "sockets_per_node": "sockets_per_node",
    "cores_per_socket": "cores_per_socket",
    "threads_per_core": "threads_per_core",
    "ntasks_per_core": "tasks_per_core",
    "ntasks_per_socket": "tasks_per_socket",
}
# 有意义、但这里做不到的：不能悄悄忽略。
_REFUSED = refused(flags("--reboot"), values("--bb", "--bbf", "--uid", "--gid", "--cluster-constraint", "--batch"))
_HINTS = hints(values("--network", "--delay-boot", "--power", "--wait-all-nodes"))
_WARNED = warned(values("--cpu-freq", "--gpu-freq"))
OPTIONS: list[Option] = [
    *values(
        "-J --job-name", "-p --partition", "-A --account", "-q --qos", "--reservation", "--wckey", "-t --time",
        "--time-min", "-b --begin", "--deadline", "-n --ntasks", "-N --nodes", "--ntasks-per-node --tasks-per-node",
        "-c --cpus-per-task", "--mincpus", "--mem", "--mem-per-cpu", "--mem-per-gpu", "--tmp", "-G --gpus",
        "--gpus-per-node", "--gpus-per-task", "--gres", "-C --constraint", "-w --nodelist",
        "-x --exclude", "-L --licenses", "--switches", "-m --distribution", "-d --dependency",
        "--kill-on-invalid-dep", "-a --array", "--priority", "--signal", "-D --chdir --workdir", "-i --input",
        "-o --output", "-e --error", "--open-mode", "--export", "--comment", "--mail-type", "--mail-user", "--wrap",
        "--container", "--container-image",
    ),
    *flags("-s --oversubscribe --share", "-H --hold", "--requeue", "--no-requeue", "-W --wait", "--test-only"),
    *flags("-O --overcommit", "--parsable", "-h --help", "--usage", "-V --version"),
    option("--exclusive", "optional"),
    option("--nice", "optional"),
    option("--propagate", "optional"),
    option("--get-user-env", "optional"),
    *values(
        "-F --nodefile", "--gpus-per-socket", "--tres-per-task", "--export-file", "--cpus-per-gpu",
        "--ntasks-per-gpu", "-B --extra-node-info", "--cores-per-socket", "--sockets-per-node", "--threads-per-core",
        "--hint", "--mem-bind", "--gpu-bind", "--ntasks-per-core", "--ntasks-per-socket", "--prefer", "-S --core-spec",
        "--thread-spec", "-M --clusters", "--mcs-label", "--gres-flags", "--acctg-freq", "--profile",
    ),
    option("-k --no-kill", "optional"),
    *flags("--contiguous", "--spread-job", "--use-min-nodes", "--ignore-pbs", "-v --verbose", "-Q --quiet"),
    *_REFUSED,
    *_HINTS,
    *_WARNED,
    *newer_options.WORKING,
    *newer_options.HINTS,
    *newer_options.REFUSED,
]  # fmt: skip
# sbatch(1) 的 INPUT ENVIRONMENT VARIABLES。
VARIABLES = {
    "SBATCH_ACCOUNT": "account", "SBATCH_ARRAY_INX": "array", "SBATCH_CHDIR": "chdir", "SBATCH_COMMENT": "comment",
    "SBATCH_CONSTRAINT": "constraint", "SBATCH_DISTRIBUTION": "distribution", "SBATCH_ERROR": "error",
    "SBATCH_EXCLUSIVE": "exclusive", "SBATCH_EXPORT": "export", "SBATCH_GPUS": "gpus",
    "SBATCH_GPUS_PER_NODE": "gpus_per_node", "SBATCH_GPUS_PER_TASK": "gpus_per_task", "SBATCH_GRES": "gres",
    "SBATCH_INPUT": "input", "SBATCH_JOB_NAME": "job_name", "SBATCH_MEM_PER_CPU": "mem_per_cpu",
    "SBATCH_MEM_PER_GPU": "mem_per_gpu", "SBATCH_MEM_PER_NODE": "mem", "SBATCH_OPEN_MODE": "open_mode",
    "SBATCH_OUTPUT": "output", "SBATCH_PARTITION": "partition", "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation", "SBATCH_SIGNAL": "signal", "SBATCH_TIMELIMIT": "time",
    "SBATCH_CPUS_PER_GPU": "cpus_per_gpu", "SBATCH_CLUSTERS": "clusters", "SBATCH_CONTAINER": "container",
    "SBATCH_CONTAINER_IMAGE": "container_image",
    "SBATCH_CORE_SPEC": "core_spec", "SBATCH_NO_KILL": "no_kill", "SBATCH_OVERCOMMIT": "overcommit",
    "SBATCH_REQ_SWITCH": "switches", "SBATCH_THREAD_SPEC": "thread_spec", "SBATCH_HINT": "hint",
    "SBATCH_THREADS_PER_CORE": "threads_per_core", "SBATCH_PROFILE": "profile", "SBATCH_GPU_BIND": "gpu_bind",
    "SBATCH_WCKEY": "wckey", "SBATCH_REQUEUE": "requeue", "SBATCH_NO_REQUEUE": "no_requeue", "SBATCH_WAIT": "wait",
    "SBATCH_ACCTG_FREQ": "acctg_freq", "SBATCH_BATCH": "batch", "SBATCH_DEBUG": "verbose",
    "SBATCH_DELAY_BOOT": "delay_boot", "SBATCH_GET_USER_ENV": "get_user_env", "SBATCH_GPU_FREQ": "gpu_freq",
    "SBATCH_GRES_FLAGS": "gres_flags", "SBATCH_IGNORE_PBS": "ignore_pbs", "SBATCH_MEM_BIND": "mem_bind",
    "SBATCH_NETWORK": "network", "SBATCH_POWER": "power", "SBATCH_SPREAD_JOB": "spread_job",
    "SBATCH_USE_MIN_NODES": "use_min_nodes", "SBATCH_WAIT_ALL_NODES": "wait_all_nodes", "SLURM_HINT": "hint",
    "SBATCH_CONTAINER_ID": "container_id", "SBATCH_CPU_FREQ_REQ": "cpu_freq", "SBATCH_SEGMENT_SIZE": "segment",
    "SBATCH_TRES_BIND": "tres_bind", "SBATCH_TRES_PER_TASK": "tres_per_task",
    "SBATCH_CONSOLIDATE_SEGMENTS": "consolidate_segments", "SBATCH_SPREAD_SEGMENTS": "spread_segments",
    "SBATCH_WAIT4SWITCH": "wait4switch", "SLURM_OOM_KILL_STEP": "oom_kill_step",
}  # fmt: skip
REFUSED = {each.key: each.long[0] for each in (*_REFUSED, *newer_options.REFUSED)}


def environment_options(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """SBATCH_* 变量说的选项；胜过脚本，让位于命令行。"""
    return [(key, environment[name]) for name, key in VARIABLES.items() if name in environment]


def merged(header: Pairs, variables: Pairs, line: Pairs) -> dict[str, str]:
    """脚本、变量、命令行里的选项合成一份：后面的为准，--requeue 与 --no-requeue 也是后写的那个。

    写了内存的一种，就不看变量里的另外几种；脚本与命令行里写了两种抛 Fatal。
    """
    opposite = {"requeue": "no_requeue", "no_requeue": "requeue"}
    given: dict[str, str] = {}
    for key, value in (*header, *variables, *line):
        given.pop(opposite.get(key, ""), None)
        given[key] = value
    chosen = {key for key, _ in (*header, *line) if key in _MEMORY}
    if len(chosen) > 1:
        raise Fatal("--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", prefix="fatal: ")
    return {key: value for key, value in given.items() if key not in _MEMORY or key in chosen or not chosen}


def job_fields(given: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """选项（最后的值）换成 API 的 job；写错了抛 Fatal，文字照 Slurm。"""
    for key, name in REFUSED.items():
        if key in given:
            raise Fatal(f"--{name} is not supported by this system")
    require_own_cluster(given.get("clusters"))
    given = derived(given)
    _arbitrary(given, environment)
    _check(given, ("time", "time_min"), parse_time_limit)
    _check(given, ("mem", "mem_per_cpu", "mem_per_gpu", "tmp"), parse_memory_mb)
    job: dict[str, Any] = {field: given[key] for key, field in _FIELDS.items() if given.get(key)}
    if "container" in job:
        job["container"] = os.path.abspath(job["container"])
    for key, field in _COUNTS.items():
        if key in given:
            job[field] = _count(key, given[key])
    if "nodes" in given:
        # 1k 是 1024 个。
        given["nodes"] = re.sub(r"\d+k", lambda found: str(int(found[0][:-1]) * 1024), given["nodes"])
        if given["nodes"]:
            job["nodes"] = given["nodes"]
    if "nodes" in given and not re.fullmatch(r"[1-9]\d{0,8}(-[1-9]\d{0,8})?", given["nodes"]):
        raise Fatal(f'"{given["nodes"]}" is not a valid node count', code=BAD_OPTION)
    _check_nodes(given.get("nodes", ""))
    _read_instants(given, job)
    _check_words(given)
    check_hints(given)
    warn_unmet(given)
    for name in ("time_limit", "time_minimum"):
        if name in job:
            job[name] = whole_minutes(job[name])
    if job.get("array"):
        # 多余的逗号 Slurm 不计较。
        job["array"] = job["array"].strip(",")
    job |= gpu_fields(given)
    job |= _switches(given)
    for key, field in (("core_spec", "core_specification"), ("thread_spec", "thread_specification")):
        count = _count(key, given[key], least=0) if key in given else 0
        if count:
            job[field] = count
    if "signal" in given:
        try:
            job |= warning_signal(given["signal"])
            if job["kill_warning_signal"] == "0" or job["kill_warning_delay"] > _MOST_SIGNAL_DELAY_S:
                raise ValueError(given["signal"])
        except ValueError:
            raise Fatal("Invalid --signal specification", code=BAD_OPTION) from None
    file = given.get("export_file")
    exporting = given.get("export") or ("NONE" if file else "ALL")
    job["environment"] = exported(exporting, environment)
    for name in not_exported(exporting, environment):
        warn_not_exported(name)
    if file:
        job["environment"] |= file_environment(file)
    job["environment"] |= submitted_variables(given)
    if given.get("distribution", "").lower() == "arbitrary":
        hosts = given.get("task_hosts") or given["nodelist"]
        job["environment"][ARBITRARY_VARIABLE] = hosts
        most = max(Counter(hosts.split(",")).values()) * job.get("cpus_per_task", 1)
        # 任务最多的那个节点要放得下；别的节点也分到这么多。
        job["minimum_cpus_per_node"] = max(most, job.get("minimum_cpus_per_node", 1))
    job |= segmented(given)
    # 在别的挤着的作业里提交的，不因此也挤着。
    job["environment"].pop("SLURM_OVERCOMMIT", None)
    if "overcommit" in given:
        overcommitted(job, int(given.get("nodes", "1").partition("-")[0]))
    return job


def _arbitrary(given: dict[str, str], environment: Mapping[str, str]) -> None:
    """-m arbitrary 没有写 -w 的，列表在 SLURM_HOSTFILE 里，一个任务一行；没有写 -n 的，有几行就是几个任务。

    逐个任务的列表记在 task_hosts 里。
    """
    file = environment.get("SLURM_HOSTFILE")
    if file and given.get("distribution", "").lower() == "arbitrary" and not given.get("nodelist"):
        hosts = nodes_in(file).split(",")
        given["task_hosts"] = ",".join(hosts)
        given["nodelist"] = ",".join(dict.fromkeys(hosts))
        given.setdefault("ntasks", str(len(hosts)))


def overcommitted(job: dict[str, Any], nodes: int) -> None:
    """-O：每个节点只要一个任务的 CPU，任务都挤在上面；作业里的 SLURM_NTASKS 仍是要的任务数（sbatch(1)）。"""
    each = job.pop("tasks_per_node", None)
    tasks = job.get("tasks") or nodes * (each or 1)
    job["tasks"] = nodes
    job["environment"] = {**job.get("environment", {}), "SLURM_OVERCOMMIT": "1", "SLURM_NTASKS": str(tasks)}


def _switches(given: Mapping[str, str]) -> dict[str, Any]:
    job: dict[str, Any] = {}
    if given.get("exclusive") in ("user", "mcs"):
        job["exclusive_to"] = given["exclusive"]
    elif "exclusive" in given:
        job["exclusive"] = True
    if "mcs_label" in given:
        job["mcs_label"] = given["mcs_label"]
    if "oversubscribe" in given:
        job["oversubscribe"] = True
    if "hold" in given:
        job["hold"] = True
    if given.get("no_kill", "off").lower() not in ("off", "no", "set_off"):
        job["no_kill"] = True
    for key in ("contiguous", "spread_job", "use_min_nodes"):
        if key in given:
            job[key] = True
    if "requeue" in given or "no_requeue" in given:
        job["requeue"] = "requeue" in given
    if "nice" in given:
        job["nice"] = _integer(given["nice"] or "100", "Invalid --nice value")
        if abs(job["nice"]) > _MOST_NICE:
            raise Fatal(f"Invalid --nice value, out of range (+/- {_MOST_NICE})", code=BAD_OPTION)
    if "priority" in given:
        text = str(_MOST_PRIORITY) if given["priority"].upper() == "TOP" else given["priority"]
        job["priority"] = _integer(text, f"Invalid --priority specification: {text}")
        if job["priority"] < 0:
            raise Fatal("Priority must be >= 0", code=BAD_OPTION)
    if "switches" in given:
        count, _, wait = given["switches"].partition("@")
        job["required_switches"] = _count("switches", count)
        wait = wait or given.get("wait4switch", "")
        if wait:
            # 认不出的等待时间 Slurm 当作没有写。
            with contextlib.suppress(ValueError):
                job["maximum_switch_wait_time"] = parse_duration(wait)
    if "kill_on_invalid_dep" in given:
        if given["kill_on_invalid_dep"].lower() not in ("yes", "no"):
            raise Fatal("Invalid --kill-on-invalid-dep specification", code=BAD_OPTION)
        job["kill_on_invalid_dependency"] = given["kill_on_invalid_dep"].lower() == "yes"
    if job.get("open_mode") is not None or given.get("open_mode"):
        mode = given["open_mode"].lower()
        if not mode or mode[0] not in "at":
            raise Fatal("Invalid --open-mode specification", code=BAD_OPTION)
        job["open_mode"] = "append" if mode[0] == "a" else "truncate"
    return job


def whole_minutes(text: str) -> str:
    """时限以分钟计，不足一分钟的算一分钟；0 是不限时（sbatch(1) 的 --time）。"""
    if text.strip("0:") == "":
        return "UNLIMITED"
    seconds = parse_time_limit(text)
    return "UNLIMITED" if seconds is None else str(-(-seconds // 60))


def _check(given: Mapping[str, str], names: tuple[str, ...], read: Callable[[str], object]) -> None:
    for name in names:
        text = given.get(name)
        if text is None or (name.startswith("time") and text.strip("0:") == "" and text):
            continue
        try:
            read(text)
        except ValueError:
            raise Fatal(f"Invalid --{name.replace('_', '-')} specification", code=BAD_OPTION) from None


def _read_instants(given: Mapping[str, str], job: dict[str, Any]) -> None:
    """--begin、--deadline：按提交者这里的时区；写错了照 Slurm 先指出位置。"""
    for key in ("begin", "deadline"):
        text = given.get(key)
        if not text:
            continue
        from scns_conductor.core.instants import zoned

        try:
            job[_FIELDS[key]] = zoned(text)
        except ValueError:
            print(f"Invalid time specification (pos=0): {text}", file=sys.stderr)
            raise Fatal(f"Invalid --{key} specification", code=BAD_OPTION) from None
    if given.get("begin") and given.get("deadline"):
        from scns_conductor.core.instants import local_now, parse_instant

        now = local_now()
        if parse_instant(job["begin_time"], now) > parse_instant(job["deadline"], now):
            raise Fatal("Incompatible begin and deadline time specification")


def _check_nodes(text: str) -> None:
    """-N 最小-最大：最大不能更小。"""
    low, dash, high = text.partition("-")
    if dash and int(high) < int(low):
        raise Fatal(f"Maximum node count {high} is less than minimum node count {low}", code=BAD_OPTION)


def _check_words(given: Mapping[str, str]) -> None:
    """值只能是几个词之一的选项。"""
    distribution = given.get("distribution")
    if distribution:
        if distribution.lower() == "arbitrary" and not given.get("nodelist"):
            raise Fatal("With Arbitrary distribution you need to specify a nodelist or hostfile with the -w option")
        if re.match(r"plane(=\D|=?$)", distribution, re.IGNORECASE):
            raise Fatal(
                "Invalid plane size or size not specified", "Invalid --distribution specification", code=BAD_OPTION
            )
        try:
            check_distribution(distribution)
        except ValueError:
            raise Fatal("Invalid --distribution specification", code=BAD_OPTION) from None
    signal = given.get("signal", "").partition("@")[0].rpartition(":")[2].upper().removeprefix("SIG")
    wrong = {
        "mail-type": not set(given.get("mail_type", "NONE").upper().split(",")) <= set(MAIL_TYPES),
        "exclusive": given.get("exclusive", "") not in ("", "user", "mcs", "topo"),
        "signal": bool(signal) and not signal.isdigit() and not hasattr(signals, f"SIG{signal}"),
    }
    for name, bad in wrong.items():
        if bad:
            raise Fatal(f"Invalid --{name} specification", code=BAD_OPTION)


def _count(key: str, text: str, least: int = 1) -> int:
    name = key.replace("_", "-")
    if not re.fullmatch(r"\+?\d{1,9}", text) or int(text) < least:
        raise Fatal(f'Invalid numeric value "{text}" for --{name}.')
    return int(text)


def _integer(text: str, message: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Fatal(message) from None
