"""提交者的资源上限（ulimit 的软上限）怎样带到作业的进程：写在环境里的 SLURM_RLIMIT_名字=值，节点照着设，不留给作业。

同 Slurm：值前面有 U 的是用户点名要的（--propagate），不看节点的 PropagateResourceLimits。
"""

import resource
from collections.abc import Collection, Mapping

# Slurm 的次序；RSS 在 Linux 上不起作用，照带。
NAMES = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS")
PREFIX = "SLURM_RLIMIT_"
_ASKED = "U"
# 不限；内核与 Slurm 都写成最大的无符号数。
_UNLIMITED = str(2**64 - 1)


def chosen_names(words: Collection[str], left_out: Collection[str] = ()) -> frozenset[str]:
    """ALL、NONE 或名字（可以带 RLIMIT_）-> 哪些上限；不认识的抛 ValueError。"""
    plain = [word.upper().removeprefix("RLIMIT_") for word in words]
    unknown = [word for word in plain if word not in {"ALL", "NONE", *NAMES}]
    if unknown:
        raise ValueError(f"没有资源上限 {unknown[0]!r}；有 ALL、NONE、{'、'.join(NAMES)}")
    found = set(NAMES) if "ALL" in plain else set() if "NONE" in plain else set(plain)
    return frozenset(found - chosen_names(left_out)) if left_out else frozenset(found)


def own_limits(asked: Collection[str] | None) -> dict[str, str]:
    """本进程的软上限写成变量；asked 是用户点名的（空的是一个也不要），没有点名是 None，带上全部由节点挑。"""
    found = {}
    for name in NAMES if asked is None else sorted(asked):
        soft, _ = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        found[PREFIX + name] = ("" if asked is None else _ASKED) + _written(soft)
    return found


def asked_limit(name: str, soft: int) -> dict[str, str]:
    """用户点名要的一个软上限，-1 是不限。"""
    return {PREFIX + name: _ASKED + _written(soft)}


def _written(soft: int) -> str:
    return str(soft) if soft >= 0 else _UNLIMITED


def limits_here(environment: Mapping[str, str], propagated: Collection[str]) -> dict[str, list[int]]:
    """环境里带来的、本机与它不同的：名字 -> [软上限, 硬上限]，-1 是不限。

    软上限至多到本机的硬上限；没有点名的只看 propagated 里的；写不对的、RSS（内核不看它）略过。
    """
    found = {}
    for name in NAMES:
        text = environment.get(PREFIX + name, "")
        number = text.removeprefix(_ASKED)
        if name == "RSS" or not number.isdigit() or not (text.startswith(_ASKED) or name in propagated):
            continue
        soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        wanted = -1 if int(number) >= 2**63 - 1 else int(number)
        if hard >= 0 and (wanted < 0 or wanted > hard):
            wanted = hard
        if wanted != soft:
            found[name] = [wanted, hard]
    return found
