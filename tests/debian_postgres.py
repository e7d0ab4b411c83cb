"""Debian 自己的 PostgreSQL，缺省设置（jit 开着），和不用 scns up、照部署那样起的一套服务。测试与性能测试共用。"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import psycopg

from running_system import RunningSystem, wait_until
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
    """一个私有的服务器：initdb 的缺省设置，只听 folder 里的套接字，以普通用户运行。options 是另外的设置（名字=值）。"""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        programs = debian_programs()
        assert programs is not None, "没有装 Debian 的 postgresql；.ci/run 会装"
        self._programs = programs
        self.folder = folder
        self._options = [word for option in options for word in ("-c", option)]
        self.log = folder / "postgres.log"
        self._user: EngineUser = choose_engine_user(folder / "data")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """数据库的地址。"""
        return f"postgresql://scns@/{database}?host={quote(str(self.folder))}&port=5432"

    def start(self) -> None:
        """起来，等到接受连接。"""
        self._user.own(self.folder)
        data = self.folder / "data"
        if not data.exists():
            subprocess.run(
                [self._programs / "initdb", "-D", data, "-U", "scns", "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust"],
                cwd="/", check=True, capture_output=True, **self._user.popen_options(),
            )  # fmt: skip
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, "-c", "listen_addresses=", "-k", self.folder,
                 *self._options],
                cwd="/", stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._user.popen_options(),
            )  # fmt: skip
        wait_until(self._answers, START_WAIT_S, f"PostgreSQL 起来：{self.log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """停下。"""
        if self._process is not None:
            stop_process(self._process, signal.SIGINT)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """以管理员的身份执行一条语句。"""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def debian_postgres(
    options: Callable[[Path], Sequence[str]] = lambda _: (), kind: "type[DebianPostgres] | None" = None
) -> Iterator[DebianPostgres]:
    """起好一个，离开时停下并删掉。目录直接在 /tmp 下：引擎用户走得到。options(目录) 是另外的设置。"""
    folder = Path(tempfile.mkdtemp(prefix="scns-debian-"))
    server = (kind or DebianPostgres)(folder, options(folder))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def deployed_system(
    folder: Path, database_url: str, redis_url: str, *, cpus: int = 8, settings: Mapping[str, str] = {}
) -> Iterator[RunningSystem]:
    """给定的数据库与 Valkey 上的一套：迁移、API、调度器、一个节点 node1，各是一个进程。"""
    folder.mkdir(parents=True)
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
            with open(folder / f"{name}.log", "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", module], env=environment, stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, cwd=folder,
                )  # fmt: skip
            processes.append(process)
        system = RunningSystem(folder, processes[0], url, issue_token(own, "root", admin=True))
        wait_until(lambda: _serves(url), START_WAIT_S, f"{folder} 里的系统就绪")
        wait_until(lambda: _node_up(system), START_WAIT_S, f"{folder} 里的节点上线")
        yield system
    finally:
        for process in reversed(processes):
            stop_process(process, signal.SIGTERM)
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
