"""启动失败：prolog 失败的作业不会排空整个集群，一份坏的启动说明只拒收它自己。真的调度器、代理、牧守进程。"""

import contextlib
import os
import queue
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.node_setup import prepare_directories
from scns_conductor.worker.agent.process import Agent
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdError
from scns_conductor.worker.wire.launch_spec import LaunchSpec
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer

pytestmark = pytest.mark.faults

HELD = "launch failed requeued held"


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.fixture
def scheduled(yard: NodeYard) -> Iterator[NodeYard]:
    """带着一个真的调度进程。"""
    process = yard.start_scheduler()
    try:
        yield yard
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def prolog_that_fails_for(yard: NodeYard, *names: str) -> str:
    """除非作业号写在 bad 里，都成功。"""
    path = yard.work / "prolog"
    path.write_text(
        f"#!/bin/bash\necho $SLURM_JOB_ID $SLURMD_NODENAME >> {yard.work}/prologs\n"
        f"grep -qx $SLURM_JOB_ID {yard.work}/bad && {{ echo 不喜欢这个作业; exit 3; }}\nexit 0\n"
    )
    path.chmod(0o755)
    (yard.work / "bad").touch()
    return str(path)


def submit(yard: NodeYard, script: str, *, bad: bool = False, **fields: object) -> int:
    """先保留着提交，写进 bad 之后再放行：prolog 看得到它的号。"""
    job_id = yard.submit(script, hold="user", **fields)
    if bad:
        with open(yard.work / "bad", "a") as file:
            file.write(f"{job_id}\n")
    release(yard, job_id)
    return job_id


def release(yard: NodeYard, job_id: int) -> None:
    """同 services.job_control.release_job。"""
    yard.execute(
        "WITH released AS (UPDATE jobs SET hold = NULL, reason = 'None', revision = revision + 1 WHERE job_id = :id) "
        "INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', ARRAY[CAST(:id AS bigint)]) "
        "RETURNING pg_notify('scns_inbox', '')",
        id=job_id,
    )


def drained(yard: NodeYard) -> set[str]:
    return {row["name"] for row in yard.query("SELECT name FROM nodes WHERE drain")}


def test_a_prolog_that_fails_for_one_job_drains_one_node_and_holds_the_job(scheduled: NodeYard) -> None:
    yard = scheduled
    prolog = prolog_that_fails_for(yard)
    for node in ("n1", "n2", "n3"):
        yard.start_agent(node, SCNS_TASK_PROLOG=prolog)
    bad = submit(yard, "touch ran\n", bad=True)
    wait_until(lambda: yard.job(bad)["hold"], "保留")
    job = yard.job(bad)
    assert (job["state"], job["hold"], job["reason"], job["restart_count"]) == ("PENDING", "launch_failed", HELD, 1)
    assert "不喜欢这个作业" in job["error_msg"]
    # 别的作业照跑，别的节点照用；保留的一直保留着。
    good = [submit(yard, "true\n") for _ in range(8)]
    assert {yard.ended(job_id)["state"] for job_id in good} == {"COMPLETED"}
    assert len(drained(yard)) == 1
    (node,) = yard.query("SELECT name, reason FROM nodes WHERE drain")
    assert f"作业 {bad} 的 prolog" in node["reason"]
    assert "prolog_failed" in yard.log(node["name"])
    job = yard.job(bad)
    assert (job["state"], job["reason"]) == ("PENDING", HELD)
    assert "不喜欢这个作业" in job["error_msg"]
    assert not (yard.output / "ran").exists()
    # 修好之后放行，就跑。
    (yard.work / "bad").write_text("")
    release(yard, bad)
    assert yard.ended(bad)["state"] == "COMPLETED"


def test_an_array_whose_prolog_fails_does_not_drain_node_after_node(scheduled: NodeYard) -> None:
    """数组的每个任务都失败：一个接一个地保留，只排空了头一个节点。"""
    yard = scheduled
    (yard.work / "prolog").write_text("#!/bin/bash\n[ $SLURM_JOB_USER != mallory ]\n")
    (yard.work / "prolog").chmod(0o755)
    yard.start_agent("n1", SCNS_TASK_PROLOG=str(yard.work / "prolog"), SCNS_NODE_CPUS="1")
    first = yard.submit("true\n", user_name="mallory", hold="user")
    yard.execute(
        "UPDATE jobs SET array_job_id = job_id, \"array\" = '0-5', array_remaining = '{[0,6)}' WHERE job_id = :id",
        id=first,
    )
    release(yard, first)
    wait_until(lambda: drained(yard) == {"n1"}, "头一个节点排空")
    yard.start_agent("n2", SCNS_TASK_PROLOG=str(yard.work / "prolog"), SCNS_NODE_CPUS="1")
    tasks = "SELECT count(*) AS n FROM jobs WHERE array_job_id = :id AND hold = 'launch_failed'"
    wait_until(lambda: yard.query(tasks, id=first)[0]["n"] == 6, "六个任务都保留")
    assert drained(yard) == {"n1"}
    after = submit(yard, "true\n")
    assert yard.ended(after)["state"] == "COMPLETED"


def test_without_hold_a_second_node_decides(scheduled: NodeYard) -> None:
    """nohold_on_prolog_fail：换一个节点再试；两个节点都不成，就保留，并说是哪两个。"""
    yard = scheduled
    prolog = prolog_that_fails_for(yard)
    for node in ("n1", "n2", "n3"):
        yard.start_agent(node, SCNS_TASK_PROLOG=prolog, SCNS_NOHOLD_ON_PROLOG_FAIL="true")
    bad = submit(yard, "touch ran\n", bad=True)
    wait_until(lambda: yard.job(bad)["hold"], "保留")
    tried = [line.split()[1] for line in (yard.work / "prologs").read_text().splitlines()]
    assert len(set(tried)) == 2
    job = yard.job(bad)
    assert (job["state"], job["reason"]) == ("PENDING", HELD)
    assert all(node in job["error_msg"] for node in tried)
    assert yard.causes(bad) == ["start", "launch_failed", "start", "launch_failed"]
    assert drained(yard) == {tried[0]}
    assert yard.ended(submit(yard, "true\n"))["state"] == "COMPLETED"


def test_a_malformed_job_is_refused_alone(yard: NodeYard) -> None:
    """一批里有一个说明都写不成的：它失败并说明，同一条消息里的别的照常启动，代理不受影响。"""
    yard.start_agent()
    agent = yard.agents["n1"].pid
    jobs = [yard.submit(f"echo ran > ran.{number}\n") for number in range(3)]
    bad = yard.submit("touch never\n", open_mode="sideways")
    for job_id in (jobs[0], bad, *jobs[1:]):
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=[jobs[0], bad, *jobs[1:]])
    assert {yard.ended(job_id)["state"] for job_id in jobs} == {"COMPLETED"}
    job = yard.ended(bad)
    assert (job["state"], "sideways" in job["error_msg"]) == ("FAILED", True)
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    assert yard.agents["n1"].poll() is None, f"代理 {agent} 死了"
    assert not yard.node()["drain"]


def test_a_spec_the_shepherd_cannot_use_is_refused_alone(yard: NodeYard) -> None:
    """说明送到牧守进程才看得出坏（环境变量的值不是文字）：它失败并说明，牧守进程照活，别的照常启动。"""
    yard.start_agent()
    shepherd = yard.shepherd_pid()
    jobs = [yard.submit("true\n") for _ in range(3)]
    bad = yard.submit("touch never\n", environment={"NUMBER": 7})
    for job_id in (jobs[0], bad, *jobs[1:]):
        yard.start(job_id, send=False)
    yard.send("launch", job_ids=[jobs[0], bad, *jobs[1:]])
    assert {yard.ended(job_id)["state"] for job_id in jobs} == {"COMPLETED"}
    assert yard.ended(bad)["state"] == "FAILED"
    assert yard.shepherd_pid() == shepherd
    assert alive(shepherd)
    assert not (yard.output / "never").exists()


def test_the_shepherd_refuses_only_what_it_does_not_understand(yard: NodeYard) -> None:
    """代理比牧守进程新，有一份说明里有它不认识的一项：只拒收那一份。"""
    yard.start_agent()
    client = ShepherdClient.connect(yard.spool(), "n1", start=False)
    good = LaunchSpec(job_id=901, attempt=0, step="batch", argv=["/bin/true"], env={}, cwd="/").to_wire()
    answers: dict[str, Any] = client.request(
        "launch", specs=[{**good, "job_id": 902, "colour": "blue"}, good, {"job_id": 903}]
    )
    client.close()
    found = {answer["key"]: answer for answer in answers["launched"]}
    assert {key: answer["state"] for key, answer in found.items()} == {
        "901.0.batch": "running",
        "902.0.batch": "refused",
        "903": "refused",
    }
    assert "colour" in found["902.0.batch"]["error"]


class OldShepherd:
    """站在代理与牧守进程之间：像旧版那样，一批里有一份不合意的就整批拒收。"""

    def __init__(self, client: ShepherdClient, unwanted: int) -> None:
        self._client = client
        self._unwanted = unwanted
        self._refused: set[int] = set()

    def begin_launch(self, specs: Sequence[LaunchSpec]) -> int:
        request_id = self._client.begin_launch([spec for spec in specs if not self._bad(specs)])
        if self._bad(specs):
            self._refused.add(request_id)
        return request_id

    def launched(self, request_id: int) -> list[LaunchAnswer]:
        answers = self._client.launched(request_id)
        if request_id in self._refused:
            raise ShepherdError("bad_request", "请求不合法：colour")
        return answers

    def launch(self, specs: Sequence[LaunchSpec]) -> list[LaunchAnswer]:
        return self.launched(self.begin_launch(specs))

    def _bad(self, specs: Sequence[LaunchSpec]) -> bool:
        return any(spec.job_id == self._unwanted for spec in specs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_a_batch_an_old_shepherd_refuses_is_sent_one_by_one(yard: NodeYard, settings: Settings) -> None:
    """旧的牧守进程整批拒收：不再每个核对周期重送一遍；合意的启动，不合意的重新排队并保留。"""
    mine = settings.model_copy(
        update={"node_name": "n1", "data_dir": yard.work / "n1", "script_dir": yard.work / "n1/scripts", "node_cpus": 8}
    )
    prepare_directories(mine)
    agent = Agent(mine)
    client = ShepherdClient.connect(mine.spool_path, "n1", on_ends=agent._finisher.put)
    try:
        agent._shepherds._capabilities = client.hello().capabilities
        agent._register()
        agent._finisher.start()
        jobs = [yard.submit("true\n") for _ in range(3)]
        agent._shepherds._client = OldShepherd(client, jobs[1])  # type: ignore[assignment]
        for job_id in jobs:
            yard.start(job_id, send=False)
        agent._control.launch(jobs)
        agent._control.sync(None)

        def held() -> bool:
            # 控制线程没有在跑：排进来的事由这里做（输出目录看过了，才送去启动）。
            with contextlib.suppress(queue.Empty):
                while True:
                    agent._commands.get_nowait()()
            agent._control.settle()
            return bool(yard.job(jobs[1])["hold"])

        wait_until(held, "保留")
        assert [yard.ended(job_id)["state"] for job_id in (jobs[0], jobs[2])] == ["COMPLETED", "COMPLETED"]
        job = yard.job(jobs[1])
        assert (job["state"], job["reason"]) == ("PENDING", HELD)
        assert "colour" in job["error_msg"]
        assert not yard.node()["drain"]
    finally:
        agent._finisher.stop(wait_s=5)
        client.close()
        agent._engine.dispose()


def test_a_missing_working_directory_is_not_waited_for(yard: NodeYard) -> None:
    """输出目录还没有的等一等（有人先提交后建它）；连工作目录都没有的，等也没有用：后来的先失败。"""
    yard.start_agent()
    waits = yard.run("true\n", standard_output=str(yard.output / "later/out"))
    wait_until(
        lambda: yard.query(
            "SELECT 1 FROM resource_allocations WHERE job_id = :id AND claimed_at IS NOT NULL", id=waits
        ),
        "认领",
    )
    missing = yard.run("true\n", current_working_directory=str(yard.work / "nowhere"))
    job = yard.ended(missing)
    assert (job["state"], "nowhere" in job["error_msg"]) == ("FAILED", True)
    assert yard.ended(waits)["end_time"] > job["end_time"]


def test_what_a_new_shepherd_can_enforce_is_recorded(yard: NodeYard) -> None:
    """修好之后换上的牧守进程约束得了什么，立即看得见，不等代理重启。"""
    yard.start_agent()
    before = yard.node()["containment"]
    yard.execute('UPDATE nodes SET containment = \'{"not_enforced": ["旧的"]}\'')
    os.kill(yard.shepherd_pid(), signal.SIGKILL)
    wait_until(lambda: yard.node()["containment"] == before, "重新记下")
