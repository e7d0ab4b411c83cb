"""Debian 自己的 PostgreSQL，缺省设置（jit 开着），和不用 scns up、照部署那样起的一套服务。测试与性能测试共用。"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psycopg

import warm_processes
from running_system import STOP_WAIT_S, RunningSystem, wait_until
from scns_conductor import migrations
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.local.engine_user import EngineUser, choose_engine_user
from scns_conductor.local.engines import stop_process
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdGone

START_WAIT_S = 60.0


def debian_programs() -> Path | None:
    """apt 的 postgresql 装在哪里；几个版本时取最新的，没有装是 None。"""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class DebianPostgres:
    """一个私有的服务器：initdb 的缺省设置，只听 folder 里的套接字（给了 tcp_port 的也听回环地址），以普通用户运行。

    options 是另外的设置（名字=值）。
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), *, tcp_port: int | None = None) -> None:
        programs = debian_programs()
        assert programs is not None, "没有装 Debian 的 postgresql；.ci/run 会装"
        self._programs = programs
        self.folder = folder
        self.data = folder / "data"
        self.port = tcp_port or 5432
        settings = [f"listen_addresses={'127.0.0.1' if tcp_port else ''}", f"port={self.port}", *options]
        self._options = [word for setting in settings for word in ("-c", setting)]
        self.log = folder / "postgres.log"
        self._user: EngineUser = choose_engine_user(self.data)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """数据库的地址，经套接字。"""
        return f"postgresql://scns@/{database}?host={quote(str(self.folder))}&port={self.port}"

    def run(self, *command: str | Path) -> None:
        """以引擎用户的身份运行一个程序。"""
        done = subprocess.run(
            command, check=False, timeout=START_WAIT_S, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, **self._user.popen_options(),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    def program(self, name: str, *arguments: str) -> None:
        """PostgreSQL 自己的一个程序。"""
        self.run(self._programs / name, *arguments)

    def start(self) -> None:
        """起来，等到接受连接；没有数据的先 initdb。"""
        self._user.own(self.folder)
        if not self.data.exists():
            self.program("initdb", "-D", f"{self.data}", "-U", "scns", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, "-k", self.folder, *self._options],
                cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._user.popen_options(),
            )  # fmt: skip
        wait_until(self._answers, START_WAIT_S, f"PostgreSQL 起来：{self.log}")

    def restart(self) -> None:
        """死了之后再起。kill -9 之后它的子进程还没有走完时服务器不肯起来，再试。"""
        deadline = time.monotonic() + START_WAIT_S
        while True:
            try:
                self.start()
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def copy_of(self, primary: "DebianPostgres") -> None:
        """抄一份 primary，起来之后是它的备库。"""
        self._user.own(self.folder)
        self.program("pg_basebackup", "-d", primary.url(), "-D", f"{self.data}", "-R", "-X", "stream", "-c", "fast")

    @property
    def pid(self) -> int | None:
        """在运行的主进程。"""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """停下；SIGINT 是快速停机，SIGKILL 之后它的子进程发现了自己退出。"""
        if self._process is not None:
            stop_process(self._process, number)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """以管理员的身份执行一条语句。"""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())


_Server = TypeVar("_Server", bound=DebianPostgres)


@contextlib.contextmanager
def started_postgres(
    kind: type[_Server], options: Callable[[Path], Sequence[str]], tcp_port: int | None = None
) -> Iterator[_Server]:
    """起好一个，离开时停下并删掉。目录直接在 /tmp 下：引擎用户走得到。options(目录) 是另外的设置。"""
    folder = Path(tempfile.mkdtemp(prefix="scns-debian-"))
    server = kind(folder, options(folder), tcp_port=tcp_port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def debian_postgres(
    options: Callable[[Path], Sequence[str]] = lambda _: (), tcp_port: int | None = None
) -> contextlib.AbstractContextManager[DebianPostgres]:
    """起好一个，离开时停下并删掉。"""
    return started_postgres(DebianPostgres, options, tcp_port)


@contextlib.contextmanager
def bouncer(
    debian_postgres: DebianPostgres, database: str, mode: str, size: int, *, clients: int = 100, tcp_port: int = 0
) -> Iterator[str]:
    """PgBouncer，缺省设置（拒绝不认识的启动参数）；clients 是它收的会话，有 tcp_port 的走 TCP。"""
    user, folder = choose_engine_user(debian_postgres.folder / "data"), debian_postgres.folder
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={folder} port={debian_postgres.port} user=scns\n[pgbouncer]\n"
        f"listen_addr = {'127.0.0.1' if tcp_port else ''}\nlisten_port = {tcp_port or 6432}\n"
        f"unix_socket_dir = {folder}\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = {clients}\n"
    )
    if user.switch:
        os.chown(configuration, user.uid, user.gid)
    with open(folder / "pgbouncer.log", "wb") as log:
        process = subprocess.Popen(
            ["/usr/sbin/pgbouncer", configuration], cwd="/", stdout=log, stderr=log, **user.popen_options()
        )
    wait_until((folder / f".s.PGSQL.{tcp_port or 6432}").exists, 60, "PgBouncer 起来")
    try:
        if tcp_port:
            yield f"postgresql://scns@127.0.0.1:{tcp_port}/{database}"
        else:
            yield debian_postgres.url(database).replace(f"port={debian_postgres.port}", "port=6432")
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def deployed_system(
    folder: Path,
    database_url: str,
    redis_url: str,
    *,
    cpus: int = 8,
    settings: Mapping[str, str] = {},
    logs: Path | None = None,
) -> Iterator[RunningSystem]:
    """给定的数据库与 Valkey 上的一套：迁移、API、调度器、一个节点 node1，各是一个进程；日志在 logs，缺省是 folder。"""
    folder.mkdir(parents=True)
    logs = logs or folder
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SCNS_", "SLURM_", "PG"))},
        "SCNS_DATABASE_URL": database_url,
        "SCNS_REDIS_URL": redis_url,
        "SCNS_DATA_DIR": str(folder),
        "SCNS_SCRIPT_DIR": str(folder / "scripts"),
        "SCNS_API_PORT": str(port),
        "SCNS_URL": url,
        "SCNS_NODE_NAME": "node1",
        "SCNS_NODE_CPUS": str(cpus),
        "SCNS_NODE_MEMORY": "64G",
        "SCNS_SINGLE_USER": "true",
        "SCNS_ALLOW_ROOT_JOBS": "true",
        **settings,
    }
    key = folder / "jwt.key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    own = Settings(database_url=database_url, redis_url=redis_url, data_dir=folder)  # type: ignore[arg-type]
    migrations.upgrade(own)
    (folder / "environment").write_text(
        "".join(f"{name}='{environment[name]}'\n" for name in ("SCNS_DATA_DIR", "SCNS_DATABASE_URL", "SCNS_REDIS_URL"))
    )
    processes = []
    try:
        for name, module in (
            ("api", "scns_conductor.api"),
            ("scheduler", "scns_conductor.worker.scheduler.process"),
            ("agent", "scns_conductor.worker.agent.process"),
        ):
            with open(logs / f"{name}.log", "ab") as log:
                process = warm_processes.start(module, env=environment, stdout=log, stderr=log, cwd=folder)
            processes.append(process)
        system = RunningSystem(folder, processes[0], url, issue_token(own, "root", admin=True))
        wait_until(lambda: _serves(url), START_WAIT_S, f"{folder} 里的系统就绪")
        wait_until(lambda: _node_up(system), START_WAIT_S, f"{folder} 里的节点上线")
        yield system
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(STOP_WAIT_S)
            finally:
                process.kill()
        with contextlib.suppress(ShepherdGone, OSError):
            client = ShepherdClient.connect(folder / "spool" / "node1", "node1", start=False)
            client.shutdown(0)
            client.close()


def _serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/live", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        time.sleep(0.1)
        return False


def _node_up(system: RunningSystem) -> bool:
    status, node = system.call("GET", "/nodes/node1")
    return status == 200 and node["availability"] == "UP"
