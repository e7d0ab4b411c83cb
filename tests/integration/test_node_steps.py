"""作业步：在作业的分配里再启动任务，序号、输出、结局、清理；不属于作业的不启动。"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.job_steps import step_request_id

HOLD = "touch ready; while [ ! -e go ]; do sleep 0.02; done\n"


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def answer(yard: NodeYard, request_id: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return yard.query("SELECT answer FROM request_answers WHERE request_id = :id", id=request_id)

    row: dict[str, Any] = wait_until(found, f"回答 {request_id}")[0]["answer"]
    return row


def step_output(yard: NodeYard, node: str, job_id: int, step_id: int, rank: int, stream: str = "stdout") -> bytes:
    request_id = f"read-{node}-{step_id}-{rank}-{stream}"
    where = {"job_id": job_id, "attempt": 0, "step_id": step_id, "rank": rank, "stream": stream}
    yard.send("read_step", [node], request_id=request_id, **where)
    return base64.b64decode(answer(yard, f"{request_id}@{node}")["data"])


def all_claimed(yard: NodeYard) -> None:
    wait_until(lambda: not yard.query("SELECT 1 FROM resource_allocations WHERE claimed_at IS NULL"), "都认领了")


def test_a_step_runs_its_tasks_on_all_nodes_of_the_job(yard: NodeYard) -> None:
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.submit(HOLD, tasks=4)
    yard.start(job_id, ["n1", "n2"], cpus=2, tasks=2)
    yard.exists("ready")
    all_claimed(yard)
    script = "echo $SLURM_PROCID/$SLURM_NTASKS $SLURM_LOCALID $SLURM_STEP_ID $SLURM_NODEID $HI; exit $SLURM_PROCID"
    step = {"job_id": job_id, "step_id": 0, "argv": ["bash", "-c", script], "tasks": 4, "environment": {"HI": "你好"}}
    yard.send("launch_step", ["n1", "n2"], request_id="r", **step)
    yard.send("launch_step", ["n1", "n2"], request_id="again", **step)
    for node in ("n1", "n2"):
        assert [each["state"] for each in answer(yard, f"r@{node}")["launched"]] == ["running", "running"]
        assert all(each.get("duplicate") for each in answer(yard, f"again@{node}")["launched"])
    for rank in range(4):
        end = answer(yard, step_request_id(job_id, 0, 0, rank))
        assert (end["exit_status"], end["exit_signal"], end["cause"]) == (rank, 0, "exit")
        node = ("n1", "n2")[rank // 2]
        told = f"{rank}/4 {rank % 2} 0 {rank // 2} 你好\n".encode()
        assert step_output(yard, node, job_id, 0, rank) == told
    assert yard.job(job_id)["state"] == "RUNNING", "作业步结束不是作业结束"
    (yard.output / "go").touch()
    job = yard.ended(job_id)
    assert (job["state"], job["derived_exit_status"]) == ("COMPLETED", 3)
    for node in ("n1", "n2"):
        scripts = yard.work / node / "scripts"
        wait_until(lambda scripts=scripts: not list(scripts.glob("step_*")), "输出删除")  # type: ignore[misc]


def test_steps_of_a_finished_job_are_killed_on_every_node(yard: NodeYard) -> None:
    for node in ("n1", "n2"):
        yard.start_agent(node)
    job_id = yard.submit(HOLD, tasks=2)
    yard.start(job_id, ["n1", "n2"])
    yard.exists("ready")
    all_claimed(yard)
    script = "echo $$ > pid$SLURM_PROCID.new; mv pid$SLURM_PROCID.new pid$SLURM_PROCID; exec sleep 300"
    argv = ["bash", "-c", script]
    yard.send("launch_step", ["n1", "n2"], request_id="r", job_id=job_id, step_id=1, argv=argv, tasks=2)
    pids = [int(yard.exists(f"pid{rank}").read_text()) for rank in range(2)]
    (yard.output / "go").touch()
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: not any(alive(pid) for pid in pids), "作业步都结束")


def test_a_step_of_a_job_that_is_not_here_is_refused(yard: NodeYard) -> None:
    yard.start_agent()
    done = yard.run("true\n")
    yard.ended(done)
    pending = yard.submit("true\n")
    for job_id in (done, pending, 10**9):
        request_id = f"r{job_id}"
        yard.send("launch_step", request_id=request_id, job_id=job_id, step_id=0, argv=["touch", "owned"], tasks=1)
        assert answer(yard, f"{request_id}@n1")["code"] == "step_refused"
    assert not (yard.output / "owned").exists()


def test_a_step_runs_as_the_user_of_the_job(yard: NodeYard) -> None:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    for parent in (yard.output, *yard.output.parents):
        if "pytest" in str(parent):
            parent.chmod(0o711)
    yard.output.chmod(0o1777)
    yard.start_agent(SCNS_SINGLE_USER="false")
    (yard.work / "n1").chmod(0o711)
    job_id = yard.run(HOLD, user_name="nobody")
    yard.exists("ready")
    yard.send("launch_step", request_id="r", job_id=job_id, step_id=0, argv=["id", "-un"], tasks=1)
    assert answer(yard, step_request_id(job_id, 0, 0, 0))["exit_status"] == 0
    assert step_output(yard, "n1", job_id, 0, 0) == b"nobody\n"
    (path,) = (yard.work / "n1" / "scripts").glob("step_*.stdout")
    assert (path.owner(), path.stat().st_mode & 0o777) == ("nobody", 0o600)
    (yard.output / "go").touch()
    yard.ended(job_id)
