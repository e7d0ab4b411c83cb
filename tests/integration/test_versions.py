"""上一版与这一版说得通：牧守进程、代理的客户端、总线，各在新旧两边。旧的一边是真的旧代码。"""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from old_version import run_old, start_old_shepherd
from shepherd_yard import Yard, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import queue_name
from scns_conductor.worker.agent.shepherd_client import ShepherdClient, ShepherdError
from scns_conductor.worker.agent.shepherd_set import shepherd_homes
from scns_conductor.worker.bus import Consumer, Message, Publisher
from scns_conductor.worker.wire.bus_messages import LaunchJobs, SignalJobs
from scns_conductor.worker.wire.frames import FrameBuffer, encode
from scns_conductor.worker.wire.launch_spec import LaunchSpec
from scns_conductor.worker.wire.record import PROTOCOL_VERSION

pytestmark = pytest.mark.faults


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    work = tmp_path / "work"
    work.mkdir()
    return tmp_path / "spool", work


@pytest.fixture
def old_yard(folders: tuple[Path, Path]) -> Iterator[Yard]:
    process = start_old_shepherd(folders[0], "yard", "off")
    yard = Yard(*folders, "off")
    yield yard
    yard.stop()
    process.wait(timeout=30)


def test_the_new_client_works_with_the_old_shepherd(old_yard: Yard) -> None:
    yard = old_yard
    assert (yard.client.version, yard.hello.release) == (1, None)
    answer = yard.launch(1, "trap 'exit 9' USR1; echo 你好; touch ready; while :; do sleep 0.1; done\n", launch_id=5)
    assert (answer.state, answer.started_unix_s is not None) == ("running", True)
    wait_until((yard.work / "ready").exists, "脚本开始")
    (running,) = yard.client.hello(attach=False).running
    assert (running.key, running.pid, running.suspended) == ("1.0.batch.5", answer.pid, False)
    (sample,) = yard.client.stats().jobs
    assert (sample.job_id, sample.processes > 0) == (1, True)
    assert yard.client.read_log(str(yard.work / "1.out"), 0, 100) == ("你好\n".encode(), 7)
    yard.client.set_time_limit([(1, 0, 5)], 600.0)
    assert yard.client.suspend([(1, None)]) == [(1, 0)]
    assert yard.client.resume([(1, None)]) == [(1, 0)]
    assert yard.client.signal([(1, 0, 5)], signal.SIGUSR1, "batch") == 1
    end = wait_until(lambda: yard.ends.get("1.0.batch.5"), "结束")
    assert (end.exit_status, end.cause, end.launch_id, end.hold) == (9, "exit", 5, False)
    assert end.started_unix_s <= end.ended_unix_s
    assert end.ended_boot_s >= end.started_boot_s > 0
    assert end.usage.max_rss_kb > 0
    yard.client.ack([end])
    assert yard.client.hello(attach=False).unacknowledged == []
    yard.launch(2, "sleep 60\n")
    assert yard.client.kill([(2, 0)], cause="cancel", message="有人要求", grace_s=0) == [(2, 0)]
    assert (yard.end(2).cause, yard.end(2).message) == ("cancel", "有人要求")


OLD_CLIENT = """
import json, threading
from pathlib import Path
from scns_conductor.worker.agent.shepherd_client import ShepherdClient
from scns_conductor.worker.wire.launch_spec import LaunchSpec
spool, work = Path(sys.argv[1]), sys.argv[2]
ends, done = [], threading.Event()
def collect(batch):
    ends.extend(batch)
    if len(ends) == 2:
        done.set()
client = ShepherdClient.connect(spool, "yard", on_ends=collect, start=False)
hello = client.hello()
def launch(number, script, **options):
    path = f"{spool}/job_{number}.sh"
    return client.launch([LaunchSpec(
        job_id=number, attempt=0, launch_id=7, step="batch", argv=["/bin/bash", path], env={"PATH": "/usr/bin:/bin"},
        cwd=work, stdout=f"{work}/{number}.out", script=script, script_path=path, **options)])[0]
answer = launch(1, "echo old; exit 3")
launch(2, "sleep 60", time_limit_s=600)
running = client.hello(attach=False)["running"]
jobs, steps = client.stats()
found = client.kill([(2, 0, 7)], cause="cancel", message="x", grace_s=0)
done.wait(60)
text, total = client.read_log(f"{work}/1.out", 0, 100)
client.ack([end["id"] for end in ends])
left = client.hello(attach=False)["unacknowledged"]
print(json.dumps([hello, answer, running, jobs, found, ends, text.decode(), total, left]))
"""


def test_the_old_client_works_with_the_new_shepherd(folders: tuple[Path, Path]) -> None:
    """退回一版的代理：牧守进程照它那一版答，项一个不少。"""
    yard = Yard(*folders, "off")
    try:
        yard.client.close()
        told = run_old(OLD_CLIENT, str(folders[0]), str(folders[1]))
        hello, answer, running, jobs, found, ends, text, total, left = told
        assert {"pid", "started_at", "boot_id", "capabilities", "launch_ids", "corrupt_lines"} <= hello.keys()
        assert {"key", "state", "pid", "at"} <= answer.keys()
        by_key = {task["key"]: task for task in running}
        assert by_key["2.0.batch.7"]["time_limit_s"] == 600
        assert {"pid", "started_at", "suspended", "cause", "foreign"} <= by_key["2.0.batch.7"].keys()
        assert {job["job_id"] for job in jobs} <= {1, 2}
        assert found == [[2, 0]]
        first, second = sorted(ends, key=lambda end: int(end["job_id"]))
        assert (first["exit_status"], first["cause"], first["launch_id"]) == (3, "exit", 7)
        names = {"started_at", "started_boot", "ended_at", "ended_boot", "usage", "message", "uid", "stdout", "boot_id"}
        assert names <= first.keys()
        assert (second["cause"], second["message"]) == ("cancel", "x")
        assert (text, total, left) == ("old\n", 4, [])
    finally:
        yard.connect()
        yard.stop()


def test_the_new_shepherd_takes_over_from_the_old_one(folders: tuple[Path, Path]) -> None:
    """旧的牧守进程死了：新的读它的日志，接管它的作业，送出它没有送到的结束。"""
    process = start_old_shepherd(folders[0], "yard", "off")
    yard = Yard(*folders, "off")
    yard.launch(1, "touch ready; while [ ! -e go ]; do sleep 0.1; done; sleep 30\n", time_limit_s=300.0)
    yard.launch(2, "exit 4\n")
    ended = yard.end(2)
    wait_until((yard.work / "ready").exists, "脚本开始")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    yard.client.close()
    yard.ends.clear()
    yard.connect()
    try:
        assert yard.client.version == PROTOCOL_VERSION
        (running,) = yard.hello.running
        assert (running.key, running.time_limit_s) == ("1.0.batch", 300.0)
        assert yard.end(2) == ended
        yard.client.kill([(1, 0)], cause="cancel", grace_s=0)
        assert yard.end(1).cause == "cancel"
    finally:
        yard.stop()


def conversation(answers: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """新的客户端问候、启动、结束；对面照 answers 回答。返回它听到的。"""
    ours, theirs = socket.socketpair()
    heard: list[dict[str, Any]] = []

    def shepherd() -> None:
        frames = FrameBuffer()
        while chunk := theirs.recv(65536):
            for message in frames.feed(chunk):
                heard.append(message)
                answer = answers[message["op"]]
                theirs.sendall(encode({"id": message["id"], **answer}, answer.get("v", 1)))

    thread = threading.Thread(target=shepherd, daemon=True)
    thread.start()
    client = ShepherdClient(ours)
    try:
        client.hello()
        client.launch([LaunchSpec(job_id=1, attempt=0, launch_id=5, step="batch", argv=["/bin/true"], env={}, cwd="/")])
        client.kill([(1, 0, 5)], cause="cancel")
    finally:
        client.close()
        thread.join(timeout=10)
        theirs.close()
    return heard


HELLO: dict[str, Any] = {
    "ok": True,
    "pid": 1,
    "node": "n",
    "boot_id": "b",
    "started_at": 1.0,
    "running": [],
    "unacknowledged": [],
    "capabilities": {
        "cgroup_version": None,
        "detail": "",
        "memory": "",
        "pids": "",
        "cpus": "",
        "devices": "",
        "kill_all": "",
        "suspend": "",
        "users": "",
        "not_enforced": [],
    },
}
REST = {"launch": {"ok": True, "launched": []}, "kill": {"ok": True, "found": []}}


def test_a_still_older_shepherd_hears_no_launch_ids() -> None:
    hello, launch, kill = conversation({"hello": HELLO, **REST})
    assert (hello["v"], hello["versions"]) == (1, list(range(1, PROTOCOL_VERSION + 1)))
    assert "launch_id" not in launch["specs"][0]
    assert kill["jobs"] == [[1, 0]]


def test_a_newer_shepherd_that_knows_more_is_spoken_to_in_our_version() -> None:
    """它多懂一版、多说几项：挑两边都懂的，多出来的略过。"""
    newer = {**HELLO, "v": PROTOCOL_VERSION, "started_unix_s": 1.0, "launch_ids": True, "mood": "fine"}
    _, launch, kill = conversation({"hello": newer, **REST})
    assert (launch["v"], kill["v"]) == (PROTOCOL_VERSION, PROTOCOL_VERSION)
    assert kill["jobs"] == [[1, 0, 5]]


def test_no_common_version_is_told() -> None:
    refusal = {"ok": False, "code": "unknown_version", "error": "只懂 [7, 8]", "versions": [7, 8]}
    with pytest.raises(ShepherdError, match="只懂"):
        conversation({"hello": refusal})


def test_homes_are_found_though_one_between_is_gone(tmp_path: Path) -> None:
    """三代并存，中间一代先走：后面那代的作业不许因此丢了。"""
    for name in ("shepherd.10", "shepherd.2", "shepherd.old", "shepherd.3"):
        (tmp_path / name).mkdir()
    for name in ("shepherd.10", "shepherd.2"):
        (tmp_path / name / "shepherd.journal").touch()
    assert shepherd_homes(tmp_path) == [tmp_path / "shepherd.2", tmp_path / "shepherd.10"]
    (tmp_path / "shepherd.journal").touch()
    assert shepherd_homes(tmp_path)[0] == tmp_path


# ---- 总线 ----

OLD_CONSUMER = """
import json
from scns_conductor.worker.bus import Consumer, queue_name
heard = []
names = ("launch", "sync", "signal", "launch_step")
consumer = Consumer(sys.argv[1], queue_name("versions"), {name: heard.append for name in names})
while len(heard) < 3 and consumer.handle_next(20):
    pass
print(json.dumps(heard))
"""
OLD_PUBLISHER = """
from scns_conductor.worker.bus import Message, Publisher
publisher = Publisher(sys.argv[1])
messages = [Message("launch", {"job_ids": [1, 2]}), Message("signal", {"job_ids": [3], "signal": 10, "target": "all"})]
publisher.send({"versions": messages})
print("null")
"""


def test_the_bus_is_understood_by_both_versions(yard: NodeYard) -> None:
    url = yard.urls["SCNS_REDIS_URL"]
    publisher = Publisher(url)
    sent = [
        Message("launch", {"job_ids": [1]}),
        Message("signal", {"jobs": [[1, 0]], "signal": "KILL"}),
        Message("sync", {"job_ids": [2]}),
    ]
    publisher.send({"versions": sent})
    publisher.close()
    heard = run_old(OLD_CONSUMER, url)
    assert [{name: each[name] for name in message.payload} for each, message in zip(heard, sent, strict=True)] == [
        json.loads(json.dumps(message.payload)) for message in sent
    ]
    run_old(OLD_PUBLISHER, url)
    understood: list[Any] = []
    consumer = Consumer(url, queue_name("versions"), {"launch": understood.append, "signal": understood.append})
    while consumer.handle_next(1):
        continue
    consumer.close()
    assert understood == [
        LaunchJobs(job_ids=[1, 2]),
        SignalJobs(signal=10, target="all", job_ids=[3]),
    ]
