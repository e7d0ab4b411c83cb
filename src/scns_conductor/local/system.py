"""scns up 的组成：引擎 → 迁移 → API、调度器、各节点的代理；停机按相反的次序。"""

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from scns_conductor import migrations
from scns_conductor.client.problem import ClientError
from scns_conductor.core.config_file import default_data_dir
from scns_conductor.core.database import database_url, sync_engine
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings, load_settings
from scns_conductor.local.child import log_tail, start_child
from scns_conductor.local.data_directory import DataDirectory
from scns_conductor.local.elastic_nodes import stop_agents
from scns_conductor.local.engines import Engines
from scns_conductor.local.host_names import names_prefix, unresolved
from scns_conductor.local.own_api import connect_url, readiness, url_host
from scns_conductor.local.postgres import STOP_WAIT_S, EngineError
from scns_conductor.local.supervisor import Service, Supervisor
from scns_conductor.metrics_page import FOLDER
from scns_conductor.statements.health import LEADER_ELECTED, NODES_UP
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdError, ShepherdGone
from scns_conductor.worker.agent.shepherd_set import shepherd_homes

METRICS = ("scheduler_metrics", "agent_metrics", "web_metrics")
ANY_PORT = "127.0.0.1:0"
READY_WAIT_S = 90.0
# 问 API 就绪没有，一次至多等这么久。
API_WAIT_S = 5.0
# 没有指明的端口被占用时，往后试这么多个。
PORTS_TRIED = 100
# 就绪之前死这么多次就是起不来：说明原因并退出，不无穷地重试。
START_ATTEMPTS = 3
# 代理结束作业、写完数据库的余量，在 kill_wait_s 之外。
AGENT_MARGIN_S = 30.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """scns up 的选项。nodes 为 None 时只有一个以主机命名的节点。

    port 为 0 时任选空闲端口；为 None 时是设置里的，被占用就用它之后空闲的。web 是要不要网页看板，端口同样挑。
    external_database：用设置里的 database_url，不起内嵌的 PostgreSQL。
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int | None = 0
    cpus: int | None = None
    memory: str | None = None
    gpus: int | None = None
    nodes: int | None = None
    keep_jobs: bool = False
    web: bool = False
    external_database: bool = False


class StartFailed(Exception):
    """某个进程起不来；说明里带它日志的末尾。"""


class LocalSystem:
    """一个数据目录上的整个系统。目录须已 prepare 并 lock。"""

    def __init__(self, directory: DataDirectory, options: UpOptions, supervisor: Supervisor) -> None:
        self.directory = directory
        self.options = options
        self.supervisor = supervisor
        self.engines = Engines(directory)
        self._listener = _listen(options.host, options.port, load_settings().api_port)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{url_host(options.host)}:{self.port}"
        self._web_listener: socket.socket | None = None
        self.web_url: str | None = None
        if options.web:
            web_port = options.port if options.port == 0 else None
            self._web_listener = _listen(options.host, web_port, load_settings().web_port)
            self.web_url = f"http://{url_host(options.host)}:{self._web_listener.getsockname()[1]}"
        self.settings = self._settings()
        self.node_names = self._node_names()
        self._prefix: list[str] | None = None
        self._postgres = (
            None if options.external_database else self._engine_service("postgres", self._start_postgres, signal.SIGINT)
        )
        self._valkey = self._engine_service("valkey", self._start_valkey, signal.SIGTERM)
        self._api = self._python("api", "scns_conductor.api", fds=(self._listener.fileno(),))
        self._web = self._web_service()
        self._scheduler = self._python("scheduler", "scns_conductor.worker.scheduler.process")
        self._agents = [self._agent(name) for name in self.node_names]
        self._background = self._python("background", "scns_conductor.worker.background.process")

    # ---- 设置 ----

    def _settings(self) -> Settings:
        """使用者的设置之上，加上本次运行固定的几项。"""
        overrides = {
            "data_dir": self.directory.path,
            "database_url": self._database_url(),
            "redis_url": self.engines.redis_url,
            "api_host": self.options.host,
            "api_port": self.port,
            "script_dir": self._script_dir(),
            # 一台机器上可以有几套、几个节点：没有写明的用任意空闲的端口，地址在 数据目录/metrics 里。
            **{name: ANY_PORT for name in METRICS if name not in load_settings().model_fields_set},
            "single_user": True,
            "allow_root_jobs": os.geteuid() == 0,
        }
        return Settings(**{**load_settings().model_dump(), **overrides})

    def _database_url(self) -> str:
        return database_url(load_settings()) if self.options.external_database else self.engines.database_url

    def _script_dir(self) -> Path | None:
        """缺省的数据目录用缺省的脚本目录；别的数据目录各用各的，同一台机器上几个系统的 job_1.sh 互不相干。"""
        configured = load_settings().script_dir
        if configured is not None or self.directory.path == default_data_dir():
            return configured
        return self.directory.scripts

    def _node_names(self) -> list[str]:
        if self.options.nodes is None:
            return [load_settings().node_name]
        return [f"node{index}" for index in range(1, self.options.nodes + 1)]

    def environment(self) -> dict[str, str]:
        """各进程共用的环境变量。"""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        script_dir = self.settings.script_dir
        return {
            **inherited,
            **self.connection_environment(),
            **{f"SCNS_{name.upper()}": getattr(self.settings, name) for name in METRICS},
            "SCNS_API_HOST": self.options.host,
            "SCNS_API_PORT": str(self.port),
            "SCNS_SINGLE_USER": "true",
            "SCNS_ALLOW_ROOT_JOBS": "true" if os.geteuid() == 0 else "false",
            **({} if script_dir is None else {"SCNS_SCRIPT_DIR": str(script_dir)}),
            "PYTHONUNBUFFERED": "1",
        }

    def connection_environment(self) -> dict[str, str]:
        """在本机找到 API、直接连数据库与 Valkey 所需的环境变量（健康检查、scns db 用）；含口令。"""
        return {
            "SCNS_DATA_DIR": str(self.directory.path),
            "SCNS_DATABASE_URL": self._database_url(),
            "SCNS_REDIS_URL": self.engines.redis_url,
            "SCNS_URL": self.url,
        }

    # ---- 各进程 ----

    def _engine_service(
        self, name: str, spawn: Callable[[], "subprocess.Popen[bytes]"], number: signal.Signals
    ) -> Service:
        return Service(name, spawn, self.directory.logs / f"{name}.log", number, STOP_WAIT_S)

    def _start_postgres(self) -> "subprocess.Popen[bytes]":
        self.engines.postgres.prepare()
        return self.engines.postgres.spawn()

    def _start_valkey(self) -> "subprocess.Popen[bytes]":
        self.engines.valkey.prepare()
        return self.engines.valkey.spawn()

    def _python(
        self,
        name: str,
        module: str,
        extra: Mapping[str, str] | None = None,
        fds: tuple[int, ...] = (),
        prefix: Callable[[], Sequence[str]] = tuple,
    ) -> Service:
        log = self.directory.logs / f"{name}.log"

        def spawn() -> "subprocess.Popen[bytes]":
            handed_over = {"SCNS_API_FD": str(fds[0])} if fds else {}
            environment = {**self.environment(), **(extra or {}), **handed_over}
            command = [*prefix(), sys.executable, "-m", module]
            return start_child(command, log=log, environment=environment, pass_fds=fds)

        return Service(name, spawn, log)

    def _web_service(self) -> Service | None:
        """看板；没有要是 None。它只要 API 的地址，设置与口令都不给它。"""
        if self._web_listener is None:
            return None
        descriptor, log = self._web_listener.fileno(), self.directory.logs / "web.log"
        command = [
            sys.executable, "-m", "scns_conductor.web",
            "--fd", str(descriptor),
            "--api-url", connect_url(self.options.host, self.port),
            "--data-dir", str(self.directory.path),
            "--cluster", self.settings.cluster_name,
            "--metrics", self.settings.web_metrics,
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "SCNS_"))} | {
            "PYTHONUNBUFFERED": "1"
        }

        def spawn() -> "subprocess.Popen[bytes]":
            return start_child(command, log=log, environment=environment, pass_fds=(descriptor,))

        return Service("web", spawn, log)

    def _agent(self, node_name: str) -> Service:
        declared = {
            "SCNS_NODE_NAME": node_name,
            "SCNS_NODE_CPUS": self.options.cpus,
            "SCNS_NODE_MEMORY": self.options.memory,
            "SCNS_NODE_GPUS": self.options.gpus,
        }
        extra = {name: str(value) for name, value in declared.items() if value is not None}
        if len(self.node_names) > 1:
            # 几个节点是一台机器：Open MPI 的共享内存通道会把它们当成几台而互相踩。
            extra["OMPI_MCA_btl"] = os.environ.get("OMPI_MCA_btl", "^vader,sm")  # noqa: SIM112
        module = "scns_conductor.worker.agent.process"
        return self._python(f"agent-{node_name}", module, extra, prefix=self._names_prefix)

    def _names_prefix(self) -> list[str]:
        """代理的命令前面的词，节点的名字就解析得到；目录这时才备好，做一次就够。"""
        if self._prefix is None:
            self._prefix = names_prefix(self.node_names, self.directory.path)
        return self._prefix

    # ---- 启动 ----

    def start(self, progress: Callable[[str], None]) -> None:
        """启动全部，等到就绪；起不来抛 StartFailed、EngineError 或 SettingsError，收到信号抛 StopRequested。"""
        began = time.monotonic()

        def report(text: str) -> None:
            progress(f"{text}（{time.monotonic() - began:.1f} 秒）")

        # 上次的指标页的地址：节点也许少了，端口也换了。
        shutil.rmtree(self.directory.path / FOLDER, ignore_errors=True)
        first = self._postgres is not None and not self.directory.postgres.exists()
        if self._postgres is not None:
            self.supervisor.start(self._postgres)
        self.supervisor.start(self._valkey)
        if self._postgres is not None:
            self.engines.postgres.wait_ready(self._alive(self._postgres))
        self.engines.valkey.wait_ready(self._alive(self._valkey))
        report("PostgreSQL 与 Valkey 已就绪" + ("，数据目录是新建的" if first else ""))
        migrations.upgrade(self.settings)
        report(f"数据库结构的版本是 {wanted_version()}")
        self._end_foreign_shepherds()
        for service in (self._api, self._scheduler, *self._agents):
            self.supervisor.start(service)
        self._wait_for("API", self._api, self._api_ready)
        self._wait_for("节点", self._agents[0], self._nodes_up)
        self._wait_for("调度器", self._scheduler, self._leader_elected)
        if self.settings.background_needed:
            # 邮件、webhook、节点的电源都不急，不等它。
            self.supervisor.start(self._background)
        if self._web is not None:
            # 不等它：端口已经听着，早到的浏览器排着队；它起不来也不碍别的。
            self.supervisor.start(self._web)
        report(f"API、调度器与 {len(self._agents)} 个节点已就绪")
        if len(self.node_names) > 1 and not self._names_prefix() and (strange := unresolved(self.node_names)):
            progress(f"按名字会合的程序（JAX、torch）要先在 /etc/hosts 里加一行：127.0.0.1 {' '.join(strange)}")

    def _alive(self, service: Service) -> Callable[[], bool]:
        def alive() -> bool:
            # 等待中也要听信号；进程死了立即知道，不必等重启。
            pid = service.process.pid if service.process else None
            self.supervisor.wait(0)
            return service.process is not None and service.process.pid == pid and service.running

        return alive

    def _wait_for(self, what: str, service: Service, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_WAIT_S
        while not condition():
            broken = next((each for each in self.supervisor.services if each.deaths >= START_ATTEMPTS), None)
            if broken is not None or time.monotonic() > deadline:
                guilty = broken or service
                why = "反复退出" if broken else f"{READY_WAIT_S:g} 秒没有就绪"
                raise StartFailed(
                    f"{what}起不来：{guilty.name} {why}，日志 {guilty.log} 的末尾：\n{log_tail(guilty.log)}"
                )
            self.supervisor.wait(0.03)

    def _api_ready(self) -> bool:
        try:
            return readiness(self.options.host, self.port, API_WAIT_S)[0]
        except ClientError:
            return False

    def _nodes_up(self) -> bool:
        return self._scalar(NODES_UP, names=self.node_names) == len(self.node_names)

    def _leader_elected(self) -> bool:
        return self._scalar(LEADER_ELECTED, lease=self.settings.scheduler_lease_s) == 1

    def _scalar(self, statement: sa.TextClause, **values: object) -> object:
        engine = sync_engine(self.settings, role="supervisor", lookups=False, pooled=False)
        with engine.connect() as connection:
            return connection.scalar(statement, values)

    # ---- 停机 ----

    def stop(self, progress: Callable[[str], None]) -> None:
        """停下全部：先停调度（不再启动作业），再让代理结束作业（或留着它们），然后 API，最后引擎。"""
        self._listener.close()
        if self._web_listener is not None:
            self._web_listener.close()
        self.supervisor.stop(self._scheduler)
        if self.settings.elastic:
            # elastic_nodes 起的代理不归监督者管：不再起新的，起了的一起停。
            self.supervisor.stop(self._background)
            spool = self.directory.path / "spool"
            stop_agents(spool, {path.name for path in spool.iterdir()} - set(self.node_names))
        if self.options.keep_jobs:
            progress("正在停止；运行中的作业由牧守进程继续看着，下次启动时接上")
            self.supervisor.stop(*self._agents)
        else:
            progress("正在停止；运行中的作业有宽限时间，之后重新排队或取消")
            grace_s = self.settings.kill_wait_s + AGENT_MARGIN_S
            self.supervisor.stop(*self._agents, number=signal.SIGUSR1, wait_s=grace_s)
            self._end_shepherds(self.node_names)
        self.supervisor.stop(self._background, *(each for each in (self._web, self._api) if each is not None))
        self.supervisor.stop(self._valkey)
        if self._postgres is not None:
            self.supervisor.stop(self._postgres)

    def _end_foreign_shepherds(self) -> None:
        """上次有、这次没有的节点（--nodes 变小了）：没有代理来管它们的作业了，结束掉。"""
        spool = self.directory.path / "spool"
        if spool.is_dir():
            self._end_shepherds(sorted({path.name for path in spool.iterdir()} - set(self.node_names)))

    def _end_shepherds(self, node_names: list[str]) -> None:
        """还在的牧守进程（代理已不在，没能请它退出）：结束它和它的作业；结束记录留在日志里，下次启动时送出。"""
        for name in node_names:
            for home in shepherd_homes(self.directory.path / "spool" / name):
                with contextlib.suppress(ShepherdGone, ShepherdError, OSError):
                    client = ShepherdClient.connect(home, name, start=False)
                    pid = client.state().pid
                    client.shutdown(0)
                    client.close()
                    _wait_gone(pid, STOP_WAIT_S)


def _wait_gone(pid: int, wait_s: float) -> None:
    """等进程结束；它不是自己的子进程。"""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    raise EngineError(f"牧守进程 {pid} 停不下来")


def _listen(host: str, port: int | None, usual: int) -> socket.socket:
    """由监督者持有监听的套接字：进程重启时端口不变，连接排队等着，不会被拒绝。port 为 None 时从 usual 起找空闲的。"""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    load_settings().require_key_to_listen(host)
    first = usual if port is None else port
    last = first if port is not None else min(first + PORTS_TRIED, 65535)
    while True:
        try:
            return socket.create_server((host, first), family=family, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or first >= last:
                raise SettingsError(
                    f"不能监听 {host}:{first}：{error.strerror}；换一个 --port，或用 --port 0 任选"
                ) from error
        first += 1
