"""cgroup v2 的设备限制：一段 eBPF 程序（BPF_PROG_TYPE_CGROUP_DEVICE），挂在 cgroup 上，列出的设备打不开。

程序自己拼成字节，用 bpf(2) 装载；只用标准库。挂上之后随 cgroup 存亡，装载它的进程可以先走。
"""

from __future__ import annotations

import os
import struct

PROG_LOAD, PROG_ATTACH = 5, 8
PROG_TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE, ALLOW_MULTI = 15, 6, 2
_SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "loongarch64": 280}
_KINDS = {"b": 1, "c": 2}

# 指令的操作码：装载一个字、与、条件跳转（不等）、赋值、返回。
LOAD_WORD, AND, JUMP_UNLESS_EQUAL, MOVE, EXIT = 0x61, 0x57, 0x55, 0xB7, 0x95
# bpf_cgroup_dev_ctx 的三个字：access_type（低 16 位是块、字符）、major、minor。
_CONTEXT = 1
_FIELDS = ((2, 0), (3, 4), (4, 8))
_RESULT = 0


def assemble(rules: list[str]) -> bytes:
    """rules 是 cgroup v1 的写法，如 'c 195:1 rwm'：这些设备什么也不许，别的都许。写法不对的抛 ValueError。

    权限一栏只有 rwm（全部）；minor 可以是 *。
    """
    code = b"".join(_instruction(LOAD_WORD, register, _CONTEXT, offset) for register, offset in _FIELDS)
    code += _instruction(AND, _FIELDS[0][0], imm=0xFFFF)
    for rule in rules:
        wanted = _parse(rule)
        tests = [(register, value) for (register, _), value in zip(_FIELDS, wanted, strict=True) if value is not None]
        for index, (register, value) in enumerate(tests):
            # 不是它：跳过余下的比较与「不许」的两条。
            code += _instruction(JUMP_UNLESS_EQUAL, register, offset=len(tests) - index - 1 + 2, imm=value)
        code += _instruction(MOVE, _RESULT, imm=0) + _instruction(EXIT)
    return code + _instruction(MOVE, _RESULT, imm=1) + _instruction(EXIT)


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | target, offset, imm)


def _parse(rule: str) -> tuple[int, int, int | None]:
    kind, numbers, access = rule.split()
    major, _, minor = numbers.partition(":")
    if kind not in _KINDS or set(access) != set("rwm"):
        raise ValueError(f"设备的写法 {rule!r} 不认识")
    return _KINDS[kind], int(major), None if minor == "*" else int(minor)


def load(rules: list[str]) -> int:
    """装载，返回程序的描述符（由调用者关）。没有权限、内核不支持抛 OSError。"""
    import ctypes

    code = assemble(rules)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII",
        *(PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
        *(0, 0, 0, 0, 0),
    )
    return _bpf(PROG_LOAD, attributes)


def attach(directory: str, rules: list[str]) -> None:
    """让这个 cgroup（与下级）里的进程碰不到这些设备。失败抛 OSError。"""
    program = load(rules)
    try:
        target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # 上面的（systemd 的）也算数：都许才许。
            _bpf(PROG_ATTACH, struct.pack("=IIII", target, program, ATTACH_CGROUP_DEVICE, ALLOW_MULTI))
        finally:
            os.close(target)
    finally:
        os.close(program)


def works() -> bool:
    """装得了吗：要 root（CAP_BPF、CAP_NET_ADMIN）与开了 CONFIG_CGROUP_BPF 的内核。"""
    try:
        os.close(load([]))
    except OSError:
        return False
    return True


def _bpf(command: int, attributes: bytes) -> int:
    import ctypes

    number = _SYSTEM_CALLS.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"不知道 {os.uname().machine} 上 bpf 的调用号")
    # 内核把没有给的项当作 0。
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    done: int = ctypes.CDLL(None, use_errno=True).syscall(
        ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(attributes))
    )
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done
