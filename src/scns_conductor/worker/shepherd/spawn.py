"""创建作业进程。两条路：

快路：posix_spawn（vfork，约 0.55 毫秒），牧守进程自己先进入作业的 cgroup 再出来，子进程生来就在里面；
内存上限等它出来之后才写（几十微秒里没有上限），超限时内核选中的就不会是牧守进程。
慢路：fork 之后在子进程里换用户、绑核、设 rlimit、以该用户的身份打开文件、备好容器，约 0.9 毫秒；目录也许不答话的，
脚本也由子进程自己写下，挂住的是它。
快路用于不换用户、不绑核、不进容器、目录答话、脚本里没有提 SLURM_TASK_PID 的作业；
两条路的失败都变成 LaunchFault，不会让牧守进程出错。
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal

from scns_conductor.worker.host.cgroup import move_to
from scns_conductor.worker.host.default_signals import DEFAULT_SIGNALS, restore_default_signals
from scns_conductor.worker.host.process_limits import set_limits
from scns_conductor.worker.shepherd.launch_fault import LaunchFault
from scns_conductor.worker.shepherd.script_files import ScriptFiles, write_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from scns_conductor.worker.host.cgroup import Entrance, JobCgroup
    from scns_conductor.worker.wire.container_spec import ContainerSpec
    from scns_conductor.worker.wire.launch_spec import LaunchSpec

_FAULT_MESSAGE_BYTES = 3000
TASK_PID = "SLURM_TASK_PID"


class Spawner:
    """创建进程，并收集慢路子进程在 exec 之前的话：失败，与自己写下的脚本是哪一个。"""

    def __init__(self, scripts: ScriptFiles) -> None:
        self.scripts = scripts
        self._fault_read, self._fault_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._faults: dict[int, LaunchFault] = {}
        self._scripts: list[tuple[int, int]] = []
        self._fault_text = b""
        self._uid = os.geteuid()
        self._inside: JobCgroup | None = None
        # 大多数作业的标准输入是 /dev/null：开一次，大家共用。
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def spawn(
        self, spec: LaunchSpec, cgroup: JobCgroup | None, *, fresh: bool, step_entrances: list[Entrance] | None = None
    ) -> int:
        """创建进程，返回进程号；fresh 表示 cgroup 刚建好、里面没有别的进程。失败抛 LaunchFault。

        step_entrances 是作业步自己的，没有则用作业的。
        """
        if step_entrances is None and self._quick_enough(spec, cgroup, fresh):
            pid = self._spawn_quick(spec, cgroup)
            _limit_memory(spec, cgroup)
            return pid
        self.come_home()
        if fresh:
            _limit_memory(spec, cgroup)
        return self._spawn_forked(spec, step_entrances or (cgroup.entrances if cgroup is not None else []))

    def come_home(self) -> None:
        """回到自己的 cgroup；一批启动完了必须调用。"""
        if self._inside is None:
            return
        try:
            move_to(self._inside.exits)
        except OSError:
            # 留在作业的 cgroup 里会随它一起被杀；不如立刻退出，由代理重启并接管。
            os._exit(70)
        self._inside = None

    def _go_into(self, cgroup: JobCgroup | None) -> None:
        """进入作业的 cgroup。接连启动时从上一个直接过来，省去中间回家的一趟。"""
        if self._inside is not None and (cgroup is None or cgroup.exits != self._inside.exits):
            self.come_home()
        if cgroup is not None:
            self._inside = cgroup
            move_to(cgroup.entrances)

    def _quick_enough(self, spec: LaunchSpec, cgroup: JobCgroup | None, fresh: bool) -> bool:
        if spec.uid not in (None, self._uid) or spec.rlimits or spec.nice or spec.opens_aside:
            return False
        if spec.container or spec.login:
            return False
        # posix_spawn 之前不知道进程号；用得到 SLURM_TASK_PID 的脚本不多，走慢路。
        if spec.script is not None and TASK_PID in spec.script:
            return False
        # 绑核靠 cpuset 时生来就在里面；没有 cpuset 就得在子进程里设亲和性。
        if spec.cpu_ids and (cgroup is None or not cgroup.binds_cores):
            return False
        # 里面有别的进程时不进去：它可能正被冻结，或正好内存超限。
        return cgroup is None or fresh

    def _spawn_quick(self, spec: LaunchSpec, cgroup: JobCgroup | None) -> int:
        old_umask = os.umask(spec.umask) if spec.umask is not None else None
        opened: list[int] = []
        stay = False
        try:
            _change_directory(spec)
            fds = self._open_streams(spec, opened)
            try:
                self._go_into(cgroup)
                pid = os.posix_spawn(
                    spec.argv[0],
                    spec.argv,
                    spec.env,
                    file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=DEFAULT_SIGNALS,
                )
                # 有内存上限的不多待一刻：等着写上限。
                stay = spec.memory_bytes is None
                return pid
            except (OSError, ValueError) as error:
                fault = _exec_fault(spec, error)
                _tell_stderr(fds[2], fault)
                raise fault from error
        finally:
            if not stay:
                self.come_home()
            for fd in opened:
                os.close(fd)
            if old_umask is not None:
                os.umask(old_umask)
            os.chdir("/")

    def _spawn_forked(self, spec: LaunchSpec, entrances: list[Entrance]) -> int:
        try:
            pid = os.fork()
        except OSError as error:
            raise LaunchFault(f"节点不能再创建进程：{error.strerror}", on_node=True) from error
        if pid == 0:
            self._become_job(spec, entrances)
        return pid

    def _become_job(self, spec: LaunchSpec, entrances: list[Entrance]) -> NoReturn:
        """在子进程里执行，永不返回；失败经管道告诉牧守进程。"""
        stderr = -1
        try:
            os.setsid()
            move_to(entrances)
            restore_default_signals()
            self._let_go()
            if spec.script is not None and spec.opens_aside:
                self._tell([os.getpid(), write_script(spec)])
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._limit(spec)
            if spec.umask is not None:
                os.umask(spec.umask)
            if spec.container is not None:
                # 换了用户之后也许读不到它；牧守进程自己不载入，平常的作业用不着。
                import scns_conductor.worker.host.container as _  # noqa: F401
            if spec.login is not None:
                import scns_conductor.worker.host.login_environment as _login  # noqa: F401
            _switch_user(spec)
            _change_directory(spec)
            opened: list[int] = []
            fds = self._open_streams(spec, opened)
            for target, fd in enumerate(fds):
                os.dup2(fd, target)
            stderr = 2
            try:
                environment = {**_after_login(spec), TASK_PID: str(os.getpid())} if spec.job_id else spec.env
                argv = spec.argv
                if spec.container is not None:
                    argv, environment = _enter_container(spec, spec.container, environment)
                set_limits(spec.rlimits)
                os.execve(argv[0], argv, environment)
            except (OSError, ValueError) as error:
                raise _exec_fault(spec, error) from error
        except LaunchFault as fault:
            self._report(fault, stderr)
        except BaseException as error:
            self._report(LaunchFault(f"启动作业进程时出错：{error}", on_node=True), stderr)
        os._exit(1)

    def _open_streams(self, spec: LaunchSpec, opened: list[int]) -> tuple[int, int, int]:
        """打开标准输入、输出、错误；打开的描述符都记进 opened，由调用者关闭。"""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if spec.output_mode == "truncate":
            flags |= os.O_TRUNC
        stdin = self._open(spec.stdin, os.O_RDONLY, "输入", opened)
        stdout = self._open(spec.stdout, flags, "输出", opened)
        if spec.stderr is None or spec.stderr == spec.stdout:
            return stdin, stdout, stdout
        return stdin, stdout, self._open(spec.stderr, flags, "错误输出", opened)

    def _open(self, path: str | None, flags: int, noun: str, opened: list[int]) -> int:
        return self._null if path is None or path == "/dev/null" else _open(path, flags, noun, opened)

    def _limit(self, spec: LaunchSpec) -> None:
        if spec.nice:
            os.nice(spec.nice)
        if spec.cpu_ids:
            # 核可能已下线或被上级 cpuset 收走：绑不上不算错，cpuset 控制器才是约束。
            usable = os.sched_getaffinity(0) & set(spec.cpu_ids)
            if usable:
                os.sched_setaffinity(0, usable)

    def _report(self, fault: LaunchFault, stderr: int) -> None:
        text = fault.message.encode("utf-8", "replace")[:_FAULT_MESSAGE_BYTES].decode("utf-8", "ignore")
        if stderr >= 0:
            _tell_stderr(stderr, fault)
        self._tell([os.getpid(), text, fault.status, fault.on_node])

    def _tell(self, words: list[int | str | bool]) -> None:
        os.write(self._fault_write, json.dumps(words, ensure_ascii=False).encode() + b"\n")

    def _let_go(self) -> None:
        """在子进程里：牧守进程的锁、套接字都不留。它也许要在 exec 之前挂很久，那时下一个牧守进程要拿得到。"""
        first, last = sorted((self._fault_write, self._null))
        os.closerange(3, first)
        os.closerange(first + 1, last)
        os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))

    def take_fault(self, pid: int) -> LaunchFault | None:
        """进程 pid 若在 exec 之前就失败，返回原因；在回收它、hear 之后调用。"""
        return self._faults.pop(pid, None)

    def take_scripts(self) -> list[tuple[int, int]]:
        """听到的：子进程自己写下的脚本（进程号，inode）。"""
        found, self._scripts = self._scripts, []
        return found

    @property
    def ear(self) -> int:
        """可读了就该 hear。"""
        return self._fault_read

    def hear(self) -> None:
        """收下子进程的话。"""
        while True:
            try:
                chunk = os.read(self._fault_read, 65536)
            except BlockingIOError:
                break
            self._fault_text += chunk
        while b"\n" in self._fault_text:
            line, _, self._fault_text = self._fault_text.partition(b"\n")
            child, *said = json.loads(line)
            if len(said) == 1:
                self._scripts.append((child, said[0]))
            else:
                self._faults[child] = LaunchFault(said[0], status=said[1], on_node=said[2])


def _limit_memory(spec: LaunchSpec, cgroup: JobCgroup | None) -> None:
    if cgroup is None or spec.memory_bytes is None:
        return
    try:
        cgroup.limit_memory(spec.memory_bytes)
    except OSError as error:
        # 刚启动就用得比上限多，或节点上的 cgroup 出了毛病：没有上限的不能让它跑下去。
        cgroup.kill()
        raise LaunchFault(f"内存上限写不进去：{error.strerror}", on_node=error.errno != errno.EBUSY) from error


def _switch_user(spec: LaunchSpec) -> None:
    if spec.uid is None or spec.uid == os.geteuid():
        return
    try:
        gid = spec.gid if spec.gid is not None else spec.uid
        os.setgroups(spec.groups if spec.groups is not None else [gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(spec.uid, spec.uid, spec.uid)
    except OSError as error:
        raise LaunchFault(f"不能切换到作业的用户（uid {spec.uid}）：{error.strerror}") from error


def _after_login(spec: LaunchSpec) -> dict[str, str]:
    """环境，连同用户登录之后有的（--get-user-env）；取不到就说一句，照没有的走（同 slurmd）。"""
    login = spec.login
    if login is None:
        return spec.env
    from scns_conductor.worker.host.login_environment import login_environment

    names = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER")
    before = {name: spec.env[name] for name in names if name in spec.env}
    try:
        found = login_environment(spec.env["SHELL"], before, login.wait_s, login=login.login)
    except (OSError, KeyError) as error:
        text = "slurmstepd: error: Unable to get user's local environment, running only with passed environment"
        os.write(2, f"{text}: {error}\n".encode("utf-8", "replace"))
        return spec.env
    return found | {name: text for name, text in spec.env.items() if name not in login.yields or name not in found}


def _enter_container(
    spec: LaunchSpec, container: ContainerSpec, environment: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    from scns_conductor.worker.host.container import ContainerFault, Inside, enter

    name = f"scns-{spec.job_id}-{spec.attempt}-{spec.step}"
    paths = [spec.script_path] if spec.script_path else []
    inside = Inside(name, spec.argv, environment, spec.cwd, uid=os.geteuid(), gid=os.getegid(), paths=paths)
    try:
        return enter(container, inside)
    except ContainerFault as error:
        raise LaunchFault(str(error)) from error
    except Exception as error:  # 容器的说明是用户写的：写得再怪也不是节点的错
        raise LaunchFault(f"进不了容器：{error}") from error


def _change_directory(spec: LaunchSpec) -> None:
    try:
        os.chdir(spec.cwd)
    except (OSError, ValueError) as error:
        raise LaunchFault(f"工作目录 {spec.cwd} 不存在或无法进入：{_reason(error)}") from error


def _open(path: str, flags: int, noun: str, opened: list[int]) -> int:
    try:
        # O_NONBLOCK：没有读者的管道立即报错，而不是把牧守进程挂住。
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        raise LaunchFault(f"无法打开标准{noun}文件 {path}：{_reason(error)}") from error
    opened.append(fd)
    # F_SETFL 只管 O_APPEND、O_NONBLOCK 这几个：前者照旧，后者去掉。
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & os.O_APPEND)
    return fd


def _exec_fault(spec: LaunchSpec, error: OSError | ValueError) -> LaunchFault:
    if isinstance(error, OSError) and error.errno in (11, 12):
        return LaunchFault(f"节点不能再创建进程：{error.strerror}", on_node=True)
    # 126、127 与 shell 的约定相同：不可执行、找不到。
    status = 126 if isinstance(error, PermissionError) else 127
    return LaunchFault(f"无法执行 {spec.argv[0]}：{_reason(error)}", status=status)


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _tell_stderr(fd: int, fault: LaunchFault) -> None:
    try:
        os.write(fd, f"scns: {fault.message}\n".encode("utf-8", "replace"))
    except OSError:
        # 输出文件写不进去（磁盘满）时，说明仍在结束记录里。
        return
