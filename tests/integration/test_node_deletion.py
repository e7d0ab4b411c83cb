"""删除节点：经 HTTP、scns 与 scontrol，对着三个节点的真系统；调度器忘掉它，历史留着。"""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until as wait_for
from slurm_links import Commands

from running_system import RunningSystem, start_system, wait_until
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.nodes import delete_nodes


@pytest.fixture(scope="module")
def system() -> Iterator[RunningSystem]:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    with start_system(scratch / "system", "--nodes", "5", "--cpus", "2", "--memory", "2G") as running:
        yield running
    shutil.rmtree(scratch)


def names(system: RunningSystem) -> list[str]:
    return [node["name"] for node in system.call("GET", "/nodes")[1]["nodes"]]


def drain(system: RunningSystem, *nodes: str) -> None:
    for node in nodes:
        assert system.call("PATCH", f"/nodes/{node}", {"state": "DRAIN", "reason": "退役"})[0] == 200


def refused(system: RunningSystem, node: str) -> tuple[int, str]:
    status, problem = system.call("DELETE", f"/nodes/{node}")
    return status, problem["code"]


def test_a_node_in_use_is_not_deleted_and_a_drained_one_is_forgotten(system: RunningSystem) -> None:
    assert refused(system, "node5") == (409, "node_alive")
    job_id = system.submit("sleep 300", required_nodes="node5")
    system.wait_state(job_id, "RUNNING")
    drain(system, "node5")
    assert refused(system, "node5") == (409, "node_busy")
    assert system.call("POST", f"/jobs/cancel/{job_id}")[0] == 200
    system.wait_state(job_id)
    body = {"name": "r5", "nodes": "node5", "start_time": "2030-01-01T00:00:00", "duration": "60", "users": ["root"]}
    assert system.call("POST", "/reservations", body)[0] == 201
    assert refused(system, "node5") == (409, "node_reserved")
    assert system.call("DELETE", "/reservations/r5")[0] == 204
    assert system.call("POST", "/partitions", {"name": "last", "nodes": "node5"})[0] == 201
    assert refused(system, "node5") == (409, "partition_in_use")
    assert system.call("PATCH", "/partitions/last", {"nodes": "node[1-2,5]"})[0] == 200
    waiting = system.submit("true", required_nodes="node5")
    # 全部拒绝都没有动过什么。
    assert "node5" in names(system)
    assert system.call("DELETE", "/nodes/node5") == (204, "")
    assert "node5" not in names(system)
    assert system.call("GET", "/nodes/node5")[1]["code"] == "node_not_found"
    assert system.call("GET", "/partitions/last")[1]["nodes"] == "node[1-2]"
    # 历史留着；等着它的说得出为什么。
    detail = system.query(job_id)["detail"]
    assert (detail["node_list"], detail["allocated_cpus"]) == ("node5", 1)
    reasons: dict[str, Any] = {}

    def told() -> bool:
        reasons.update(system.call("GET", f"/jobs/{waiting}")[1])
        return reasons["reason"] == "BadConstraints" and "node5" in (reasons["error_msg"] or "")

    wait_until(told, 60, f"等着的作业说没有这个节点：{reasons}")
    system.call("POST", f"/jobs/cancel/{waiting}")
    # 代理还在：它不会自己又登记回来。
    log = system.data_dir / "logs" / "agent-node5.log"
    logs = [log] if log.exists() else list((system.data_dir / "logs").glob("*node5*"))
    wait_until(lambda: any("node_deleted" in path.read_text() for path in logs), 60, f"代理发现自己被删：{logs}")
    assert "node5" not in names(system)
    assert system.wait_state(system.submit("true"))["state"] == "COMPLETED"


def test_only_administrators_delete_nodes(system: RunningSystem) -> None:
    token = system.call("POST", "/tokens", {"user_name": "alice", "lifetime_s": 600})[1]["token"]
    alice = RunningSystem(system.data_dir, system.process, system.url, token)
    assert refused(alice, "node1") == (403, "admin_required")
    assert refused(system, "nosuch") == (404, "node_not_found")
    assert refused(system, "n%5B1-") == (422, "invalid_field")
    assert "node1" in names(system)


def test_lists_and_commands(system: RunningSystem, tmp_path: Path) -> None:
    """node[3-4] 要么都删、要么都不删；scns node delete 与 scontrol delete nodename=。"""
    drain(system, "node3")
    assert refused(system, "node%5B3-4%5D") == (409, "node_alive")
    assert {"node3", "node4"} <= set(names(system))
    drain(system, "node4")
    command = [sys.executable, "-c", "from scns_conductor.cli.main import main; main()", "node", "delete", "node[3-4]"]
    done = subprocess.run(command, env=system.environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "节点 node[3-4] 已删除\n"), done.stderr
    slurm = Commands.beside(system, tmp_path)
    busy = slurm.run("scontrol", "delete", "nodename=node2")
    assert busy.returncode == 1
    assert "Requested nodes are busy" in busy.stderr
    assert "drain it first" in busy.stderr
    drain(system, "node2")
    assert slurm.run("scontrol", "delete", "nodename=node2").returncode == 0
    unknown = slurm.run("scontrol", "delete", "nodename=node2")
    assert (unknown.returncode, "Invalid node name specified" in unknown.stderr) == (1, True)
    assert set(names(system)).isdisjoint({"node2", "node3", "node4"})


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.mark.faults
def test_a_deleted_node_that_starts_again_registers_anew(yard: NodeYard, settings: Settings) -> None:
    """停下了的代理：节点可以删；调度器忘掉它，放上去了没有认领的收回；再启动就是一个新节点。"""

    async def delete(node: str) -> None:
        engine = async_engine(settings)
        try:
            await delete_nodes(engine, Identity("admin", admin=True), node, node_timeout_s=60)
        finally:
            await engine.dispose()

    yard.start_agent("n1", SCNS_NODE_FEATURES="old")
    yard.kill_agent("n1", signal.SIGTERM)
    asyncio.run(delete("n1"))
    assert yard.node("n1") == {}
    # 删除的同时放上去的：没有节点行，也没有人会认领。
    orphan = yard.submit("true\n")
    yard.start(orphan, send=False)
    scheduler = yard.start_scheduler(SCNS_RECONCILE_INTERVAL_S="0.2")
    try:
        wait_for(lambda: yard.job(orphan)["state"] == "PENDING", "收回")
        yard.start_agent("n1", SCNS_NODE_FEATURES="new")
        assert yard.ended(orphan)["state"] == "COMPLETED"
        assert yard.node("n1")["features"] == ["new"]
    finally:
        scheduler.send_signal(signal.SIGTERM)
        scheduler.wait(timeout=30)
