"""给自己设资源上限（setrlimit）：作业的进程在 exec 之前。只用标准库。"""

from __future__ import annotations

import resource

_NUMBERS = {
    name: getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "STACK")
}


def set_limits(limits: dict[str, list[int]] | None) -> None:
    """名字 -> [软上限, 硬上限]，-1 是不限；硬上限已经低于软上限的取硬上限，设不了的抛 OSError、ValueError。"""
    for name, (soft, hard) in (limits or {}).items():
        number = _NUMBERS[name]
        most = resource.getrlimit(number)[1]
        # 硬上限只许降：代理与这里的不同时，以低的为准。
        if most >= 0 and (hard < 0 or hard > most):
            hard = most
        if hard >= 0 and (soft < 0 or soft > hard):
            soft = hard
        resource.setrlimit(number, (soft, hard))
