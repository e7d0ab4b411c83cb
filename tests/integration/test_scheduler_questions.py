"""问调度器的问题与转给节点的请求：问得再多、再慢，作业照样启动；一批请求只问一次数据库。"""

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from node_yard import NodeYard
from shepherd_yard import wait_until
from test_scheduler import scheduler, submitted

from scns_conductor.core.async_database import async_engine
from scns_conductor.core.errors import TooManyRequests
from scns_conductor.core.settings import Settings
from scns_conductor.services.answers import MOST_OPEN, AnswerDesk
from scns_conductor.worker.bus import Message
from scns_conductor.worker.scheduler.forwarding import add_message, messages_for


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def ask(yard: NodeYard, request_id: str, kind: str, user: str, **payload: Any) -> None:
    """与 API 写的一样；不通知，由下一次 tell 一并。"""
    yard.execute(
        "INSERT INTO scheduler_inbox (kind, payload) VALUES (:kind, CAST(:payload AS jsonb))",
        kind=kind,
        payload=json.dumps({"request_id": request_id, "user_name": user, **payload}),
    )


def tell(yard: NodeYard) -> None:
    yard.execute("NOTIFY scns_inbox")


def answers(yard: NodeYard) -> dict[str, Any]:
    return {row["request_id"]: row["answer"] for row in yard.query("SELECT * FROM request_answers")}


def completes(yard: NodeYard, job_id: int) -> None:
    wait_until(lambda: yard.job(job_id)["state"] == "COMPLETED", f"作业 {job_id} 做完", 60)


@pytest.mark.faults
def test_jobs_start_while_a_question_is_stuck_and_the_leader_can_die(yard: NodeYard) -> None:
    """回答卡住（它要写的表被锁着）：循环照转；领导者这时被杀，它的锁随之放开，候补立即当选。"""
    yard.start_agent()
    waiting = submitted(yard, "#!/bin/sh\n", cpus_per_task=8, hold="user")
    with scheduler(yard) as first:
        completes(yard, submitted(yard, "#!/bin/sh\n"))
        with scheduler(yard):
            url = re.sub(r"^postgresql\+?\w*:", "postgresql:", yard.urls["SCNS_DATABASE_URL"])
            with psycopg.connect(url) as session:
                session.execute("LOCK TABLE request_answers IN EXCLUSIVE MODE")
                ask(yard, "stuck", "explain", "alice", job_id=waiting)
                tell(yard)
                stuck = (
                    "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%scheduler-answers' "
                    "AND wait_event_type = 'Lock'"
                )
                wait_until(lambda: yard.query(stuck), "回答在等锁", 60)
                completes(yard, submitted(yard, "#!/bin/sh\n"))
                os.kill(first.pid, signal.SIGKILL)
                completes(yard, submitted(yard, "#!/bin/sh\n"))
                session.rollback()
        assert yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"] == 2


@pytest.mark.faults
def test_one_user_asking_much_does_not_keep_others_waiting(yard: NodeYard) -> None:
    """一轮里每个用户答一个：别人的一个问题在头两轮里就答了，不排在五十个后面。"""
    yard.start_agent()
    job_id = submitted(yard, "#!/bin/sh\n", hold="user")
    for number in range(50):
        ask(yard, f"greedy-{number}", "explain", "greedy", job_id=job_id)
    ask(yard, "modest", "explain", "modest", job_id=job_id)
    with scheduler(yard):
        wait_until(lambda: "modest" in answers(yard), "答了", 60)
        assert len(answers(yard)) <= 10
        assert answers(yard)["modest"]["reason"] == "JobHeldUser"
        ask(yard, "numbers", "diag", "modest")
        tell(yard)
        wait_until(lambda: "numbers" in answers(yard), "统计当场回答")


@pytest.mark.faults
def test_a_bad_question_hurts_no_other(yard: NodeYard) -> None:
    yard.start_agent()
    job_id = submitted(yard, "#!/bin/sh\n", hold="user")
    with scheduler(yard):
        ask(yard, "bad", "plan", "alice", job={"partition": "main"})
        ask(yard, "good", "explain", "bob", job_id=job_id)
        tell(yard)
        wait_until(lambda: "good" in answers(yard), "好的答了", 60)
        completes(yard, submitted(yard, "#!/bin/sh\n"))
    assert "bad" not in answers(yard)
    assert "question_failed" in (yard.work / "scheduler.log").read_text()


def test_a_user_with_many_open_questions_gets_429(settings: Settings) -> None:
    async def main() -> None:
        engine = async_engine(settings)
        desk = AnswerDesk(engine, engine)
        opened = [asyncio.create_task(desk.ask_scheduler("explain", "alice", {"job_id": 1})) for _ in range(MOST_OPEN)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refused:
            await desk.ask_scheduler("explain", "alice", {"job_id": 1})
        assert (refused.value.status, "Retry-After" in refused.value.headers) == (429, True)
        other = asyncio.create_task(desk.ask_scheduler("explain", "bob", {"job_id": 1}))
        await asyncio.sleep(0)
        assert not other.done(), "别的用户不受影响"
        for task in (*opened, other):
            task.cancel()
        await asyncio.gather(*opened, other, return_exceptions=True)
        again = asyncio.create_task(desk.ask_scheduler("explain", "alice", {"job_id": 1}))
        await asyncio.sleep(0)
        assert not again.done(), "答完、放弃的不再算"
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        await desk.close()
        await engine.dispose()

    asyncio.run(main())


def test_a_mass_cancel_is_one_look_and_one_message_a_node(yard: NodeYard) -> None:
    """两万个请求各一行：找节点只有一条语句，每个节点一条消息，里面只有它上面的作业。"""
    yard.execute(
        "INSERT INTO jobs (name, user_name, partition, current_working_directory, script, state) "
        "SELECT 'j', 'u', 'main', '/', 'x', 'RUNNING' FROM generate_series(1, 20000)"
    )
    yard.execute(
        "INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks) "
        "SELECT job_id, 0, 'n' || job_id % 4, 0, 1, 0, 1 FROM jobs"
    )
    yard.execute("UPDATE resource_allocations SET released_at = clock_timestamp() WHERE job_id % 1000 = 0")
    jobs = [row["job_id"] for row in yard.query("SELECT job_id FROM jobs ORDER BY job_id")]
    requests = [{"kind": "cancel", "job_ids": [job_id], "node_names": [], "payload": {}} for job_id in jobs]
    statements: list[str] = []
    with yard.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
        messages = messages_for(connection, requests)
    assert len(statements) == 1
    assert {node: [message.function for message in some] for node, some in messages.items()} == {
        f"n{number}": ["cancel"] for number in range(4)
    }
    for node, (message,) in messages.items():
        held = [job_id for job_id in jobs if job_id % 4 == int(node[1:]) and job_id % 1000]
        assert message.payload["job_ids"] == held


@pytest.mark.faults
def test_many_cancels_of_one_job_reach_the_node(yard: NodeYard) -> None:
    yard.start_agent()
    with scheduler(yard):
        jobs = [submitted(yard, "#!/bin/sh\nsleep 300\n") for _ in range(4)]
        wait_until(lambda: len(yard.query("SELECT 1 FROM jobs WHERE process_id IS NOT NULL")) == 4, "都在跑")
        yard.execute("UPDATE jobs SET requested_end_state = 'CANCELLED', requested_end_actor = 'alice'")
        yard.execute(
            "INSERT INTO scheduler_inbox (kind, job_ids) SELECT 'cancel', ARRAY[job_id] "
            "FROM unnest(CAST(:jobs AS bigint[])) AS job_id, generate_series(1, 250)",
            jobs=jobs,
        )
        tell(yard)
        wait_until(lambda: {yard.job(job_id)["state"] for job_id in jobs} == {"CANCELLED"}, "都取消了")
        wait_until(lambda: not yard.query("SELECT 1 FROM scheduler_inbox"), "都取走了")


def test_only_equal_neighbours_become_one_message() -> None:
    messages: list[Message] = []
    for function, job_ids, payload in [
        ("cancel", [1], {}),
        ("cancel", [2, 3], {}),
        ("signal", [4], {"signal": 10}),
        ("signal", [5], {"signal": 12}),
        ("signal", [6], {"signal": 12}),
        ("cancel", [7], {}),
        ("read_log", [8, 8], {"request_id": "a"}),
    ]:
        add_message(messages, function, job_ids, payload)
    assert [(message.function, message.payload) for message in messages] == [
        ("cancel", {"job_ids": [1, 2, 3]}),
        ("signal", {"job_ids": [4], "signal": 10}),
        ("signal", {"job_ids": [5, 6], "signal": 12}),
        ("cancel", {"job_ids": [7]}),
        ("read_log", {"job_ids": [8], "request_id": "a"}),
    ]
