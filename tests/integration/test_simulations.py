"""「假如」（GET /simulate）：另一个进程里算，给得出前后，有界，停得下，看不到别人的脚本与名字。"""

import asyncio
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running_system import RunningSystem, as_user, wait_until
from scns_conductor.client import Client
from scns_conductor.client.problem import Problem
from scns_conductor.core.errors import Conflict, ServiceUnavailable
from scns_conductor.services.simulations import MODULE, Asker, Question, Simulations

SECRET = "机密的名字"


@pytest.fixture(scope="module")
def history(running_system: RunningSystem) -> RunningSystem:
    """几个结束了的作业。"""
    jobs = [
        running_system.submit("#!/bin/bash\n: 机密的脚本\nsleep 1\n", name=SECRET, time_limit="5") for _ in range(6)
    ]
    for job_id in jobs:
        running_system.wait_state(job_id)
    return running_system


def run(system: RunningSystem, **asked: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """（progress 们，result）。"""
    with Client(system.url, system.token) as client:
        events = list(client.simulate(since="now-1day", **asked))
    assert events[0].name == "accepted"
    assert events[-1].name == "result"
    return [event.json() for event in events[1:-1]], events[-1].json()


def children() -> list[int]:
    """正在算的进程。"""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if MODULE.encode() in words:
                found.append(int(folder.name))
    return found


def test_before_and_after(history: RunningSystem) -> None:
    progress, result = run(history, policy="live,fifo", add_nodes="2:16:mem:64G", cap_time_limit="10m", user_jobs=1)
    assert {each["stage"] for each in progress} >= {"reading"}
    runs = {(each["when"], each["policy"]): each for each in result["runs"]}
    assert list(runs) == [("actual", "actual"), ("before", "live"), ("after", "live"), ("after", "fifo")]
    before, after = runs["before", "live"], runs["after", "live"]
    assert after["machine"]["nodes"] == before["machine"]["nodes"] + 2
    assert after["machine"]["cpus"] == before["machine"]["cpus"] + 32
    assert before["metrics"]["jobs"] >= 6
    # 每人同时一个：同时提交的六个一秒的作业，平均要多等。
    assert after["metrics"]["avg_wait_s"] > before["metrics"]["avg_wait_s"]
    lengths = {len(values) for each in runs.values() for values in each["curves"].values()}
    assert len(lengths) == 1
    assert max(after["curves"]["queue"]) > 0
    assert result["since"] < result["until"]


def test_nothing_changed_is_replayed_once(history: RunningSystem) -> None:
    assert [each["when"] for each in run(history)[1]["runs"]] == ["actual", "before"]


def test_others_secrets_do_not_leak(history: RunningSystem) -> None:
    _, result = run(as_user(history, "ada"), policy="easy")
    said = json.dumps(result, ensure_ascii=False)
    assert SECRET not in said
    assert "机密的脚本" not in said


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"policy": "best"}, "policy"),
        ({"policy": "live,easy,fifo,sjf,f1"}, "policy"),
        ({"add_nodes": "many"}, "add_nodes"),
        ({"remove_nodes": "node[1"}, "remove_nodes"),
        ({"cap_time_limit": "soon"}, "cap_time_limit"),
        ({"user_jobs": 0}, "user_jobs"),
        ({"since": "yesterdaynoon"}, "since"),
    ],
)
def test_wrong_words_are_told_at_the_field(history: RunningSystem, asked: dict[str, Any], field: str) -> None:
    with Client(history.url, history.token) as client, pytest.raises(Problem) as refused:
        list(client.simulate(**{"since": "now-1day", **asked}))
    assert refused.value.status == 422
    assert refused.value.errors[0]["field"].endswith(field)


def test_failures_after_the_start_are_told(history: RunningSystem) -> None:
    with Client(history.url, history.token) as client:
        with pytest.raises(Problem) as refused:
            list(client.simulate(remove_nodes="no-such-node"))
        assert (refused.value.code, refused.value.errors[0]["field"]) == ("invalid_field", "remove_nodes")
        with pytest.raises(Problem) as refused:
            list(client.simulate(since="now"))
        assert refused.value.code == "no_history"


@pytest.fixture
def open_run(history: RunningSystem) -> Iterator[Any]:
    """一个正在算的：大约已经开始，连接还开着。"""
    request = urllib.request.Request(
        f"{history.url}/simulate?since=now-1day&policy=live,easy,fifo,conservative&scale_load=2",
        headers={"Authorization": f"Bearer {history.token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.readline() == b"event: accepted\n"
        yield answer


def test_a_wrong_word_stops_nothing(history: RunningSystem, open_run: Any) -> None:
    """写错的当场就答：不起进程，也不停下自己正在算的那一个。"""
    with Client(history.url, history.token) as client, pytest.raises(Problem) as refused:
        list(client.simulate(policy="best"))
    assert refused.value.status == 422
    assert [line for line in open_run if line.startswith(b"event: ")][-1] == b"event: result\n"


def test_stopped_with_the_connection(history: RunningSystem, open_run: Any) -> None:
    open_run.close()
    wait_until(lambda: not children(), what="连接断了，计算的进程也没有了")
    run(history)


def asker(system: RunningSystem, name: str = "ada") -> Asker:
    return Asker(name, system.url, system.token, "zh")


QUESTION = Question("2020-01-01T00:00:00+00:00", "live", [], None, None, None, None, None)


async def collect(desk: Simulations, who: Asker) -> list[tuple[str, dict[str, Any]]]:
    return [event async for event in desk.run(who, QUESTION)]


def test_bounded_in_time_and_number(history: RunningSystem) -> None:
    async def check() -> None:
        desk = Simulations(1, time_limit_s=0.01)
        assert (await collect(desk, asker(history)))[-1][1]["code"] == "simulation_timeout"
        desk = Simulations(1)
        first = desk.run(asker(history), QUESTION)
        assert (await anext(first))[0] == "accepted"
        with pytest.raises(ServiceUnavailable):
            await collect(desk, asker(history, "bob"))
        # 同一个人又问一个：先前的停下。
        second = desk.run(asker(history), QUESTION)
        assert (await anext(second))[0] == "accepted"
        told = [event async for event in first]
        assert told[-1][1].get("code", "") == "simulation_replaced"
        await second.aclose()
        assert (await collect(desk, asker(history, "bob")))[-1][0] == "result"
        with pytest.raises(Conflict, match="simulations_at_once"):
            await collect(Simulations(0), asker(history))

    asyncio.run(check())
    wait_until(lambda: not children())


def test_the_api_answers_meanwhile(history: RunningSystem, open_run: Any) -> None:
    assert history.call("GET", "/dashboard")[0] == 200
    reader = threading.Thread(target=open_run.read)
    reader.start()
    reader.join(60)
    assert not reader.is_alive()
