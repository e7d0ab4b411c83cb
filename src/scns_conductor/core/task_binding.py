"""一个任务绑到哪些核、看见哪些加速卡（srun(1) 的 --cpu-bind、--gpu-bind）。纯计算。"""

from collections.abc import Sequence

_SEQUENTIAL = frozenset({"cores", "threads", "rank", "rank_ldom", "rank_socket"})
_WHOLE = frozenset({"", "none", "no", "sockets", "boards", "ldoms"})
_MOST_NUMBERS = 65_536
_GPU_WHOLE = frozenset({"", "none", "closest"})


def cpu_bind_mode(text: str | None) -> tuple[str, bool]:
    """'verbose,cores' -> ('cores', True)；不认识的写法抛 ValueError（中文原因）。"""
    verbose, mode = False, ""
    rest = (text or "").strip().lower()
    while rest:
        word, _, after = rest.partition(",")
        if word in ("v", "verbose", "q", "quiet"):
            verbose = word[0] == "v"
            rest = after
            continue
        mode, rest = rest, ""
    name, _, listed = mode.partition(":")
    if name in ("map_cpu", "mask_cpu"):
        _numbers(listed, 16 if name == "mask_cpu" else 0)
    elif mode not in _SEQUENTIAL | _WHOLE:
        raise ValueError(f"不认识的 cpu_bind {text!r}；可用 none、cores、threads、rank、map_cpu:0,1、mask_cpu:0x3")
    return mode, verbose


def bound_cores(mode: str, local: int, cores: Sequence[int], cpus_per_task: int) -> list[int]:
    """本节点上第 local 个任务的核；不绑返回空。cores 是作业在本节点上的核，按序分给各任务，不够时轮流。"""
    name, _, listed = mode.partition(":")
    if name == "map_cpu":
        numbers = _numbers(listed, 0)
        return [numbers[local % len(numbers)]]
    if name == "mask_cpu":
        masks = _numbers(listed, 16)
        mask = masks[local % len(masks)]
        return [core for core in range(mask.bit_length()) if mask >> core & 1]
    if name not in _SEQUENTIAL or not cores:
        return []
    first = local * cpus_per_task
    return sorted({cores[(first + index) % len(cores)] for index in range(cpus_per_task)})


def gpu_bind_mode(text: str | None, gpus_per_task: int) -> str:
    """--gpu-bind 的写法；没有写而有 --gpus-per-task 的是 per_task:N。不认识的抛 ValueError（中文原因）。"""
    mode = (text or "").strip().lower()
    for prefix in ("verbose,", "v,"):
        mode = mode.removeprefix(prefix)
    if not mode and gpus_per_task:
        return f"per_task:{gpus_per_task}"
    name, _, listed = mode.partition(":")
    if name in ("single", "per_task", "map_gpu", "mask_gpu"):
        if min(_numbers(listed, 16 if name == "mask_gpu" else 0)) < (0 if name == "map_gpu" else 1):
            raise ValueError(f"gpu_bind {text!r} 的数目必须大于 0")
    elif mode not in _GPU_WHOLE:
        raise ValueError(
            f"不认识的 gpu_bind {text!r}；可用 none、closest、single:1、per_task:1、map_gpu:0,1、mask_gpu:0x3"
        )
    return mode


def bound_gpus(mode: str, local: int, ids: Sequence[int], *, relative: bool = False) -> list[int]:
    """本节点上第 local 个任务看见的卡；ids 是这一步在本节点上的。

    map_gpu、mask_gpu 里的数：relative 是第几块，否则是节点上的序号（srun(1)：看设备有没有被 cgroup 圈住）。
    """
    name, _, listed = mode.partition(":")
    if name in _GPU_WHOLE or not ids:
        return list(ids)
    numbers = _numbers(listed, 16 if name == "mask_gpu" else 0)
    if name == "mask_gpu":
        mask = numbers[local % len(numbers)]
        return [each for place, each in enumerate(ids) if mask >> (place if relative else each) & 1]
    if name == "single":
        return [ids[local // numbers[0] % len(ids)]]
    if name == "per_task":
        return list(ids[local * numbers[0] : (local + 1) * numbers[0]])
    number = numbers[local % len(numbers)]
    return [ids[number]] if relative and number < len(ids) else [number]


def _numbers(text: str, base: int) -> list[int]:
    """逗号分隔的数，可写 值*次数；空的、不是数的抛 ValueError。"""
    found: list[int] = []
    for word in text.split(","):
        value, _, times = word.partition("*")
        try:
            number, count = int(value, base or 10), int(times or 1)
        except ValueError:
            raise ValueError(f"{text!r} 应是逗号分隔的数") from None
        if number < 0 or not 0 < count <= 1024 or number.bit_length() > 1024:
            raise ValueError(f"{text!r} 里有不合理的数")
        found += [number] * count
        if len(found) > _MOST_NUMBERS:
            raise ValueError(f"{text[:64]!r} 至多 {_MOST_NUMBERS} 个数")
    return found
