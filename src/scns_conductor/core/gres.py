"""通用资源的写法（sbatch(1) 的 --gres、slurmrestd 的 tres_per_*）：gpu:2、gpu:a100:2、gres/gpu:a100=2。"""

import re

MAX_COUNT = 2**31 - 1
_ITEM = re.compile(r"^(?:gres[/:])?([A-Za-z_][\w.\-]*)(?::([A-Za-z_][\w.\-]*))?(?:[:=](\d{1,10}))?$")


def parse_gres(text: str) -> dict[str, int]:
    """解析成 {'gpu:a100': 2, 'gpu': 1}；没有写数目是 1。写法有误或数目过大抛 ValueError（中文原因）。

    同名的相加。数目为 0 的不在结果里（--gres=none 也是空）。
    """
    found: dict[str, int] = {}
    if text.strip().lower() in ("", "none"):
        return found
    for item in text.split(","):
        match = _ITEM.match(item.strip())
        if match is None:
            raise ValueError(f"无法识别的通用资源 {item.strip()!r}；例如 gpu:2、gpu:a100:2")
        name = match[1] if match[2] is None else f"{match[1]}:{match[2]}"
        count = int(match[3]) if match[3] is not None else 1
        if found.get(name, 0) + count > MAX_COUNT:
            raise ValueError(f"通用资源 {item.strip()!r} 的数目过大")
        if count:
            found[name] = found.get(name, 0) + count
    return found


def gpu_total(text: str | None) -> int:
    """'gpu:a100=2,nic=1' 里一共几块 GPU；没有是 0。"""
    return sum(count for name, count in parse_gres(text or "").items() if name.partition(":")[0] == "gpu")


def format_gres(gres: dict[str, int]) -> str:
    """{'gpu:a100': 2} -> 'gpu:a100:2'。"""
    return ",".join(f"{name}:{count}" for name, count in sorted(gres.items()))
