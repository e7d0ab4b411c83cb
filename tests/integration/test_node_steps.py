"""作业步在节点上的一份：重复的消息、不属于作业的、换用户、作业结束时的清理。"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.bus import Message

HOLD = "touch ready; while [ ! -e go ]; do sleep 0.1; done\n"


@pytest.fixture
def yard(settings: Settings, walkable: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, walkable)
    yield running
    running.close()


def launch(
    yard: NodeYard, job_id: int, nodes: dict[str, list[int]], argv: list[str], step_id: int = 0, **more: object
) -> None:
    """扮演 API：写下作业步并把消息发给它的节点，发两遍。"""
    step: dict[str, Any] = {
        "job_id": job_id,
        "restart_count": 0,
        "step_id": step_id,
        "name": "step",
        "tasks": sum(map(len, nodes.values())),
        "cpus_per_task": 1,
    }
    yard.execute(
        "INSERT INTO job_steps (job_id, restart_count, step_id, name, tasks, cpus_per_task, nodes, node_tasks, "
        "node_cpus, pending_nodes, launch) VALUES (:job_id, :restart_count, :step_id, :name, :tasks, :cpus_per_task, "
        ":nodes, :counts, :counts, :nodes, CAST(:launch AS jsonb)) ON CONFLICT DO NOTHING",
        **step,
        nodes=list(nodes),
        counts=[len(ranks) for ranks in nodes.values()],
        launch=json.dumps({}),
    )
    message = Message("launch_step", {**step, "nodes": nodes, "argv": argv, "environment": {"HI": "你好"}, **more})
    for _ in range(2):
        yard.publisher.send({node: [message] for node in nodes})


def step_of(yard: NodeYard, job_id: int, step_id: int = 0) -> dict[str, Any]:
    where = "job_id = :job_id AND step_id = :step_id"
    return yard.query(f"SELECT * FROM job_steps WHERE {where}", job_id=job_id, step_id=step_id)[0]


def ended_step(yard: NodeYard, job_id: int, step_id: int = 0) -> dict[str, Any]:
    wait_until(lambda: step_of(yard, job_id, step_id)["end_time"] is not None, "作业步结束")
    return step_of(yard, job_id, step_id)


def all_claimed(yard: NodeYard) -> None:
    wait_until(lambda: not yard.query("SELECT 1 FROM resource_allocations WHERE claimed_at IS NULL"), "都认领了")


def test_a_step_runs_once_on_all_its_nodes(yard: NodeYard) -> None:
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.submit(HOLD, tasks=4)
    yard.start(job_id, ["n1", "n2"], cpus=2, tasks=2)
    yard.exists("ready")
    all_claimed(yard)
    script = "echo $SLURM_PROCID/$SLURM_NTASKS $SLURM_LOCALID $SLURM_NODEID $HI >> ran; exit $SLURM_PROCID"
    launch(yard, job_id, {"n1": [0, 1], "n2": [2, 3]}, ["bash", "-c", script])
    step = ended_step(yard, job_id)
    assert (step["state"], step["exit_status"], step["pending_nodes"]) == ("FAILED", 3, [])
    told = sorted((yard.output / "ran").read_text().splitlines())
    assert told == [f"{rank}/4 {rank % 2} {rank // 2} 你好" for rank in range(4)]
    assert yard.job(job_id)["state"] == "RUNNING", "作业步结束不是作业结束"
    (yard.output / "go").touch()
    job = yard.ended(job_id)
    assert (job["state"], job["derived_exit_status"]) == ("COMPLETED", 3)
    for node in ("n1", "n2"):
        scripts = yard.work / node / "scripts"
        wait_until(lambda scripts=scripts: not list(scripts.glob("step_*")), "说明与日志删除")  # type: ignore[misc]


def test_steps_of_a_finished_job_are_cancelled_on_every_node(yard: NodeYard) -> None:
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.submit(HOLD, tasks=2)
    yard.start(job_id, ["n1", "n2"])
    yard.exists("ready")
    all_claimed(yard)
    script = "echo $$ > pid$SLURM_PROCID.new; mv pid$SLURM_PROCID.new pid$SLURM_PROCID; exec sleep 300"
    launch(yard, job_id, {"n1": [0], "n2": [1]}, ["bash", "-c", script], step_id=1)
    pids = [int(yard.written(f"pid{rank}")) for rank in range(2)]
    (yard.output / "go").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: not any(alive(pid) for pid in pids), "作业步都结束")
    assert ended_step(yard, job_id, 1)["state"] == "CANCELLED"


def test_a_step_of_a_job_that_is_not_here_is_refused(yard: NodeYard) -> None:
    yard.start_agent()
    done = yard.run("true\n")
    yard.ended(done)
    pending = yard.submit("true\n")
    for job_id in (done, pending):
        launch(yard, job_id, {"n1": [0]}, ["touch", "owned"])
        assert ended_step(yard, job_id)["state"] == "FAILED"
    assert not (yard.output / "owned").exists()


def test_a_step_runs_as_the_user_of_the_job(yard: NodeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    yard.output.chmod(0o1777)
    yard.start_agent(SCNS_SINGLE_USER="false")
    (yard.work / "n1").chmod(0o711)
    job_id = yard.run(HOLD, user_name="nobody")
    yard.exists("ready")
    script = "id -un; cat /proc/$PPID/environ > stolen || echo 读不到主人的环境"
    launch(yard, job_id, {"n1": [0]}, ["sh", "-c", script])
    step = ended_step(yard, job_id)
    assert (step["state"], step["exit_status"]) == ("COMPLETED", 0)
    output = yard.output / f"slurm-{job_id}.0.out"
    assert output.owner() == "nobody"
    text = output.read_text()
    assert text.startswith("nobody\n")
    assert text.endswith("读不到主人的环境\n")
    (yard.output / "go").touch()
    yard.ended(job_id)
