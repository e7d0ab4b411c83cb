"""节点上的接力：真的 PostgreSQL、Valkey、代理与牧守进程；测试扮演调度器，许可后继，在各处下手。"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings

# 单子在测试里不过期：机器再慢也一样。
LONG_S = 600.0


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


class Relay:
    """一个占满了的节点：每个核上一个等着放行的作业，后面排着 waiting 个。"""

    def __init__(self, yard: NodeYard, waiting: int, **agent: str) -> None:
        self.yard = yard
        yard.start_agent(SCNS_NODE_CPUS="2", SCNS_NODE_MEMORY="4G", **agent)
        self.first = yard.submit(self.script("a"))
        self.second = yard.submit(self.script("b"))
        yard.start(self.first, memory=16)
        yard.start(self.second, memory=16)
        self.waiting = [yard.submit(self.script(f"w{number}"), cpus_per_task=1) for number in range(waiting)]
        yard.written("ran-a")
        yard.written("ran-b")

    def script(self, name: str) -> str:
        return f"echo $SLURM_JOB_ID >> ran-{name}\nuntil [ -e go-{name} ]; do sleep 0.1; done\n"

    def let(self, *names: str) -> None:
        for name in names:
            (self.yard.output / f"go-{name}").touch()

    def offer(self, waiting: Sequence[int], *, expires: float = LONG_S, **odd: Any) -> None:
        """许可这些后继；代理收下了才返回。"""
        now = self.yard.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")[0]["now"]
        current = self.yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"]
        revisions = {row["job_id"]: row["revision"] for row in self.yard.query("SELECT job_id, revision FROM jobs")}
        offered = {
            "epoch": current,
            "expires": now + expires,
            "cpus": 1,
            "memory": 16,
            "tasks": 1,
            "jobs": [[job_id, None, revisions[job_id]] for job_id in waiting],
            **odd,
        }
        self.yard.send("launch", job_ids=[], successors=offered)
        # 消息按次序办：后面这一问答了，前面的单子就收下了。
        request = f"seen-{time.monotonic_ns()}"
        self.yard.send("sample", request_id=request)
        answered = "SELECT 1 FROM request_answers WHERE request_id LIKE :name"
        wait_until(lambda: self.yard.query(answered, name=f"{request}%"), "代理收下单子")

    def states(self) -> list[str]:
        return [self.yard.job(job_id)["state"] for job_id in self.waiting]

    def settled(self) -> None:
        """什么也没有漏：没有没释放的分配，计数是零，每个脚本恰好跑了一遍。"""
        assert self.yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
        node = self.yard.node()
        assert (node["allocated_cpus"], node["allocated_memory"]) == (0, 0)
        for ran in self.yard.output.glob("ran-*"):
            assert len(ran.read_text().splitlines()) == 1, ran


def held(yard: NodeYard) -> list[dict[str, Any]]:
    return yard.query(
        "SELECT job_id, claimed_at IS NOT NULL AS claimed, cpu_ids, cpus, memory FROM resource_allocations "
        "WHERE released_at IS NULL ORDER BY job_id"
    )


def test_a_successor_takes_over_the_share_of_the_one_that_ended(yard: NodeYard) -> None:
    relay = Relay(yard, 3)
    before = {row["job_id"]: row for row in held(yard)}
    relay.offer(relay.waiting)
    assert relay.states() == ["PENDING"] * 3
    relay.let("a")
    ended = yard.ended(relay.first)
    assert yard.written("ran-w0") == f"{relay.waiting[0]}\n"
    now = {row["job_id"]: row for row in held(yard)}
    # 接过来的是同一份、同样的核；计数没有动；还没有轮到的仍在排队。
    assert now.keys() == {relay.second, relay.waiting[0]}
    mine = now[relay.waiting[0]]
    assert mine == {**before[relay.first], "job_id": relay.waiting[0]}
    assert mine["claimed"]
    node = yard.node()
    assert (node["allocated_cpus"], node["allocated_memory"]) == (2, 32)
    assert relay.states() == ["RUNNING", "PENDING", "PENDING"]
    started = yard.job(relay.waiting[0])
    assert started["start_time"] >= ended["end_time"]
    assert (started["node_list"], started["allocated_cpus"], started["allocated_memory"]) == ("n1", 1, 16)
    event = yard.query("SELECT * FROM job_events WHERE job_id = :id AND cause = 'start'", id=relay.waiting[0])[0]
    assert (event["from_state"], event["to_state"], event["actor"]) == ("PENDING", "RUNNING", "agent@n1")
    told = yard.query("SELECT * FROM scheduler_inbox WHERE kind = 'relayed'")
    assert [(row["job_ids"], row["node_names"], row["payload"]["share"]) for row in told] == [
        ([relay.waiting[0]], ["n1"], [1, 16, 1])
    ]
    # 一张单子用到完为止，次序不变。
    # 一份一份地空出来：两个一起在一句里启动的，先后只差几微秒，不作数。
    relay.let("w0")
    yard.written("ran-w1")
    relay.let("b")
    yard.written("ran-w2")
    relay.let("w1", "w2")
    assert {yard.ended(job_id)["state"] for job_id in relay.waiting} == {"COMPLETED"}
    starts = [yard.job(job_id)["start_time"] for job_id in relay.waiting]
    assert starts == sorted(starts)
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()


CHANGES = [
    "UPDATE jobs SET hold = 'user', reason = 'JobHeldUser', revision = revision + 1 WHERE job_id = :id",
    "UPDATE jobs SET state = 'CANCELLED', end_time = now() WHERE job_id = :id",
    "UPDATE jobs SET priority = 1, revision = revision + 1 WHERE job_id = :id",
    "UPDATE jobs SET deadline = now() + interval '1 hour' WHERE job_id = :id",
    "DELETE FROM jobs WHERE job_id = :id",
]


@pytest.mark.faults
def test_successors_that_are_not_what_they_were_are_passed_over(yard: NodeYard) -> None:
    """许可之后、轮到之前被保留、取消、修改、删除、正被别人锁着：略过，轮到下一个；它们还是人们要它们成为的样子。"""
    relay = Relay(yard, len(CHANGES) + 2)
    relay.offer(relay.waiting)
    *changed, locked, fine = relay.waiting
    for job_id, change in zip(changed, CHANGES, strict=True):
        yard.execute(change, id=job_id)
    seen = "SELECT job_id, state, hold, priority, revision, start_time FROM jobs WHERE job_id = ANY(:ids) ORDER BY 1"
    before = yard.query(seen, ids=changed)
    with yard.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM jobs WHERE job_id = {locked} FOR UPDATE")
        relay.let("a")
        yard.written(f"ran-w{len(relay.waiting) - 1}")
    assert yard.job(fine)["state"] == "RUNNING"
    assert yard.query(seen, ids=changed) == before
    assert yard.job(locked)["state"] == "PENDING"
    # 锁放开了，下一份就是它的。
    relay.let("b")
    yard.written(f"ran-w{len(relay.waiting) - 2}")
    relay.let(*(f"w{number}" for number in range(len(relay.waiting))))
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()
    assert len(list(yard.output.glob("ran-w*"))) == 2


@pytest.mark.faults
def test_a_list_that_no_longer_counts_starts_nobody(yard: NodeYard) -> None:
    """过期的、撤回了的、份额不同的、不成样子的、数据库收不下的、前任领导者的、节点排空了的：结束照写，份额照还，谁也不启动。"""
    relay = Relay(yard, 1)

    def ends(name: str) -> None:
        job_id = yard.submit(relay.script(name))
        yard.start(job_id, memory=16, cpus=1, send=False)
        yard.send("launch", job_ids=[job_id])
        yard.written(f"ran-{name}")
        relay.let(name)
        yard.ended(job_id)
        assert relay.states() == ["PENDING"], name

    relay.let("a")
    yard.ended(relay.first)
    relay.offer(relay.waiting, expires=-1.0)
    ends("expired")
    relay.offer(relay.waiting)
    relay.offer([])
    ends("withdrawn")
    relay.offer(relay.waiting, memory=32)
    ends("other-share")
    relay.offer([])
    relay.offer(relay.waiting, jobs=[["x", None], 7])
    ends("garbled")
    relay.offer(relay.waiting, tasks=2**40)
    ends("refused")
    assert "relay_refused" in yard.log()
    relay.offer(relay.waiting)
    yard.execute("UPDATE scheduler_leader SET epoch = epoch + 1")
    ends("old-leader")
    relay.offer(relay.waiting)
    yard.execute("UPDATE nodes SET drain = true")
    relay.let("b")
    yard.ended(relay.second)
    assert relay.states() == ["PENDING"]
    assert yard.query("SELECT 1 FROM scheduler_inbox WHERE kind = 'relayed'") == []
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()


@pytest.mark.faults
def test_a_failed_launch_or_a_requeue_hands_nothing_over(yard: NodeYard) -> None:
    """有人要它重新排队的：份额照还，不交给后继——它自己排在前面。"""
    relay = Relay(yard, 1)
    relay.offer(relay.waiting)
    yard.request_end(relay.first, "PENDING")
    wait_until(lambda: yard.job(relay.first)["state"] == "PENDING", "重新排队")
    assert relay.states() == ["PENDING"]
    assert [row["job_id"] for row in held(yard)] == [relay.second]


def test_tasks_of_an_array_take_over_and_the_row_keeps_the_rest(yard: NodeYard) -> None:
    relay = Relay(yard, 0)
    script = relay.script("$SLURM_ARRAY_TASK_ID").replace("$SLURM_JOB_ID", "$SLURM_ARRAY_TASK_ID")
    array = yard.submit(script, array_base=1, array_step=2)
    yard.execute("UPDATE jobs SET array_job_id = job_id, array_remaining = '{[0,4)}' WHERE job_id = :id", id=array)
    revision = yard.job(array)["revision"]
    relay.offer([array], jobs=[[array, 0, revision], [array, 1, revision]])
    relay.let("a", "b")
    assert (yard.written("ran-1"), yard.written("ran-3")) == ("1\n", "3\n")
    row = yard.query("SELECT state, array_remaining::text AS left FROM jobs WHERE job_id = :id", id=array)[0]
    assert row == {"state": "PENDING", "left": "{[2,4)}"}
    tasks = yard.query(
        "SELECT array_task_id, state FROM jobs WHERE array_job_id = :id AND job_id <> :id ORDER BY array_task_id",
        id=array,
    )
    assert tasks == [{"array_task_id": 1, "state": "RUNNING"}, {"array_task_id": 3, "state": "RUNNING"}]
    relay.let("1", "3")
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()


# ---- 断在哪里 ----


def in_prolog(yard: NodeYard) -> tuple[Relay, dict[str, str]]:
    """后继的启动已经提交、认领了，进程还没有：停在 prolog 里。"""
    prolog = yard.work / "prolog"
    prolog.write_text(
        f"#!/bin/bash\n[ -e {yard.work}/slow ] || exit 0\necho $$ > {yard.work}/prolog.pid\nexec sleep 300\n"
    )
    prolog.chmod(0o755)
    extra = {"SCNS_TASK_PROLOG": str(prolog)}
    relay = Relay(yard, 1, **extra)
    relay.offer(relay.waiting)
    (yard.work / "slow").touch()
    relay.let("a")
    wait_until((yard.work / "prolog.pid").exists, "prolog 在跑")
    assert relay.states() == ["RUNNING"]
    return relay, extra


@pytest.mark.faults
def test_an_agent_killed_between_the_commit_and_the_launch_starts_nothing_twice(yard: NodeYard) -> None:
    relay, extra = in_prolog(yard)
    yard.kill_agent()
    # 代理被杀，它的 prolog 没有人管了。
    os.kill(int((yard.work / "prolog.pid").read_text()), signal.SIGKILL)
    (yard.work / "slow").unlink()
    yard.start_agent(SCNS_NODE_CPUS="2", SCNS_NODE_MEMORY="4G", **extra)
    # 与平常启动到一半一样：没有找到它的进程，是节点故障，重新排队；没有跑过。
    wait_until(lambda: relay.states() == ["PENDING"], "重新排队")
    assert yard.job(relay.waiting[0])["restart_count"] == 1
    assert not (yard.output / "ran-w0").exists()
    yard.start(relay.waiting[0], memory=16)
    relay.let("b", "w0")
    assert yard.ended(relay.waiting[0])["state"] == "COMPLETED"
    yard.ended(relay.second)
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()


@pytest.mark.faults
def test_a_stopping_agent_gives_back_what_it_took_over_and_did_not_start(yard: NodeYard) -> None:
    relay, extra = in_prolog(yard)
    yard.kill_agent(number=signal.SIGTERM)
    assert relay.states() == ["PENDING"]
    assert yard.causes(relay.waiting[0]) == ["start", "give_back"]
    (yard.work / "slow").unlink()
    yard.start_agent(SCNS_NODE_CPUS="2", SCNS_NODE_MEMORY="4G", **extra)
    relay.let("b")
    yard.ended(relay.second)
    wait_until(lambda: held(yard) == [], "全部释放")
    assert not (yard.output / "ran-w0").exists()
    relay.settled()


@pytest.mark.faults
def test_ends_that_pile_up_while_the_agent_is_dead_are_not_handed_over(yard: NodeYard) -> None:
    """代理死了，单子也没有了：积下的结束照平常写。"""
    relay = Relay(yard, 1)
    relay.offer(relay.waiting)
    yard.kill_agent()
    relay.let("a", "b")
    yard.start_agent(SCNS_NODE_CPUS="2", SCNS_NODE_MEMORY="4G")
    yard.ended(relay.first)
    yard.ended(relay.second)
    wait_until(lambda: held(yard) == [], "全部释放")
    assert relay.states() == ["PENDING"]
    relay.settled()


@pytest.mark.faults
def test_a_shepherd_killed_under_a_successor_is_replaced_and_the_successor_lives(yard: NodeYard) -> None:
    relay = Relay(yard, 1)
    relay.offer(relay.waiting)
    relay.let("a")
    yard.written("ran-w0")
    pid = yard.shepherd_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "牧守进程死了")
    relay.let("b", "w0")
    assert yard.ended(relay.waiting[0])["state"] in ("COMPLETED", "PENDING", "NODE_FAIL")
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()


@pytest.mark.faults
def test_a_commit_whose_answer_was_lost_leaks_nothing(yard: NodeYard) -> None:
    """提交成了、回答没有回来（会话被断）：也许接力了也许没有，都不漏、不重。"""
    relay = Relay(yard, 1)
    relay.offer(relay.waiting)
    # 结束的语句卡在节点 n1 的一行 jobs 上，卡着时断开它的会话。
    with yard.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM jobs WHERE job_id = {relay.first} FOR UPDATE")
        relay.let("a")
        blocked = (
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%agent@n1' AND wait_event_type = 'Lock' "
            "AND query LIKE '%WITH RECURSIVE%'"
        )
        pid = wait_until(lambda: yard.query(blocked), "接力的语句在等")[0]["pid"]
        yard.execute("SELECT pg_terminate_backend(:pid)", pid=pid)
        wait_until(lambda: not yard.query("SELECT 1 FROM pg_stat_activity WHERE pid = :pid", pid=pid), "断了")
    # 重试照平常的办法写结束：单子已经作废。
    assert yard.ended(relay.first)["state"] == "COMPLETED"
    assert relay.states() == ["PENDING"]
    relay.let("b")
    yard.ended(relay.second)
    wait_until(lambda: held(yard) == [], "全部释放")
    relay.settled()
