"""作业步的一个任务：管道、伪终端、换用户、绑核、prolog，直到 exec。只用标准库。"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct

from scns_conductor.core import step_wire as wire
from scns_conductor.worker.host.container import Inside, enter
from scns_conductor.worker.host.default_signals import DEFAULT_SIGNALS, restore_default_signals
from scns_conductor.worker.host.memory_policy import set_memory_nodes
from scns_conductor.worker.host.process_limits import set_limits
from scns_conductor.worker.wire.launch_spec import JOB_KEY_VARIABLE, MEMORY_ENTRANCE_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from scns_conductor.worker.wire.container_spec import ContainerSpec
    from scns_conductor.worker.wire.step_spec import StepSpec

CHUNK = 256 * 1024
FORWARDED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGCONT)


class Task:
    """一个任务：进程、它的管道、还没有写进去的输入。epilog_pid 是 --task-epilog 的进程。"""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.pid = 0
        self.epilog_pid = 0
        self.status: int | None = None
        self.exited_at = 0.0
        self.outputs: dict[int, int] = {}
        self.input_fd: int | None = None
        self.input = bytearray()
        # 写进去之后要告诉谁收下了几个字节：[连接, 字节数]，先来的先写。
        self.input_from: list[list[Any]] = []
        self.input_ended = False
        self.terminal: int | None = None
        self.reported = False


class TaskStarter:
    """按说明启动任务。linked 表示没有写明文件的流走连接。"""

    def __init__(self, spec: StepSpec, *, linked: bool) -> None:
        self._spec = spec
        self._ranks = spec.ranks
        self._own = {task.rank: task for task in spec.tasks}
        self._linked = linked

    def start(self, task: Task, pmi: tuple[int | None, dict[str, str]]) -> None:
        """启动；任务的输出在 task.outputs 里。pmi 是（要留给任务的描述符，变量），没有 PMI 的是空的。"""
        streams = self._spec.streams
        child: dict[int, int] = {}
        terminal = -1
        pty = streams.pty
        if pty and task.rank == 0:
            task.terminal, terminal = os.openpty()
            set_window(task.terminal, streams.rows, streams.columns)
            child = {0: terminal, 1: terminal, 2: terminal}
            os.set_blocking(task.terminal, False)
            task.outputs[task.terminal] = wire.STDOUT
            task.input_fd = task.terminal
        elif self._linked and not pty:
            self._make_pipes(task, child)
        task.pid, mask = _fork()
        if task.pid == 0:
            self._become_task(task, child, terminal, pmi, mask)
        for fd in set(child.values()):
            os.close(fd)

    def start_epilog(self, task: Task) -> None:
        """任务结束之后以同样的身份与环境运行 --task-epilog；没有写的什么也不做。"""
        program = self._spec.task_epilog
        if not program:
            return
        task.epilog_pid, mask = _fork()
        if task.epilog_pid == 0:
            try:
                self._settle_in(mask)
                null = os.open(os.devnull, os.O_RDWR)
                for target in range(3):
                    os.dup2(null, target)
                execute([program], self._environment(task))
            finally:
                os._exit(1)

    def _make_pipes(self, task: Task, child: dict[int, int]) -> None:
        """没有写明文件的流经管道走连接。"""
        files = self._own[task.rank].files
        if files.stdin is None:
            read_fd, task.input_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(task.input_fd, False)
            child[0] = read_fd
        for target, path, kind in ((1, files.stdout, wire.STDOUT), (2, files.stderr, wire.STDERR)):
            if path is None:
                if kind == wire.STDOUT and self._spec.streams.unbuffered:
                    read_fd, write_fd = unprocessed_terminal()
                else:
                    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(read_fd, False)
                with contextlib.suppress(OSError):
                    fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, CHUNK)
                task.outputs[read_fd] = kind
                child[target] = write_fd

    # ---- 以下都在子进程里 ----

    def _become_task(
        self,
        task: Task,
        child: dict[int, int],
        terminal: int,
        pmi: tuple[int | None, dict[str, str]],
        mask: set[int],
    ) -> NoReturn:
        """永不返回。退出码照 slurmstepd：执行不了是 errno。"""
        code = 1
        try:
            self._settle_in(mask, terminal, child.get(2, 2))
            self._open_files(task, child)
            # 先挪开：管道的描述符可能正是 0、1、2 中的另一个。
            for target, fd in [(target, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)) for target, fd in child.items()]:
                os.dup2(fd, target)
            environment = {**self._environment(task), **pmi[1]}
            if pmi[0] is not None:
                os.set_inheritable(pmi[0], True)
            self._bind(task)
            if self._prolog(environment):
                code = self._execute(task, environment, pmi[0])
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(2, f"slurmstepd: error: {_in_english(error)}\n".encode("utf-8", "replace"))
        os._exit(code)

    def _execute(self, task: Task, environment: dict[str, str], pmi_fd: int | None) -> int:
        """换成任务的程序；它要在容器里的，先进去。"""
        words, container = self._own[task.rank].argv or self._spec.argv, self._spec.container
        if container is not None:
            words, environment = self._enter(container, task, words, environment, pmi_fd)
        set_limits(self._spec.rlimits)
        return execute(words, environment)

    def _enter(
        self,
        container: ContainerSpec,
        task: Task,
        words: list[str],
        environment: dict[str, str],
        pmi_fd: int | None,
    ) -> tuple[list[str], dict[str, str]]:
        inside = Inside(
            f"scns-{self._spec.step}-{task.rank}",
            words,
            environment,
            os.getcwd(),
            uid=os.geteuid(),
            gid=os.getegid(),
            # 口令文件的目录在脚本的目录里，那里容器看不见。
            paths=[] if self._spec.x11_cookie is None else [os.path.dirname(environment.get("XAUTHORITY", "/"))],
            terminal=self._spec.streams.pty and task.rank == 0,
            kept_fd=pmi_fd,
        )
        return enter(container, inside)

    def _settle_in(self, mask: set[int], terminal: int = -1, stderr: int = 2) -> None:
        """信号、会话、用户、umask、工作目录。"""
        restore_default_signals()
        os.setsid()
        _enter_memory()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if terminal >= 0:
            import termios

            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        self._switch_user()
        os.umask(self._spec.umask)
        directory = self._spec.cwd
        try:
            os.chdir(directory)
        except OSError as error:
            os.chdir("/tmp")
            text = f"slurmstepd: error: couldn't chdir to `{directory}': {error.strerror}: going to /tmp instead\n"
            os.write(stderr, text.encode("utf-8", "replace"))

    def _switch_user(self) -> None:
        uid, gid, groups = self._spec.uid, self._spec.gid, self._spec.groups
        if uid is None or uid == os.geteuid():
            return
        gid = uid if gid is None else gid
        os.setgroups(groups or [gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def _open_files(self, task: Task, child: dict[int, int]) -> None:
        files = self._own[task.rank].files
        mode = os.O_APPEND if self._spec.streams.append else os.O_TRUNC
        # 几个任务写同一个文件时都追加，谁也不盖掉谁。
        shared = os.O_APPEND if self._spec.shared_files else 0
        opened: dict[str, int] = {}
        for target, wanted in enumerate((files.stdin, files.stdout, files.stderr)):
            if target in child:
                continue
            path = wanted or "/dev/null"
            if path not in opened:
                flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | (shared or mode)
                opened[path] = os.open(path, flags | os.O_NOCTTY, 0o666)
            child[target] = opened[path]

    def _bind(self, task: Task) -> None:
        """--cpu-bind、--mem-bind；绑不上的（核不在、不是作业的）说一句，任务照跑。"""
        cores = set(self._own[task.rank].cpu_ids or ())
        if cores:
            try:
                os.sched_setaffinity(0, cores)
            except OSError as error:
                listed = ",".join(map(str, sorted(cores)))
                os.write(2, f"slurmstepd: error: cpu-bind {listed}: {error.strerror}\n".encode())
        nodes = self._own[task.rank].memory_nodes
        if nodes:
            try:
                set_memory_nodes(nodes, prefer=self._spec.memory_preferred)
            except OSError as error:
                # 同 slurmstepd：说一句，任务照跑。
                os.write(2, f"slurmstepd: error: mem-bind {nodes}: {error.strerror}\n".encode())
        if self._spec.tell_binding:
            mask = sum(1 << core for core in os.sched_getaffinity(0))
            local = self._ranks.index(task.rank)
            text = f"cpu-bind=MASK - {self._spec.node}, task {task.rank:2d} {local:2d} [{os.getpid()}]: mask {mask:#x}"
            os.write(2, f"{text} set\n".encode())

    def _environment(self, task: Task) -> dict[str, str]:
        return {
            **self._spec.env,
            # 没有 cgroup 时靠它认出任务的后代：牧守进程给了步的主人。
            JOB_KEY_VARIABLE: os.environ[JOB_KEY_VARIABLE],
            **self._own[task.rank].env,
            "SLURM_PROCID": str(task.rank),
            "SLURM_LOCALID": str(self._ranks.index(task.rank)),
            "SLURM_TASK_PID": str(task.pid or os.getpid()),
        }

    def _prolog(self, environment: dict[str, str]) -> bool:
        """--task-prolog：它打印的 export、unset、print 行照办（srun(1)）；失败返回 False。"""
        program = self._spec.task_prolog
        if not program:
            return True
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.dup2(write_fd, 1)
            os._exit(execute([program], environment))
        os.close(write_fd)
        with open(read_fd, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
        status = os.waitpid(pid, 0)[1]
        if status:
            os.write(2, f"slurmstepd: error: TaskProlog failed status={status}\n".encode())
            return False
        for line in lines:
            verb, _, rest = line.strip().partition(" ")
            if verb == "print":
                os.write(1, f"{rest}\n".encode("utf-8", "surrogateescape"))
            elif verb == "export" and "=" in rest:
                name, _, value = rest.partition("=")
                environment[name.strip()] = value
            elif verb == "unset":
                environment.pop(rest.strip(), None)
        return True


def _enter_memory() -> None:
    """换用户之前，进作业（这一步）的内存控制组：主人自己不在里面。"""
    path = os.environ.get(MEMORY_ENTRANCE_VARIABLE)
    if path:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)


def signal_task(pid: int, number: int) -> None:
    """信号给任务的进程组；刚 fork、还没有自立门户的只给它自己，已经不在的不管。"""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _fork() -> tuple[int, set[int]]:
    """fork，返回（进程号，原来的信号掩码）。

    子进程里信号先等着，到它清掉继承来的处理、恢复掩码为止：来得太早的不会被父进程的处理吞掉。
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid, mask


def _in_english(error: BaseException) -> str:
    """srun 打印的都是英文。译文目录用到才载入；换了用户之后读不到它的，照原文说。"""
    try:
        from scns_conductor.language.catalogue import english

        return english(str(error))
    except (ImportError, OSError):
        return str(error)


def execute(words: list[str], environment: dict[str, str]) -> int:
    """换成这个程序；成功就不返回，失败打印一行并返回 errno。

    不用 execvpe：它要导入模块，而换了用户之后可能读不到解释器的目录。
    """
    # PATH 里没有的，再看当前目录（srun(1) 的 EXECUTABLE PATH RESOLUTION）。
    where = [""] if "/" in words[0] else [*environment.get("PATH", os.defpath).split(":"), os.curdir]
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


def unprocessed_terminal() -> tuple[int, int]:
    """一对伪终端的描述符，换行原样：C 库看到终端就逐行输出，不攒着（srun -u）。"""
    import termios

    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    return master, slave


def set_window(fd: int, rows: int, columns: int) -> None:
    """伪终端的大小；0 表示不知道，不改。"""
    if rows and columns:
        import termios

        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
