"""几个节点时的故障：失去一个节点的多节点作业、网络断开又回来的节点（网络名字空间里的真节点）。"""

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.scheduler.silent_nodes import fail_silent_nodes

pytestmark = pytest.mark.faults


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def declare_silent(yard: NodeYard, node: str) -> None:
    """扮演调度器：等这个节点的心跳过期，判它失联，并请有关的节点来核对；行正被代理锁着的作业下一轮再看。"""

    def silent() -> bool:
        with yard.engine.begin() as connection:
            found = fail_silent_nodes(connection, 1.0)
        for name, job_ids in found.to_sync.items():
            yard.send("sync", [name], job_ids=job_ids)
        return node in found.names and not found.locked_jobs

    wait_until(silent, f"{node} 被判失联")


def pid_of(yard: NodeYard, name: str = "pid") -> int:
    return int(yard.written(name))


SCRIPT = "echo $$ > pid.new; mv pid.new pid; echo $SLURM_JOB_ID.$SCNS_ATTEMPT >> runs; sleep 300\n"


def test_a_job_that_never_started_goes_back_whenever_its_node_is_found_down(yard: NodeYard) -> None:
    """收回没有启动的那一刻它的行正被锁着，随后放开：仍是收回，不是节点故障。"""
    yard.start_agent()
    yard.kill_agent()
    job_id = yard.submit(SCRIPT, requeue=False)
    yard.start(job_id, send=False)
    yard.execute("UPDATE nodes SET state = 'DOWN', reason_user = 'scheduler' WHERE name = 'n1'")
    with yard.engine.connect() as other, yard.engine.connect() as connection:
        other.execute(sa.text("SELECT 1 FROM jobs WHERE job_id = :job_id FOR UPDATE"), {"job_id": job_id})

        @sa.event.listens_for(connection, "before_cursor_execute")
        def _let_go(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "SELECT DISTINCT n.name" in statement:
                other.rollback()

        with connection.begin():
            assert fail_silent_nodes(connection, 60.0).names == ["n1"]
    assert yard.job(job_id)["state"] == "PENDING"
    assert yard.causes(job_id) == ["start", "give_back"]
    assert yard.node()["allocated_cpus"] == 0


def test_losing_a_peer_ends_the_script_before_anything_is_given_back(yard: NodeYard) -> None:
    """脚本所在的节点还在：它先杀尽自己的进程，作业才回到队列，两个节点的资源一起归还。"""
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.run(SCRIPT, nodes=["n1", "n2"])
    pid = pid_of(yard)
    wait_until(
        lambda: yard.query("SELECT 1 FROM resource_allocations WHERE node_name='n2' AND claimed_at IS NOT NULL"), "认领"
    )
    yard.kill_agent("n2")
    declare_silent(yard, "n2")
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "重新排队")
    assert not alive(pid)
    assert yard.job(job_id)["restart_count"] == 1
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    assert [yard.node(name)["allocated_cpus"] for name in ("n1", "n2")] == [0, 0]
    (event,) = yard.query("SELECT message, cause FROM job_events WHERE to_state = 'PENDING' AND from_state = 'RUNNING'")
    assert "n2 失联" in event["message"]


def test_losing_a_peer_of_a_job_that_may_not_be_requeued_is_a_node_failure(yard: NodeYard) -> None:
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.run(SCRIPT, nodes=["n1", "n2"], requeue=False)
    pid = pid_of(yard)
    yard.kill_agent("n2")
    declare_silent(yard, "n2")
    job = yard.ended(job_id)
    assert (job["state"], job["reason"]) == ("NODE_FAIL", "NodeDown")
    assert "n2 失联" in job["error_msg"]
    assert not alive(pid)


def test_a_step_on_the_lost_peer_is_not_waited_for(yard: NodeYard) -> None:
    """它不会再报结束：作业的结束不等它的 KillWait。"""
    yard.start_agent("n1", SCNS_KILL_WAIT_S="600")
    yard.start_agent("n2")
    job_id = yard.run("touch up; exec sleep 1000\n", nodes=["n1", "n2"], requeue=False)
    wait_until((yard.output / "up").exists, "脚本开始")
    yard.execute(
        "INSERT INTO job_steps (job_id, restart_count, step_id, name, tasks, cpus_per_task, nodes, node_tasks, "
        "node_cpus, pending_nodes, launch, start_time) VALUES (:id, 0, 0, 's', 2, 1, ARRAY['n1', 'n2'], ARRAY[1, 1], "
        "ARRAY[1, 1], ARRAY['n2'], '{}', clock_timestamp())",
        id=job_id,
    )
    yard.kill_agent("n2")
    declare_silent(yard, "n2")
    assert yard.ended(job_id)["state"] == "NODE_FAIL"


def test_losing_the_node_of_the_script_frees_its_peers(yard: NodeYard) -> None:
    """脚本所在的节点失联：作业立即重新排队；它回来时先杀掉旧的，另一个节点的核已经归还。"""
    for node in ("n1", "n2"):
        yard.start_agent(node, SCNS_NODE_CPUS="2")
    job_id = yard.run(SCRIPT, nodes=["n1", "n2"])
    pid = pid_of(yard)
    yard.kill_agent("n1")
    declare_silent(yard, "n1")
    assert yard.job(job_id)["state"] == "PENDING"
    assert alive(pid), "没有人能碰到失联的节点上的进程"
    # n2 的两个核都能再用。
    second = yard.submit("taskset -cp $$ > cores\n")
    yard.start(second, ["n2"], cpus=2)
    assert yard.ended(second)["state"] == "COMPLETED"
    bound = yard.query("SELECT cpu_ids FROM resource_allocations WHERE job_id = :id", id=second)[0]["cpu_ids"]
    assert len(bound or []) == min(2, os.cpu_count() or 1)
    yard.start_agent("n1", SCNS_NODE_CPUS="2")
    assert not alive(pid), "节点上线之前旧的进程必须已经杀掉"


def test_a_peer_that_rebooted_takes_the_job_with_it(yard: NodeYard) -> None:
    """另一个节点重启过（认领早于开机）：整个作业按节点故障结束，脚本所在的节点也收到。"""
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.run(SCRIPT, nodes=["n1", "n2"])
    pid = pid_of(yard)
    wait_until(
        lambda: yard.query("SELECT 1 FROM resource_allocations WHERE node_name = 'n2' AND claimed_at IS NOT NULL"),
        "认领",
    )
    yard.kill_agent("n2")
    # 认领的时刻推到开机之前：对代理来说，这就是重启过的样子。
    yard.execute("UPDATE resource_allocations SET claimed_at = 'epoch' WHERE node_name = 'n2'")
    yard.start_agent("n2")
    wait_until(lambda: yard.job(job_id)["state"] == "PENDING", "重新排队")
    wait_until(lambda: not alive(pid), "脚本被结束")
    assert [yard.node(name)["allocated_cpus"] for name in ("n1", "n2")] == [0, 0]


class Relay:
    """把一个 TCP 端口转到一个 unix 套接字：网络名字空间里的节点经它够到数据库与 Valkey。"""

    def __init__(self, address: str, target: str) -> None:
        self._target = target
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            try:
                far.connect(self._target)
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        (far if ready is near else near).sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


class FarNode:
    """一个网络名字空间，与本机只有一对虚拟网卡相连；拔掉网线就够不到任何东西，进程照跑。"""

    def __init__(self, yard: NodeYard) -> None:
        tag = f"{os.getpid() % 10000}"
        self.name, self.near, self.far = f"scns{tag}", f"sn{tag}", f"sf{tag}"
        number = os.getpid() % 200 + 20
        self.address, inside = f"10.213.{number}.1", f"10.213.{number}.2"
        self._run("ip", "netns", "add", self.name)
        self._run("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.name)
        self._run("ip", "addr", "add", f"{self.address}/30", "dev", self.near)
        self._run("ip", "-n", self.name, "addr", "add", f"{inside}/30", "dev", self.far)
        self._run("ip", "-n", self.name, "link", "set", self.far, "up")
        self._run("ip", "-n", self.name, "link", "set", "lo", "up")
        self.plug(True)
        database, valkey = urlsplit(yard.urls["SCNS_DATABASE_URL"]), urlsplit(yard.urls["SCNS_REDIS_URL"])
        query = parse_qs(database.query)
        self._postgres = Relay(self.address, f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}")
        self._valkey = Relay(self.address, valkey.path)
        self.environment = {
            "SCNS_DATABASE_URL": f"postgresql://scns@{self.address}:{self._postgres.port}{database.path}?sslmode=disable",
            "SCNS_REDIS_URL": f"redis://:{valkey.password}@{self.address}:{self._valkey.port}/0",
        }

    def plug(self, plugged: bool) -> None:
        self._run("ip", "link", "set", self.near, "up" if plugged else "down")

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True)

    def close(self) -> None:
        self._postgres.close()
        self._valkey.close()
        self._run("ip", "netns", "del", self.name)


@pytest.fixture
def far_node(yard: NodeYard) -> Iterator[FarNode]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：建立网络名字空间")
    node = FarNode(yard)
    yield node
    for name in list(yard.agents):
        yard.kill_agent(name, signal.SIGTERM)
    node.close()


def test_unplugged_node_is_declared_down_and_kills_its_old_job_before_it_comes_back(
    yard: NodeYard, far_node: FarNode
) -> None:
    yard.start_agent("n2")
    yard.start_agent("n1", wait=True, prefix=["ip", "netns", "exec", far_node.name], **far_node.environment)
    job_id = yard.run(SCRIPT)
    first = pid_of(yard)
    far_node.plug(False)
    declare_silent(yard, "n1")
    assert (yard.job(job_id)["state"], yard.job(job_id)["restart_count"]) == ("PENDING", 1)
    assert alive(first), "够不到的节点上进程还在"
    # 第二次尝试在别的节点上启动；旧的那次回来时只剩被杀。
    (yard.output / "pid").unlink()
    yard.start(job_id, ["n2"])
    second = pid_of(yard)
    far_node.plug(True)
    wait_until(lambda: yard.node("n1")["state"] == "UP", "节点回来", wait_s=60)
    assert not alive(first), "上线之前旧的进程必须已经杀掉"
    assert alive(second)
    assert (yard.output / "runs").read_text() == f"{job_id}.0\n{job_id}.1\n"
    yard.request_end(job_id, "CANCELLED", send=False)
    yard.send("cancel", ["n2"], job_ids=[job_id])
    assert yard.ended(job_id)["state"] == "CANCELLED"
