"""作业步在一个节点上的主人（相当于 slurmstepd）：启动任务，把输入输出经一条连接交给 srun，转信号，报结局。

由牧守进程启动，只用标准库；说明在一个 JSON 文件里（worker/job_steps.py 写），读完就删。
没有 srun 的连接时输出都在文件里。srun 断了（没有说 BYE）就结束任务：没有人要它的结果了。
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time

from scns_conductor.core import step_wire as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CHUNK = 256 * 1024
# 待发给 srun 的字节多于此就先不读任务的输出；待写给任务的输入由 srun 按 TAKEN 控制。
OUTPUT_HIGH_WATER = 4 * 1024**2
CONNECT_WAIT_S = 5.0
# 任务退出之后，它留下的后代还占着管道时最多等这么久。
LINGER_S = 0.5
KILL_WAIT_S = 5.0
BYE_WAIT_S = 60.0
_FORWARDED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGCONT)


class Task:
    """一个任务：进程、它的管道、还没有写进去的输入。"""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.pid = 0
        self.status: int | None = None
        self.exited_at = 0.0
        self.outputs: dict[int, int] = {}
        self.input_fd: int | None = None
        self.input = bytearray()
        self.input_ended = False
        self.terminal: int | None = None


class Step:
    """事件循环。spec 的各项见 job_steps.step_spec。"""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._selector = selectors.DefaultSelector()
        self._tasks = {rank: Task(rank) for rank in spec["ranks"]}
        self._out = bytearray()
        self._reader = wire.FrameReader()
        self._link: socket.socket | None = None
        self._paused = False
        self._said_goodbye = False
        self._doom_at: float | None = None

    # ---- 一生 ----

    def run(self) -> int:
        """直到全部任务结束并交代完；返回退出码。"""
        wanted = self._spec.get("connection")
        if wanted and not self._connect(wanted):
            print("连不上 srun，作业步没有启动", file=sys.stderr)
            return 1
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, *_FORWARDED):
            signal.signal(number, lambda *_: None)
        self._selector.register(wake_read, selectors.EVENT_READ, ("wake", None))
        for task in self._tasks.values():
            self._start(task)
        pids = {str(task.rank): task.pid for task in self._tasks.values()}
        self._send(wire.json_frame(wire.STARTED, 0, {"pids": pids}))
        while not self._finished():
            self._turn(wake_read)
        return self._farewell(wake_read)

    def _finished(self) -> bool:
        return all(task.status is not None and not task.outputs for task in self._tasks.values())

    def _turn(self, wake_read: int) -> None:
        for key, events in self._selector.select(self._wait_s()):
            kind, task = key.data
            if kind == "wake":
                self._woken(wake_read)
            elif kind == "link":
                self._serve(events)
            elif kind == "input":
                self._write_input(task)
            elif key.fd in task.outputs:
                self._read_output(task, key.fd)
        self._reap()
        now = time.monotonic()
        for task in self._tasks.values():
            if task.status is not None and task.outputs and now - task.exited_at > LINGER_S:
                for fd in list(task.outputs):
                    self._close_output(task, fd)
        if self._doom_at is not None and now >= self._doom_at:
            self._signal_all(signal.SIGKILL)
            self._doom_at = None

    def _wait_s(self) -> float | None:
        moments = [task.exited_at + LINGER_S for task in self._tasks.values() if task.status is not None]
        if self._doom_at is not None:
            moments.append(self._doom_at)
        return max(0.0, min(moments) - time.monotonic()) + 0.001 if moments else None

    def _farewell(self, wake_read: int) -> int:
        """说 DONE，等 srun 收完说 BYE：还有没读的输入时关连接，会把路上的输出一起丢掉。"""
        self._send(wire.frame(wire.DONE))
        deadline = time.monotonic() + BYE_WAIT_S
        while self._link is not None and not self._said_goodbye and time.monotonic() < deadline:
            for key, events in self._selector.select(deadline - time.monotonic()):
                if key.data[0] == "link":
                    self._serve(events)
                elif key.data[0] == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
        codes = [exit_code(task.status or 0) for task in self._tasks.values()]
        return max(codes, default=0)

    # ---- 信号 ----

    def _woken(self, wake_read: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake_read, 4096):
                if number == signal.SIGTERM:
                    self._doom()
                elif number != signal.SIGCHLD:
                    self._signal_all(number)

    def _doom(self) -> None:
        """结束任务：先 SIGTERM，一会儿之后 SIGKILL。"""
        if self._doom_at is None and self._link is not None and not self._finished():
            when = time.strftime("%Y-%m-%dT%H:%M:%S")
            text = f"slurmstepd: error: *** STEP {self._spec['step']} ON {self._spec['node']} CANCELLED AT {when} ***\n"
            self._send(wire.frame(wire.STDERR, self._spec["ranks"][0], text.encode()))
        self._signal_all(signal.SIGCONT)
        self._signal_all(signal.SIGTERM)
        if self._doom_at is None:
            self._doom_at = time.monotonic() + KILL_WAIT_S

    def _signal_all(self, number: int) -> None:
        for task in self._tasks.values():
            if task.pid and task.status is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(task.pid, number)

    # ---- 与 srun 的连接 ----

    def _connect(self, wanted: dict[str, Any]) -> bool:
        for address in wanted["addresses"]:
            try:
                self._link = socket.create_connection((address, wanted["port"]), timeout=CONNECT_WAIT_S)
                break
            except OSError as error:
                print(f"连不上 {address}:{wanted['port']}：{error}", file=sys.stderr)
        if self._link is None:
            return False
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._link.setblocking(False)
        self._selector.register(self._link, selectors.EVENT_READ, ("link", None))
        hello = {"key": wanted["key"], "node": self._spec["node"], "ranks": self._spec["ranks"], "pid": os.getpid()}
        self._send(wire.json_frame(wire.HELLO, 0, hello))
        return True

    def _send(self, data: bytes) -> None:
        if self._link is None:
            return
        self._out += data
        self._push()

    def _push(self) -> None:
        if self._link is None:
            return
        try:
            while self._out:
                sent = self._link.send(memoryview(self._out)[:CHUNK])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        self._selector.modify(self._link, events, ("link", None))
        self._pace()

    def _pace(self) -> None:
        """待发的太多就停读任务的输出，发掉一半再读。"""
        if not self._paused and len(self._out) > OUTPUT_HIGH_WATER:
            self._paused = True
            for task in self._tasks.values():
                for fd in task.outputs:
                    self._selector.unregister(fd)
        elif self._paused and len(self._out) < OUTPUT_HIGH_WATER // 2:
            self._paused = False
            for task in self._tasks.values():
                for fd in task.outputs:
                    self._selector.register(fd, selectors.EVENT_READ, ("output", task))

    def _serve(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._push()
        if not events & selectors.EVENT_READ or self._link is None:
            return
        try:
            chunk = self._link.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lost()
            return
        try:
            for kind, number, payload in self._reader.feed(chunk):
                self._obey(kind, number, payload)
        except (wire.FrameError, ValueError, KeyError) as error:
            print(f"srun 送来的看不懂：{error}", file=sys.stderr)
            self._lost()

    def _obey(self, kind: int, number: int, payload: bytes) -> None:
        if kind in (wire.STDIN, wire.STDIN_END):
            ranks = list(self._tasks) if number == wire.ALL_TASKS else [number]
            for rank in ranks:
                if rank in self._tasks:
                    self._take_input(self._tasks[rank], payload, ended=kind == wire.STDIN_END)
        elif kind == wire.SIGNAL:
            self._signal_all(signal.Signals(number))
        elif kind == wire.WINDOW:
            size = json.loads(payload)
            for task in self._tasks.values():
                if task.terminal is not None:
                    _set_window(task.terminal, int(size["rows"]), int(size["columns"]))
        elif kind == wire.BYE:
            self._said_goodbye = True

    def _lost(self) -> None:
        if self._link is None:
            return
        self._selector.unregister(self._link)
        self._link.close()
        self._link = None
        self._out.clear()
        self._pace()
        if not self._said_goodbye:
            self._doom()

    # ---- 任务的输入输出 ----

    def _take_input(self, task: Task, data: bytes, *, ended: bool) -> None:
        if task.input_fd is None:
            self._taken(len(data))
            return
        task.input += data
        task.input_ended = task.input_ended or ended
        self._write_input(task)

    def _write_input(self, task: Task) -> None:
        fd = task.input_fd
        if fd is None:
            return
        before = len(task.input)
        try:
            while task.input:
                del task.input[: os.write(fd, memoryview(task.input)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            # 任务不读了：余下的输入丢掉。
            task.input.clear()
            task.input_ended = True
        self._taken(before - len(task.input))
        watched = fd in self._selector.get_map()
        if task.input and not watched:
            self._selector.register(fd, selectors.EVENT_WRITE, ("input", task))
        elif not task.input and watched and task.terminal is None:
            self._selector.unregister(fd)
        if task.input_ended and not task.input and task.terminal is None:
            os.close(fd)
            task.input_fd = None

    def _taken(self, count: int) -> None:
        if count:
            self._send(wire.frame(wire.TAKEN, count))

    def _read_output(self, task: Task, fd: int) -> None:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # 伪终端的另一头都关了。
            data = b""
        if data:
            self._send(wire.frame(task.outputs[fd], task.rank, data))
        else:
            self._close_output(task, fd)

    def _close_output(self, task: Task, fd: int) -> None:
        del task.outputs[fd]
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        os.close(fd)
        if fd == task.terminal:
            task.terminal = task.input_fd = None
        self._report(task)

    def _reap(self) -> None:
        for task in self._tasks.values():
            if task.pid and task.status is None:
                pid, status = os.waitpid(task.pid, os.WNOHANG)
                if pid:
                    task.status, task.exited_at = status, time.monotonic()
                    self._report(task)

    def _report(self, task: Task) -> None:
        """输出都送完了才报退出：srun 收到退出时，输出已经全在它手里。"""
        if task.status is not None and not task.outputs:
            self._send(wire.json_frame(wire.EXITED, task.rank, {"status": task.status}))

    # ---- 启动任务 ----

    def _start(self, task: Task) -> None:
        streams = self._spec["streams"]
        terminal = -1
        child: dict[int, int] = {}
        pty = bool(streams.get("pty"))
        if pty and task.rank == 0:
            task.terminal, terminal = os.openpty()
            _set_window(task.terminal, streams["rows"], streams["columns"])
            child = {0: terminal, 1: terminal, 2: terminal}
            os.set_blocking(task.terminal, False)
            task.outputs[task.terminal] = wire.STDOUT
            task.input_fd = task.terminal
        elif self._link is not None and not pty:
            self._make_pipes(task, child)
        task.pid = os.fork()
        if task.pid == 0:
            self._become_task(task, child, terminal)
        for fd in set(child.values()):
            os.close(fd)
        for fd in task.outputs:
            if not self._paused:
                self._selector.register(fd, selectors.EVENT_READ, ("output", task))

    def _make_pipes(self, task: Task, child: dict[int, int]) -> None:
        """没有写明文件的流经管道走连接。"""
        files = self._spec["files"][str(task.rank)]
        if files["stdin"] is None:
            read_fd, task.input_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(task.input_fd, False)
            child[0] = read_fd
        for target, name, kind in ((1, "stdout", wire.STDOUT), (2, "stderr", wire.STDERR)):
            if files[name] is None:
                read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(read_fd, False)
                with contextlib.suppress(OSError):
                    fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, CHUNK)
                task.outputs[read_fd] = kind
                child[target] = write_fd

    def _become_task(self, task: Task, child: dict[int, int], terminal: int) -> NoReturn:
        """在子进程里执行，永不返回。退出码照 slurmstepd：执行不了是 errno。"""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, *_FORWARDED):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            if terminal >= 0:
                import termios

                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            self._switch_user()
            os.umask(self._spec["umask"])
            directory = self._spec["cwd"]
            try:
                os.chdir(directory)
            except OSError as error:
                os.chdir("/tmp")
                text = f"slurmstepd: error: couldn't chdir to `{directory}': {error.strerror}: going to /tmp instead\n"
                os.write(child.get(2, 2), text.encode("utf-8", "replace"))
            self._open_files(task, child)
            for target, fd in child.items():
                os.dup2(fd, target)
            code = self._execute(task)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(2, f"slurmstepd: error: {error}\n".encode("utf-8", "replace"))
        os._exit(code)

    def _switch_user(self) -> None:
        uid, gid, groups = self._spec["uid"], self._spec["gid"], self._spec["groups"]
        if uid is None or uid == os.geteuid():
            return
        os.setgroups(groups or [gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def _open_files(self, task: Task, child: dict[int, int]) -> None:
        files = self._spec["files"][str(task.rank)]
        mode = os.O_APPEND if self._spec["streams"].get("append") else os.O_TRUNC
        # 几个任务写同一个文件时都追加，谁也不盖掉谁。
        shared = os.O_APPEND if self._spec["shared_files"] else 0
        opened: dict[str, int] = {}
        for target, name in enumerate(("stdin", "stdout", "stderr")):
            if target in child:
                continue
            path = files[name] or "/dev/null"
            if path not in opened:
                flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | (shared or mode)
                opened[path] = os.open(path, flags | os.O_NOCTTY, 0o666)
            child[target] = opened[path]

    def _execute(self, task: Task) -> int:
        spec = self._spec
        words = (spec.get("multi_prog") or {}).get(str(task.rank)) or spec["argv"]
        words = [word.replace("%t", str(task.rank)) if spec.get("multi_prog") else word for word in words]
        environment = {
            **spec["env"],
            "SLURM_PROCID": str(task.rank),
            "SLURM_LOCALID": str(spec["ranks"].index(task.rank)),
            "SLURM_TASK_PID": str(os.getpid()),
        }
        # 不用 execvpe：它要导入模块，而换了用户之后可能读不到解释器的目录。
        where = [""] if "/" in words[0] else environment.get("PATH", os.defpath).split(":")
        failure = errno.ENOENT
        for directory in where:
            try:
                os.execve(os.path.join(directory, words[0]), words, environment)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    failure = error.errno or errno.EACCES
        text = f"slurmstepd: error: execve(): {words[0]}: {os.strerror(failure)}\n"
        os.write(2, text.encode("utf-8", "replace"))
        return failure


def exit_code(status: int) -> int:
    """wait 的状态 -> 退出码；被信号杀死的是 128 加信号。"""
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _set_window(fd: int, rows: int, columns: int) -> None:
    if rows and columns:
        import termios

        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main(path: str) -> None:
    """读说明，运行，以各任务退出码的最大值退出。"""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        spec = json.load(file)
    os.unlink(path)
    sys.exit(Step(spec).run())
