"""测试用的节点：真的 PostgreSQL、Valkey、代理、牧守进程；测试自己扮演调度器。"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from shepherd_yard import alive, wait_until

import warm_processes
from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.statements.starts import Share, Start, commit_starts
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdGone
from scns_conductor.worker.bus import Message, Publisher

AGENT = "scns_conductor.worker.agent.process"
SCHEDULER = "scns_conductor.worker.scheduler.process"


class NodeYard:
    """一个数据库上的若干节点。environment 是给代理的额外设置。"""

    def __init__(self, settings: Settings, work: Path) -> None:
        self.work = work
        self.output = work / "out"
        self.output.mkdir()
        self.urls = {
            "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
            "SCNS_REDIS_URL": settings.redis_url.get_secret_value(),
        }
        self.engine = sync_engine(settings)
        self.publisher = Publisher(self.urls["SCNS_REDIS_URL"])
        self.agents: dict[str, warm_processes.Process] = {}
        self.execute("INSERT INTO scheduler_leader (singleton) VALUES (true) ON CONFLICT DO NOTHING")
        self.execute("INSERT INTO partitions (name, is_default) VALUES ('main', true) ON CONFLICT DO NOTHING")

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            return [dict(row) for row in connection.execute(sa.text(sql), values).mappings()]

    def execute(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(sql), values)

    def environment(self, node: str, **extra: str) -> dict[str, str]:
        return {
            **os.environ,
            **self.urls,
            "SCNS_NODE_NAME": node,
            "SCNS_DATA_DIR": str(self.work / node),
            "SCNS_SCRIPT_DIR": str(self.work / node / "scripts"),
            "SCNS_SINGLE_USER": "true",
            "SCNS_NODE_CPUS": "8",
            "SCNS_KILL_WAIT_S": "0.5",
            "SCNS_HEARTBEAT_INTERVAL_S": "0.2",
            "SCNS_RECONCILE_INTERVAL_S": "0.3",
            **extra,
        }

    def spool(self, node: str = "n1") -> Path:
        return self.work / node / "spool" / node

    def start_agent(self, node: str = "n1", *, wait: bool = True, prefix: Sequence[str] = (), **extra: str) -> None:
        if wait:
            self.execute("UPDATE nodes SET state = 'UNKNOWN' WHERE name = :name", name=node)
        (self.work / node).mkdir(exist_ok=True)
        with open(self.work / f"{node}.log", "ab") as log:
            self.agents[node] = warm_processes.start(
                AGENT, env=self.environment(node, **extra), stderr=log, cwd=self.work, prefix=prefix
            )
        if wait:
            wait_until(lambda: self.node(node).get("state") == "UP", f"{node} 上线")

    def start_scheduler(self, node: str = "none", **extra: str) -> warm_processes.Process:
        """一个真的调度进程；日志在 scheduler.log。"""
        with open(self.work / "scheduler.log", "ab") as log:
            return warm_processes.start(SCHEDULER, env=self.environment(node, **extra), stderr=log, cwd=self.work)

    def kill_agent(self, node: str = "n1", number: int = signal.SIGKILL) -> None:
        process = self.agents.pop(node)
        process.send_signal(number)
        process.wait(timeout=30)

    def shepherd_pid(self, node: str = "n1") -> int:
        # 锁文件先建、后写进程号：写好了才读。
        lock = self.spool(node) / "shepherd.lock"
        return int(wait_until(lambda: lock.exists() and lock.read_text(), f"{node} 的牧守进程写下进程号"))

    def node(self, name: str = "n1") -> dict[str, Any]:
        rows = self.query("SELECT * FROM nodes WHERE name = :name", name=name)
        return rows[0] if rows else {}

    def submit(self, script: str | None, **fields: Any) -> int:
        values = {
            "name": "测试",
            "user_name": "root",
            "partition": "main",
            "current_working_directory": str(self.output),
            "script": script,
            **fields,
        }
        columns = ", ".join(values)
        names = ", ".join(f":{name}" for name in values)
        statement = sa.text(f"INSERT INTO jobs ({columns}) VALUES ({names}) RETURNING job_id")
        for name, value in values.items():
            if isinstance(value, dict):
                statement = statement.bindparams(sa.bindparam(name, type_=sa.JSON))
        with self.engine.begin() as connection:
            return int(connection.execute(statement, values).scalar_one())

    def start(
        self, job_id: int, nodes: Sequence[str] = ("n1",), *, send: bool = True, cpus: int = 1, **share: Any
    ) -> None:
        """扮演调度器：把作业分配到这些节点并发启动消息。"""
        shares = tuple(
            Share(node, cpus, share.get("memory", 0), share.get("gres", {}), share.get("tasks", 1)) for node in nodes
        )
        with self.engine.begin() as connection:
            epoch = connection.execute(sa.text("SELECT epoch FROM scheduler_leader FOR SHARE")).scalar_one()
            revision = connection.execute(
                sa.text("SELECT revision FROM jobs WHERE job_id = :job_id"), {"job_id": job_id}
            ).scalar_one()
            started = commit_starts(connection, epoch, [Start(job_id, revision, None, False, ",".join(nodes), shares)])
        assert len(started) == 1
        if send:
            self.send("launch", nodes, job_ids=[job_id])

    def send(self, function: str, nodes: Sequence[str] = ("n1",), **payload: Any) -> None:
        self.publisher.send({node: [Message(function, payload)] for node in nodes})

    def run(self, script: str | None, *, nodes: Sequence[str] = ("n1",), **fields: Any) -> int:
        job_id = self.submit(script, **fields)
        self.start(job_id, nodes)
        return job_id

    def request_end(self, job_id: int, state: str, *, send: bool = True) -> None:
        self.execute(
            "UPDATE jobs SET requested_end_state = :state, requested_end_reason = '有人要求', "
            "requested_end_actor = 'alice' WHERE job_id = :job_id",
            state=state,
            job_id=job_id,
        )
        if send:
            self.send("cancel", job_ids=[job_id])

    def job(self, job_id: int) -> dict[str, Any]:
        return self.query("SELECT * FROM jobs WHERE job_id = :job_id", job_id=job_id)[0]

    def ended(self, job_id: int) -> dict[str, Any]:
        def finished() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] not in ("PENDING", "RUNNING", "SUSPENDED") else None

        job: dict[str, Any] = wait_until(finished, f"作业 {job_id} 结束：{self.job(job_id)['state']}")
        return job

    def exists(self, name: str) -> Path:
        path = self.output / name
        wait_until(path.exists, f"文件 {name}")
        return path

    def written(self, name: str) -> str:
        """作业写的文件的内容：文件先有，内容后到。"""
        return str(wait_until(self.exists(name).read_text, f"文件 {name} 的内容"))

    def output_of(self, job_id: int, stream: str = "stdout") -> bytes | None:
        rows = self.query(
            "SELECT content FROM job_outputs WHERE job_id = :job_id AND stream = :stream ORDER BY restart_count DESC",
            job_id=job_id,
            stream=stream,
        )
        return bytes(rows[0]["content"]) if rows else None

    def causes(self, job_id: int) -> list[str]:
        return [
            row["cause"]
            for row in self.query(
                "SELECT cause FROM job_events WHERE job_id = :job_id ORDER BY event_id", job_id=job_id
            )
        ]

    def log(self, node: str = "n1") -> str:
        return (self.work / f"{node}.log").read_text()

    def close(self) -> None:
        """停下代理与牧守进程；什么也不留下。"""
        for node in list(self.agents):
            self.kill_agent(node, signal.SIGTERM)
        end_shepherds(self.work)
        self.publisher.close()
        self.engine.dispose()


def end_shepherds(work: Path) -> None:
    """停下这个目录下各节点的牧守进程：代理停了它们还在，一无所事十分钟才走。"""
    for lock in work.glob("*/spool/**/shepherd.lock"):
        pid = int(lock.read_text())
        try:
            client = ShepherdClient.connect(lock.parent, "", start=False)
        except ShepherdGone:
            continue
        client.shutdown(0)
        client.close()
        wait_until(lambda pid=pid: not alive(pid), "牧守进程退出")  # type: ignore[misc]


def assert_released(yard: NodeYard, node: str = "n1") -> None:
    """没有没释放的分配，节点的账是空的。"""
    assert yard.query("SELECT * FROM resource_allocations WHERE released_at IS NULL") == []
    row = yard.node(node)
    assert (row["allocated_cpus"], row["allocated_memory"], row["allocated_gres"]) == (0, 0, {})
