"""cgroup v2 的设备程序：逐条解释执行它的指令；内核许的话，也真的装上去试。"""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.worker.host.cgroup import CgroupLimits, mounts, move_to
from scns_conductor.worker.host.cgroup_v2 import open_tree
from scns_conductor.worker.host.device_program import AND, EXIT, JUMP_UNLESS_EQUAL, LOAD_WORD, MOVE, assemble, works

BLOCK, CHARACTER = 1, 2


def run(code: bytes, kind: int, major: int, minor: int, access: int = 6) -> int:
    """照 BPF 的说明一条一条地执行，返回 r0；越界、没有返回就走完的抛 AssertionError。"""
    context = struct.pack("<III", access << 16 | kind, major, minor)
    instructions = list(struct.iter_unpack("<BBhi", code))
    registers: dict[int, int] = {1: 0}
    at = 0
    for _ in range(len(instructions)):
        operation, both, offset, value = instructions[at]
        target, source = both & 15, both >> 4
        at += 1
        if operation == LOAD_WORD:
            (registers[target],) = struct.unpack_from("<I", context, registers[source] + offset)
        elif operation == AND:
            registers[target] &= value
        elif operation == MOVE:
            registers[target] = value
        elif operation == JUMP_UNLESS_EQUAL:
            at += offset if registers[target] != value else 0
        else:
            assert operation == EXIT
            return registers[0]
    raise AssertionError("没有返回")


@given(
    st.lists(st.tuples(st.sampled_from("bc"), st.integers(0, 3), st.none() | st.integers(0, 3)), max_size=5),
    st.sampled_from([BLOCK, CHARACTER]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(1, 7),
)
def test_exactly_the_listed_devices_are_denied(
    denied: list[tuple[str, int, int | None]], kind: int, major: int, minor: int, access: int
) -> None:
    code = assemble([f"{word} {first}:{'*' if second is None else second} rwm" for word, first, second in denied])
    letter = "b" if kind == BLOCK else "c"
    listed = any(word == letter and first == major and second in (None, minor) for word, first, second in denied)
    assert run(code, kind, major, minor, access) == (0 if listed else 1)


@pytest.mark.parametrize("rule", ["x 1:2 rwm", "c 1:2 r", "c 1", "c a:b rwm"])
def test_rules_it_does_not_know(rule: str) -> None:
    with pytest.raises(ValueError):
        assemble([rule])


@pytest.fixture
def mount_point() -> str:
    point = next((point for kind, point, _ in mounts() if kind == "cgroup2"), None)
    if point is None or os.geteuid() or not works():
        pytest.skip("要 root、cgroup2 与 CONFIG_CGROUP_BPF")
    return point


def opened(entrances: list[str | int], paths: list[str]) -> list[str]:
    """进了这个 cgroup 的进程打得开哪些。"""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        move_to(entrances)
        for path in paths:
            try:
                os.close(os.open(path, os.O_RDONLY))
                os.write(writer, f"{path}\n".encode())
            except PermissionError:
                pass
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = file.read().split()
    assert os.waitpid(child, 0)[1] == 0
    return found


def test_two_jobs_are_confined_to_their_own_devices(mount_point: str) -> None:
    tree = open_tree(mount_point, mount_point, f"scns/devices-{os.getpid()}", own_root=True)
    assert "devices" in tree.controllers
    # 两块假的卡：/dev/zero（1:5）与 /dev/full（1:7）。
    jobs = {"job_1_0": "c 1:7 rwm", "job_2_0": "c 1:5 rwm", "job_3_0": None}
    cgroups = [tree.create(name, CgroupLimits(device_deny=[rule] if rule else None)) for name, rule in jobs.items()]
    try:
        devices = ["/dev/null", "/dev/zero", "/dev/full"]
        seen = [opened(cgroup.entrances, devices) for cgroup in cgroups]
        assert seen == [["/dev/null", "/dev/zero"], ["/dev/null", "/dev/full"], devices]
    finally:
        assert all(cgroup.remove() for cgroup in cgroups)
        tree.remove()
