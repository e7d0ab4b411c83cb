"""执行 scns 与 Slurm 的命令，像 subprocess.run；同一个命令的第二次起，不再从头启动 Python。

第一次照平常执行装好的程序。以后由一个载入了各命令模块的进程 fork 出来执行同一个脚本：仍是自己的进程、
自己的环境、目录、标准流与退出码，省下的只是启动 Python 与导入（七八成的 CPU）。模块载入时就用上了语言，
所以说中文的、说英文的各由一个进程 fork。服务的进程（代理、调度器）见 warm_processes.py，也由这里的 fork。
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import hashlib
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scns_conductor.language.choice import Language, environment_language

# 命令用得到的包，连同它们下面的全部模块；与碰设置、数据库的命令要的。
PACKAGES = ("scns_conductor.client", "scns_conductor.slurm", "scns_conductor.cli", "scns_conductor.simulator")
MODULES = ("scns_conductor.core.settings", "scns_conductor.core.database", "scns_conductor.services.server_facts")
# 另外的进程载入服务要的：节点与调度的；scns up 整个的，API 也在里面（大，不是每次都要）。
WORKERS = ("scns_conductor.worker.agent.process", "scns_conductor.worker.scheduler.process")
SERVICES = {
    "workers": WORKERS,
    "system": (
        "scns_conductor.local.up_command", "scns_conductor.web.login_links",
        *WORKERS, "scns_conductor.worker.background.process",
        "scns_conductor.api.app", "scns_conductor.slurmrestd.dispatch", "uvloop", "httptools", "warm_system",
    ),
}  # fmt: skip
# 命令行给 fork 出来的留的地方。
ROOM = 1000
# 环境变量：xdist 的几个进程合用的目录，与主进程的号（conftest.py）；没有的各用各的。
SHARED, OWNER = "TEST_SHARED", "TEST_OWNER"

_doors: dict[tuple[str, Language], socket.socket] = {}
_lock = threading.Lock()


@functools.cache
def _shared() -> Path:
    if SHARED in os.environ:
        return Path(os.environ[SHARED])
    own = tempfile.mkdtemp(prefix="scns-warm-")
    atexit.register(shutil.rmtree, own)
    return Path(own)


def is_first(*words: str) -> bool:
    """这次运行（几个进程合起来）头一回见到它。"""
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()
    try:
        os.close(os.open(_shared() / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def run(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    text: str | None = None,
    timeout: float = 120.0,
    real_first: bool = True,
) -> "subprocess.CompletedProcess[str]":
    """执行一个脚本（words[0] 是它的路径），取输出与退出码；text 是标准输入，没有就是空的。

    real_first=False：第一次也不从头启动；别处执行过每个命令的，用它。
    """
    command = [str(word) for word in words]
    name = os.path.basename(command[0])
    seen = (command[0], *command[1:2]) if name == "scns" else (name,)
    if (real_first and is_first(*seen)) or start_variables(env) != start_variables(os.environ):
        if name.endswith(".py"):
            command.insert(0, sys.executable)
        return subprocess.run(
            command, input=text or "", capture_output=True, text=True, cwd=cwd, env=env, timeout=timeout, check=False
        )
    return _forked(command, dict(env), str(cwd or Path.cwd()), (text or "").encode(), timeout)


def ask(kind: str, command: list[str], env: dict[str, str], cwd: str, fds: list[int]) -> None:
    """请载入好了的进程 fork 一个；fds 是它的三个标准流，与它写下退出码的管道。"""
    message = json.dumps([command, env, cwd]).encode()
    with _lock:
        door = _door(kind, environment_language(env))
        socket.send_fds(door, [len(message).to_bytes(4, "big")], fds)
        door.sendall(message)


def start_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Python 与装载器启动时就看的变量（faketime 的 LD_PRELOAD 也是）：改了的，要从头启动。"""
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LD_", "MALLOC_", "GLIBC_"))}


def _forked(
    command: list[str], env: dict[str, str], cwd: str, given: bytes, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """请载入好了的进程 fork 一个，喂给它标准输入，收它的两个输出与退出码。"""
    theirs_in, ours_in = os.pipe()
    (out, theirs_out), (err, theirs_err), (status, theirs_status) = os.pipe(), os.pipe(), os.pipe()
    theirs = [theirs_in, theirs_out, theirs_err, theirs_status]
    ask("commands", command, env, cwd, theirs)
    for each in theirs:
        os.close(each)
    feeding = threading.Thread(target=_feed, args=(ours_in, given))
    feeding.start()
    found: dict[int, bytearray] = {out: bytearray(), err: bytearray(), status: bytearray()}
    waiting = set(found)
    deadline = time.monotonic() + timeout
    try:
        while waiting:
            ready, _, _ = select.select(waiting, (), (), max(0.0, deadline - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(command, timeout, bytes(found[out]), bytes(found[err]))
            for each in ready:
                data = os.read(each, 1 << 16)
                found[each] += data
                if not data:
                    waiting.discard(each)
    finally:
        for each in found:
            os.close(each)
    feeding.join()
    code = int(found[status].split()[1])
    return subprocess.CompletedProcess(command, code, *(_text(found[each]) for each in (out, err)))


def _feed(place: int, given: bytes) -> None:
    """把标准输入写完；不看的命令也许先走了。"""
    with contextlib.suppress(BrokenPipeError), open(place, "wb") as file:
        file.write(given)


def _text(data: bytearray) -> str:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()


def _door(kind: str, language: Language) -> socket.socket:
    """通向载入好了的进程；几个进程里第一个用到的启动它，它与主进程一同结束。"""
    if (kind, language) not in _doors:
        address = _shared() / f"{kind}-{language}"
        ours = socket.socket(socket.AF_UNIX)
        with open(_shared() / "doors", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not address.exists():
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(str(address))
                    listener.listen()
                    fd = listener.fileno()
                    owner = os.environ.get(OWNER, str(os.getpid()))
                    subprocess.Popen(
                        [sys.executable, __file__, str(fd), kind, owner, "x" * ROOM],
                        pass_fds=[fd], stdin=subprocess.DEVNULL, env={**os.environ, "SCNS_LANG": language},
                        start_new_session=True,
                    )  # fmt: skip
            ours.connect(str(address))
        _doors[kind, language] = ours
        atexit.register(ours.close)
    return _doors[kind, language]


def _serve(listener: socket.socket, kind: str, owner: int) -> None:
    """载入各命令（各服务），然后每个请求 fork 一个；主进程没有了就结束。"""
    over = os.pidfd_open(owner)
    # 载入时的线程数：fork 出来的只有一个线程。
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in PACKAGES if kind == "commands" else ():
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in (*MODULES, *SERVICES.get(kind, ())):
        importlib.import_module(name)
    gc.freeze()
    doors: dict[int, socket.socket] = {}
    # 进程的 pidfd -> （进程号，写下它的退出码的管道）。
    children: dict[int, tuple[int, int]] = {}
    while True:
        ready = {*select.select([over, listener.fileno(), *doors, *children], (), ())[0]}
        if over in ready:
            return
        if listener.fileno() in ready:
            door = listener.accept()[0]
            doors[door.fileno()] = door
        for pidfd in ready & children.keys():
            pid, status = children.pop(pidfd)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            # 等得太久的也许不等了。
            with contextlib.suppress(BrokenPipeError):
                os.write(status, str(code).encode())
            os.close(status)
            os.close(pidfd)
        for fd in ready & doors.keys():
            asked = _asked(doors[fd])
            if asked is None:
                doors.pop(fd).close()
                continue
            (command, env, cwd), (*streams, status) = asked
            pid = os.fork()
            if pid == 0:
                listener.close()
                for door in doors.values():
                    door.close()
                for each in (over, status, *children, *(status for _, status in children.values())):
                    os.close(each)
                _be(command, env, cwd, streams)
            for each in streams:
                os.close(each)
            os.write(status, f"{pid}\n".encode())
            children[os.pidfd_open(pid)] = pid, status


def _asked(door: socket.socket) -> tuple[Any, list[int]] | None:
    """一个请求：（命令、环境、目录），描述符；关了的门是 None。"""
    head, fds, _, _ = socket.recv_fds(door, 4, 4, socket.MSG_WAITALL)
    if not head:
        return None
    message = bytearray()
    while len(message) < int.from_bytes(head, "big"):
        more = door.recv(int.from_bytes(head, "big") - len(message))
        if not more:
            return None
        message += more
    return json.loads(message), fds


def _show(words: Sequence[str]) -> None:
    """进程表里看到的命令行（/proc/PID/cmdline）是它的，不是载入的进程的。"""
    place, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    shown = "\0".join(words).encode()[: end - place - 1]
    ctypes.memmove(place, shown.ljust(end - place, b"\0"), end - place)


def _be(command: list[str], env: dict[str, str], cwd: str, streams: list[int]) -> None:
    """成为这个命令（-m 的是模块）。"""
    code: Any = 1
    try:
        _show([sys.executable, *command])
        for place, fd in enumerate(streams):
            os.dup2(fd, place)
            os.close(fd)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        os.chdir(cwd)
        # 原来的流对象没有了也不关：fork 出来的 scns up 再 fork 服务时，它们就是同样的描述符。
        utf8 = functools.partial(open, encoding="utf-8", closefd=False)
        sys.stdin = sys.__stdin__ = utf8(0)
        sys.stdout = sys.__stdout__ = utf8(1, "w")
        sys.stderr = sys.__stderr__ = utf8(2, "w", errors="backslashreplace", buffering=1)
        try:
            if command[0] == "-m":
                sys.argv, sys.path[0] = command[1:], cwd
                # 载入过的，runpy 要抱怨一声：服务的日志里不该有它。
                warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
                if command[1] == "scns_conductor.local":
                    from warm_system import fork_services

                    fork_services(_be)
                runpy.run_module(command[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv, sys.path[0] = command, os.path.dirname(command[0])
                runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
            if code is None:
                code = 0
            elif not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _serve(listening, sys.argv[2], int(sys.argv[3]))
