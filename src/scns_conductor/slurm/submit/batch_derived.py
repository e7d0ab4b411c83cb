"""sbatch 里用别的选项说得清的选项：节点文件、按 GPU 计的 CPU 与任务、按插槽计的 GPU；以及作业里的相应变量。"""

import math
import re
from collections.abc import Mapping

from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.newer_options import gpu_bound

# 选项 -> sbatch 自己写进作业环境的变量（sbatch(1) 的 OUTPUT ENVIRONMENT VARIABLES）。
_VARIABLES = {
    "cpus_per_gpu": "SLURM_CPUS_PER_GPU", "dependency": "SLURM_JOB_DEPENDENCY", "gpus": "SLURM_GPUS",
    "gpus_per_node": "SLURM_GPUS_PER_NODE", "gpus_per_socket": "SLURM_GPUS_PER_SOCKET",
    "gpus_per_task": "SLURM_GPUS_PER_TASK", "licenses": "SLURM_JOB_LICENSES", "gres_flags": "SLURM_GRES_FLAGS",
    "gpu_bind": "SLURM_GPU_BIND", "gpu_freq": "SLURM_GPU_FREQ",
    "hint": "SLURM_HINT", "mem_per_gpu": "SLURM_MEM_PER_GPU", "ntasks_per_core": "SLURM_NTASKS_PER_CORE",
    "ntasks_per_gpu": "SLURM_NTASKS_PER_GPU", "ntasks_per_socket": "SLURM_NTASKS_PER_SOCKET",
    "profile": "SLURM_PROFILE", "threads_per_core": "SLURM_THREADS_PER_CORE", "export": "SLURM_EXPORT_ENV",
    "cpu_freq": "SLURM_CPU_FREQ_REQ", "acctg_freq": "SLURM_ACCTG_FREQ",
}  # fmt: skip
# 在 SLURM_TRES_PER_TASK 里的写法。
_PER_TASK = {"cpus_per_task": "cpu", "gpus_per_task": "gres/gpu"}
_GPU_OPTIONS = ("gpus", "gpus_per_node", "gpus_per_task", "gres", "tres_per_task")
_BAD_GRES = "Invalid generic resource (gres) specification"
_BIND_WORDS = frozenset({"v", "verbose", "q", "quiet"})


def submitted_variables(given: Mapping[str, str]) -> dict[str, str]:
    """这些选项写了什么，作业里的变量就是什么。"""
    found = {name: given[key] for key, name in _VARIABLES.items() if given.get(key)}
    for name in ("SLURM_PROFILE", "SLURM_CPU_FREQ_REQ"):
        # Slurm 把词写成首字母大写的。
        if name in found:
            found[name] = re.sub(r"[a-z]+", lambda word: word[0].title(), found[name].lower())
    if given.get("open_mode"):
        found["SLURM_OPEN_MODE"] = given["open_mode"][0].lower()
    if given.get("hint") == "nomultithread":
        found["SLURM_THREADS_PER_CORE"] = "1"
    per_task = [f"{kind}:{given[key]}" for key, kind in _PER_TASK.items() if given.get(key)]
    if per_task or given.get("tres_per_task"):
        found["SLURM_TRES_PER_TASK"] = ",".join([*per_task, *filter(None, [given.get("tres_per_task")])])
    kinds = [word for word in given.get("mem_bind", "").split(",") if word not in _BIND_WORDS]
    if given.get("mem_bind"):
        loud = {"v", "verbose"} & set(given["mem_bind"].split(","))
        found |= {"SLURM_MEM_BIND": ",".join(kinds), "SLURM_MEM_BIND_VERBOSE": "verbose" if loud else "quiet"}
    return found


def gpu_count(text: str) -> int:
    """2、a100:2、a100:2,v100:1 的总数；写不对抛 Fatal。"""
    total = 0
    for part in text.split(","):
        word = part.rpartition(":")[2].strip()
        if not word.isdigit():
            raise Fatal(f'Invalid GPU specification "{text}"', code=255)
        total += int(word)
    return total


def _number(given: Mapping[str, str], key: str) -> int:
    text = given[key]
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise Fatal(f'Invalid numeric value "{text}" for --{key.replace("_", "-")}.')
    return int(text)


def derived(given: Mapping[str, str]) -> dict[str, str]:
    """换成别的选项之后的 given。"""
    found = gpu_bound(given)
    if found.get("nodefile"):
        found["nodelist"] = nodes_in(found.pop("nodefile"))
    for key in ("nodelist", "exclude"):
        # 有斜杠的是文件（sbatch(1) 的 -w、-x）。
        if "/" in found.get(key, ""):
            found[key] = nodes_in(found[key])
    _layout(found)
    if found.get("gpus_per_socket"):
        # sbatch(1)：要写 --sockets-per-node；没有写的当作一个。
        sockets = _number({"sockets_per_node": "1", **found}, "sockets_per_node")
        gpu_count(found["gpus_per_socket"])
        each = [part.strip().rpartition(":") for part in found["gpus_per_socket"].split(",")]
        found.setdefault(
            "gpus_per_node", ",".join(f"{model}{colon}{int(count) * sockets}" for model, colon, count in each)
        )
    if found.get("tres_per_task"):
        _per_task(found)
    if found.get("ntasks_per_gpu"):
        _tasks_by_gpu(found)
    if found.get("cpus_per_gpu"):
        _cpus_by_gpu(found)
    if found.get("mem_per_gpu") and not any(found.get(name) for name in _GPU_OPTIONS):
        raise Fatal(f"Requested mem_per_tres=gres:gpu:{found['mem_per_gpu']} but did not request any GPU.", _BAD_GRES)
    return found


def _layout(found: dict[str, str]) -> None:
    """-B 是三个选项的简写；--hint 说的也是一个核用几个线程、一个插槽几个任务（sbatch(1)），另写了的为准。"""
    text = found.get("extra_node_info", "")
    if re.fullmatch(r"([1-9]\d*|\*)(:([1-9]\d*|\*)){0,2}", text):
        for key, count in zip(
            ("sockets_per_node", "cores_per_socket", "threads_per_core"), text.split(":"), strict=False
        ):
            if count != "*":
                found.setdefault(key, count)
    hints = set(found.get("hint", "").lower().split(","))
    if hints & {"nomultithread", "compute_bound", "memory_bound"}:
        found.setdefault("threads_per_core", "1")
    if "memory_bound" in hints:
        found.setdefault("ntasks_per_socket", "1")


def nodes_in(path: str) -> str:
    """每行一个节点，或逗号相隔（-F、-w、-x、SLURM_HOSTFILE 的文件）。"""
    try:
        with open(path, encoding="utf-8") as stream:
            words = stream.read().replace(",", "\n").split()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"Unable to open node file {path}", code=255) from error
    if not words:
        raise Fatal(f"Node file {path} is empty", code=255)
    return ",".join(words)


def _per_task(found: dict[str, str]) -> None:
    """cpu=2,gres/gpu:1：CPU 是 -c，其余留给 tres_per_task。"""
    rest = []
    for part in found["tres_per_task"].split(","):
        name, _, count = part.strip().replace("=", ":").partition(":")
        if name == "cpu":
            found.setdefault("cpus_per_task", count)
        else:
            rest.append(f"{name}:{count}" if count else name)
    found["tres_per_task"] = ",".join(rest)


def _gpus(found: Mapping[str, str]) -> int | None:
    """整个作业几个 GPU；只写了每节点的要看节点数，说不准的是 None。"""
    if found.get("gpus"):
        return gpu_count(found["gpus"])
    if found.get("gpus_per_node") and found.get("nodes", "1").isdigit():
        return gpu_count(found["gpus_per_node"]) * int(found.get("nodes", "1"))
    if found.get("gpus_per_task"):
        return gpu_count(found["gpus_per_task"]) * _number({"ntasks": "1", **found}, "ntasks")
    return None


def _tasks_by_gpu(found: dict[str, str]) -> None:
    """每个 GPU 几个任务：写了 GPU 就定任务数，写了任务数就定 GPU。"""
    each, gpus = _number(found, "ntasks_per_gpu"), _gpus(found)
    if "ntasks" in found and gpus is None:
        found["gpus"] = str(math.ceil(_number(found, "ntasks") / each))
    elif gpus is None:
        raise Fatal(
            "gres_job_state_validate: --ntasks-per-tres needs either a GRES GPU specification "
            "or a node/ntask specification",
            _BAD_GRES,
        )
    else:
        found.setdefault("ntasks", str(each * gpus))


def _cpus_by_gpu(found: dict[str, str]) -> None:
    """每个 GPU 几个 CPU，摊到各任务上。"""
    if "cpus_per_task" in found:
        raise Fatal("--cpus-per-gpu is mutually exclusive with --cpus-per-task.", code=255)
    each, gpus = _number(found, "cpus_per_gpu"), _gpus(found)
    if gpus is None:
        raise Fatal("--cpus-per-gpu needs --gpus, --gpus-per-task or --gpus-per-node with an exact --nodes", code=255)
    tasks = _number({"ntasks": "1", **found}, "ntasks")
    if "ntasks" not in found and found.get("ntasks_per_node", "").isdigit():
        tasks = int(found["ntasks_per_node"]) * int(found.get("nodes", "1"))
    found["cpus_per_task"] = str(math.ceil(each * gpus / tasks))


def file_environment(path: str) -> dict[str, str]:
    """--export-file：NAME=value，以 NUL 相隔；数字是已经打开的文件描述符。"""
    try:
        with open(int(path) if path.isdigit() else path, "rb") as stream:
            raw = stream.read()
    except OSError as error:
        raise Fatal(f"Unable to open --export-file {path}", code=255) from error
    pairs = (item.decode(errors="replace").partition("=") for item in raw.split(b"\0") if item)
    return {name.strip(): value for name, equals, value in pairs if equals and name.strip()}
