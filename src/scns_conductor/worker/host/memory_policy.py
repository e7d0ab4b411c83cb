"""进程的内存放在哪些 NUMA 节点：set_mempolicy(2)，经 exec 仍在。只用标准库。"""

from __future__ import annotations

import os

MPOL_PREFERRED, MPOL_BIND, MPOL_PREFERRED_MANY = 1, 2, 5
# 各平台的系统调用号；C 库没有它的包装（在 libnuma 里）。
_SYSTEM_CALLS = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "loongarch64": 237}


def set_memory_nodes(nodes: list[int], *, prefer: bool) -> None:
    """此后分配的内存只在（prefer 时先在）这些 NUMA 节点上。内核不许、没有这个节点抛 OSError。"""
    import ctypes

    number = _SYSTEM_CALLS.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"不知道 {os.uname().machine} 上 set_mempolicy 的调用号")
    words = max(nodes) // 64 + 1
    mask = (ctypes.c_uint64 * words)()
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    call = ctypes.CDLL(None, use_errno=True).syscall
    for mode in (MPOL_PREFERRED_MANY, MPOL_PREFERRED) if prefer else (MPOL_BIND,):
        # maxnode 是位数加一：内核不看最后一位。
        if call(ctypes.c_long(number), ctypes.c_int(mode), mask, ctypes.c_ulong(words * 64 + 1)) == 0:
            return
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
