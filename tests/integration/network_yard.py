"""几个节点各在自己的网络名字空间里，经网桥连到 PostgreSQL、Valkey、API 与调度器：像真的几台机器，网线可以拔。

多用户模式（作业以提交者的身份运行），要 root 与 iproute2。名字取自进程号，同一台机器上可以同时有几套。
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

from running_system import wait_until
from scns_conductor import migrations
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.local.data_directory import DataDirectory
from scns_conductor.local.engines import Engines, stop_process
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdGone

STATES_WAIT_S = 60.0
# 不经代理：地址只在这台机器上。
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(*words: str, check: bool = True) -> str:
    """执行一条命令，返回标准输出。"""
    return subprocess.run(words, check=check, capture_output=True, text=True).stdout


class Network:
    """一座网桥与若干名字空间；节点 n 的地址是 10.x.y.(10+n)。"""

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        number = os.getpid()
        self.tag = f"sc{number % 100000}"
        self.prefix = f"10.{100 + number // 250 % 100}.{number % 250}"
        self.address = f"{self.prefix}.1"
        self.nodes = {name: f"{self.prefix}.{10 + index}" for index, name in enumerate(nodes)}
        self.hosts = folder / "hosts"

    def build(self) -> None:
        """建好；hosts 让名字空间里认得各节点的名字。"""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in self.nodes.items())]
        self.hosts.write_text("\n".join(lines) + "\n")
        run("ip", "link", "add", self.tag, "type", "bridge")
        run("ip", "addr", "add", f"{self.address}/24", "dev", self.tag)
        run("ip", "link", "set", self.tag, "up")
        for index, (name, address) in enumerate(self.nodes.items()):
            space, outside = self.space(name), f"{self.tag}v{index}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", outside, "master", self.tag, "up")
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")

    def destroy(self) -> None:
        """全部拆掉。"""
        for name in self.nodes:
            run("ip", "netns", "del", self.space(name), check=False)
        run("ip", "link", "del", self.tag, check=False)

    def space(self, node: str) -> str:
        """节点的名字空间。"""
        return f"{self.tag}-{node}"

    def plug(self, node: str, *, connected: bool) -> None:
        """插上或拔掉一个节点的网线。"""
        index = list(self.nodes).index(node)
        run("ip", "link", "set", f"{self.tag}v{index}", "up" if connected else "down")

    def inside(self, node: str) -> list[str]:
        """在这个节点的网络里执行命令的前缀；一路 exec，进程号就是命令自己的。"""
        mount = f'mount --bind {self.hosts} /etc/hosts && exec "$@"'
        return ["nsenter", f"--net=/run/netns/{self.space(node)}", "unshare", "-m", "sh", "-c", mount, "sh"]


class NetworkYard:
    """网络、两个引擎、API、调度器、各节点的代理。"""

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        self.folder = folder
        folder.mkdir()
        self.network = Network(folder, nodes)
        self._directory = DataDirectory(folder / "engines")
        self._processes: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://{self.network.address}:6820"
        self.environment: dict[str, str] = {}
        self.token = ""

    # ---- 起与停 ----

    def start(self) -> None:
        """依次起来，等到节点都 UP。"""
        self.network.build()
        self._start_engines()
        self._spawn("scheduler", "scns_conductor.worker.scheduler.process", self.environment)
        self._spawn("api", "scns_conductor.api", self.environment)
        for name in self.network.nodes:
            self.start_agent(name)
        for name in self.network.nodes:
            wait_until(lambda name=name: self.node_state(name) == "UP", STATES_WAIT_S, f"{name} 上线")  # type: ignore[misc]

    def _start_engines(self) -> None:
        self._directory.prepare()
        self._directory.lock()
        engines = Engines(self._directory)
        engines.postgres.prepare()
        data = engines.postgres.data
        (data / "local.conf").write_text(f"listen_addresses = '{self.network.address}'\n")
        engines.postgres.prepare()
        engines.valkey.prepare()
        with open(data / "pg_hba.conf", "a") as file:
            file.write(f"host all all {self.network.prefix}.0/24 scram-sha-256\n")
        for path in (data / "local.conf",):
            if engines.postgres.user.switch:
                os.chown(path, engines.postgres.user.uid, engines.postgres.user.gid)
        postgres = engines.postgres.spawn()
        self._processes.append(("postgres", postgres, signal.SIGINT))
        valkey = engines.valkey.spawn()
        self._processes.append(("valkey", valkey, signal.SIGTERM))
        engines.postgres.wait_ready(lambda: postgres.poll() is None)
        engines.valkey.wait_ready(lambda: valkey.poll() is None)
        password = secrets.token_hex(16)
        with psycopg.connect(engines.database_url, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE scns PASSWORD '{password}'")  # type: ignore[arg-type]
        with redis.Redis.from_url(engines.redis_url) as client:
            client.config_set("bind", self.network.address)
            client.config_set("port", "6379")
            secret = client.config_get("requirepass")["requirepass"]
        key = self.folder / "jwt.key"
        key.write_text(secrets.token_hex(32))
        key.chmod(0o600)
        self.environment = {
            **os.environ,
            "SCNS_DATABASE_URL": f"postgresql://scns:{password}@{self.network.address}:5432/scns",
            "SCNS_REDIS_URL": f"redis://:{secret}@{self.network.address}:6379/0",
            "SCNS_DATA_DIR": str(self.folder / "main"),
            "SCNS_API_HOST": self.network.address,
            "SCNS_API_PORT": "6820",
            "SCNS_JWT_KEY_FILE": str(key),
            "SCNS_HEARTBEAT_INTERVAL_S": "0.5",
            "SCNS_NODE_TIMEOUT_S": "4",
            "SCNS_RECONCILE_INTERVAL_S": "1",
            "SCNS_KILL_WAIT_S": "2",
            "SCNS_ALLOW_ROOT_JOBS": "true",
        }
        self.settings = Settings(
            database_url=self.environment["SCNS_DATABASE_URL"], data_dir=self.folder / "main", jwt_key_file=key
        )  # type: ignore[arg-type]
        migrations.upgrade(self.settings)
        with psycopg.connect(engines.database_url, autocommit=True) as connection:
            connection.execute("INSERT INTO partitions (name, is_default) VALUES ('main', true) ON CONFLICT DO NOTHING")
        self.token = issue_token(self.settings, "root", admin=True)

    def _spawn(self, name: str, module: str, environment: dict[str, str], prefix: list[str] | None = None) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*(prefix or []), sys.executable, "-m", module], env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.folder,
            )  # fmt: skip
        self._processes.append((name, process, signal.SIGTERM))

    def start_agent(self, node: str) -> None:
        """一个节点：自己的网络、数据目录、脚本目录；作业以提交者的身份运行，环境里没有任何口令。"""
        folder = self.folder / node
        folder.mkdir(exist_ok=True)
        environment = {
            **self.environment,
            "SCNS_NODE_NAME": node,
            "SCNS_NODE_ADDRESS": self.network.nodes[node],
            "SCNS_DATA_DIR": str(folder),
            "SCNS_SCRIPT_DIR": str(folder / "scripts"),
            "SCNS_NODE_CPUS": "4",
            "SCNS_NODE_MEMORY": "8G",
            "SCNS_URL": self.url,
            "HOME": str(folder),
        }
        environment.pop("SCNS_JWT_KEY_FILE")
        self._spawn(f"agent-{node}", "scns_conductor.worker.agent.process", environment, self.network.inside(node))
        self.agents[node] = self._processes[-1][1]

    def stop(self) -> None:
        """什么也不留下。"""
        for node in self.network.nodes:
            self.network.plug(node, connected=True)
        for _, process, number in reversed(self._processes):
            stop_process(process, number)
            if process in self.agents.values():
                self._end_shepherd(next(name for name, each in self.agents.items() if each is process))
        self._directory.unlock()
        self.network.destroy()

    def _end_shepherd(self, node: str) -> None:
        spool = self.folder / node / "spool" / node
        with contextlib.suppress(ShepherdGone, OSError):
            client = ShepherdClient.connect(spool, node, start=False)
            client.shutdown(0)
            client.close()

    # ---- 问与做 ----

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """发一个请求，返回 JSON；HTTP 错误返回它的 JSON。"""
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with _DIRECT.open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return json.loads(error.read())
        except OSError:
            return {}

    def node_state(self, name: str) -> str | None:
        """节点在不在：UP、DOWN……"""
        found = self.call("GET", f"/nodes/{name}")
        state: str | None = found.get("availability")
        return state

    def submit(self, script: str, **job: Any) -> str:
        """提交，返回作业号。"""
        job.setdefault("environment", {"PATH": os.environ["PATH"]})
        answer = self.call("POST", "/jobs/submit", {"job": job, "script": script})
        assert "job_id" in answer, answer
        job_id: str = answer["job_id"]
        return job_id

    def state(self, job_id: str) -> str:
        """作业的状态。"""
        state: str = self.call("GET", f"/jobs/query/{job_id}").get("state", "")
        return state

    def wait(self, job_id: str, *states: str, wait_s: float = 60.0) -> str:
        """等到其中一个状态。"""
        found: str = wait_until(
            lambda: self.state(job_id) if self.state(job_id) in states else None, wait_s,
            f"作业 {job_id} 到 {states}：{self.call('GET', f'/jobs/query/{job_id}')}",
        )  # fmt: skip
        return found


@contextlib.contextmanager
def network_yard(folder: Path, nodes: list[str]) -> Iterator[NetworkYard]:
    """起好一套，离开时拆掉。"""
    yard = NetworkYard(folder, nodes)
    try:
        yard.start()
        yield yard
    finally:
        yard.stop()
