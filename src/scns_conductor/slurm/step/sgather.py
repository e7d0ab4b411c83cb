"""sgather：把作业各节点上的同名文件收到这里，名字后面接上节点名（sgather(1)，sbcast 的反面）。

每个节点一个 srun 步，内容经 srun 的连接送来，不用 scp；先写好再改名，断了不留半个文件。
"""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from scns_conductor.core.hostlist import expand
from scns_conductor.slurm.parse.options import Parsed, flags, hints, refused, values
from scns_conductor.slurm.session import Fatal, parse_or_exit, say

_USAGE = "Usage: sgather [-CfFkprtvV] SOURCE DEST"
OPTIONS = [
    *flags("-f --force", "-k --keep", "-p --preserve", "-v --verbose"),
    *flags("-V --version", "-h --help", "--usage"),
    *values("-F --fanout"),
    *hints(flags("-C --compress"), values("-t --timeout")),
    *refused(flags("-r --recursive")),
]
# 选项 -> 变量：写了就算（sgather(1)）。
_VARIABLES = {name: f"SGATHER_{name.upper()}" for name in ("force", "keep", "preserve", "recursive", "fanout")}
_MOST_FANOUT = 8
_MISSING = 66


@dataclass(frozen=True, slots=True)
class _Wanted:
    """要收的文件与怎样收。"""

    source: str
    destination: str
    force: bool
    keep: bool
    preserve: bool


def main(words: list[str]) -> int:
    """都收到返回 0；有一个节点没有收到返回 1，其余照收。"""
    parsed = parse_or_exit("sgather", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if len(parsed.arguments) != 2:
        print(f"Need two file names, have {len(parsed.arguments)} names", file=sys.stderr)
        print('Try "sgather --help" for more information', file=sys.stderr)
        return 1
    if _given(parsed, "recursive"):
        raise Fatal("--recursive is not supported by this system: gather a tar file instead")
    nodes = os.environ.get("SLURM_JOB_NODELIST") or os.environ.get("SLURM_NODELIST")
    if not (os.environ.get("SLURM_JOB_ID") and nodes):
        raise Fatal("Command only valid from within Slurm job")
    source, destination = parsed.arguments
    wanted = _Wanted(
        source, os.path.abspath(destination), *(_given(parsed, name) for name in ("force", "keep", "preserve"))
    )
    with ThreadPoolExecutor(_fanout(parsed)) as pool:
        return max(pool.map(lambda node: _gather(wanted, node), expand(nodes)), default=0)


def _given(parsed: Parsed, name: str) -> bool:
    return name in parsed or _VARIABLES[name] in os.environ


def _fanout(parsed: Parsed) -> int:
    text = parsed.last("fanout") or os.environ.get(_VARIABLES["fanout"]) or str(_MOST_FANOUT)
    if not (text.isdecimal() and 1 <= int(text[:4]) <= _MOST_FANOUT):
        raise Fatal(f"invalid fanout -- '{text}'")
    return int(text)


def _gather(wanted: _Wanted, node: str) -> int:
    """一个节点；返回退出码。"""
    final = f"{wanted.destination}.{node}"
    draft = f"{final}.{os.getpid()}.part"
    place = shlex.quote(wanted.source)
    script = f"test -e {place} || exit {_MISSING}; exec cat -- {place}"
    try:
        with open(draft, "wb") as file:
            code = _on(node, script, stdout=file)
    except OSError as error:
        say("sgather", f"error: Can't open {final}: {error.strerror}")
        return 1
    try:
        if code == 0 and wanted.preserve:
            code = _copy_times(draft, node, place)
        if code == 0:
            os.replace(draft, final)
            # 收好了才删原来的。
            return 0 if wanted.keep else _on(node, f"exec rm -- {place}")
    finally:
        if os.path.exists(draft):
            os.unlink(draft)
    if code == _MISSING:
        say("sgather", f"error: {node}: Can't open {wanted.source}" + ("; ignored" if wanted.force else ""))
        return 0 if wanted.force else 1
    say("sgather", f"error: {node}: could not gather {wanted.source} (exit code {code})")
    return 1


def _copy_times(path: str, node: str, place: str) -> int:
    """-p：权限与修改的时刻照原来的。"""
    found = subprocess.run(
        _step(node, f"exec stat -c '%a %Y' -- {place}"), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    mode, _, changed = found.stdout.decode(errors="replace").strip().partition(" ")
    if found.returncode or not changed.isdecimal():
        return found.returncode or 1
    os.chmod(path, int(mode, 8) & 0o777)
    os.utime(path, (int(changed), int(changed)))
    return 0


def _on(node: str, script: str, stdout: IO[bytes] | int = subprocess.DEVNULL) -> int:
    return subprocess.run(_step(node, script), stdin=subprocess.DEVNULL, stdout=stdout, check=False).returncode


def _step(node: str, script: str) -> list[str]:
    """srun 在同一个目录里；-Q 与 --overlap：不说话，不占别的步的 CPU。"""
    srun = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "srun")
    return [srun, "-Q", "--overlap", "-N1", "-n1", "-w", node, "/bin/sh", "-c", script]
