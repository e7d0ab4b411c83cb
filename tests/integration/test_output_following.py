"""边跑边看的输出：同名的旧文件里的不算，文件从头写过的从头再给。"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until as wait_for

from running_system import RunningSystem, stopped, wait_until
from scns_conductor.client import Client
from scns_conductor.core.settings import Settings


class Tail(threading.Thread):
    """在旁边跟着一个作业的输出；data 是收到的。"""

    def __init__(self, system: RunningSystem, job_id: str) -> None:
        super().__init__()
        self.data = b""
        self._system, self._job_id = system, job_id
        self.start()

    def run(self) -> None:
        with Client(self._system.url, self._system.token) as client:
            for part in client.tail(self._job_id):
                self.data += part

    def whole(self) -> bytes:
        self.join(60)
        assert not self.is_alive()
        return self.data


def test_what_an_older_job_left_is_not_this_ones_output(running_system: RunningSystem, tmp_path: Path) -> None:
    """同一个文件名再跑一遍：启动之前文件里是上一遍的，那不是它的输出。"""
    (tmp_path / "log").write_text("上一遍的，比这一遍的长得多\n")
    with stopped(running_system.services("worker.agent.process")):
        job_id = running_system.submit("echo 这一遍的", standard_output=f"{tmp_path}/log")
        running_system.wait_state(job_id, "RUNNING")
        with Client(running_system.url, running_system.token) as client:
            assert client.output(job_id) == b""
            following = client.follow(job_id)
            assert next(following).name == "state"
        tail = Tail(running_system, job_id)
    assert tail.whole().decode() == "这一遍的\n"


def test_an_appending_job_shows_what_was_there(running_system: RunningSystem, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("从前的\n")
    job_id = running_system.submit("echo 新的", standard_output=f"{tmp_path}/log", open_mode="append")
    assert Tail(running_system, job_id).whole().decode() == "从前的\n新的\n"


def test_a_file_written_anew_is_given_anew(running_system: RunningSystem, tmp_path: Path) -> None:
    """脚本自己清空了输出文件：之后写的，比从前短也看得到。"""
    log = tmp_path / "log"
    script = (
        f"echo 很长很长很长的一行; until [ -e {tmp_path}/go ]; do sleep 0.1; done\n"
        f": > {log}; until [ -e {tmp_path}/on ]; do sleep 0.1; done; echo 短\n"
    )
    job_id = running_system.submit(script, standard_output=str(log))
    tail = Tail(running_system, job_id)
    wait_until(lambda: tail.data.decode() == "很长很长很长的一行\n", what="第一行")
    (tmp_path / "go").touch()
    wait_until(lambda: log.stat().st_size == 0, what="清空了")
    (tmp_path / "on").touch()
    assert tail.whole().decode() == "很长很长很长的一行\n短\n"


def test_a_requeued_job_that_truncates_is_given_anew(running_system: RunningSystem, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "n=${SLURM_RESTART_COUNT:-0}; echo 第 $n 遍; [ $n = 1 ] || sleep 300\n"
    job_id = running_system.submit(script, standard_output=str(log), open_mode="truncate", requeue=True)
    tail = Tail(running_system, job_id)
    wait_until(lambda: tail.data, what="第一遍的")
    first = tail.data.decode()
    status, answer = running_system.call("POST", f"/jobs/{job_id}/requeue")
    assert status < 300, answer
    assert tail.whole().decode() == f"{first}第 1 遍\n"


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def test_a_node_does_not_read_what_an_older_job_left(yard: NodeYard, tmp_path: Path) -> None:
    """多用户的由节点来读：认领了，牧守进程还没有打开文件。"""
    # 定期的上报会等牧守进程答话：它停着的时候不让它们来。
    yard.start_agent(SCNS_RECONCILE_INTERVAL_S="3600", SCNS_HEARTBEAT_INTERVAL_S="3600")
    log = tmp_path / "log"
    log.write_text("从前的\n")
    os.utime(log, (1, 1))

    def answer(request_id: str) -> dict[str, object]:
        yard.send("read_log", request_id=request_id, job_id=job_id, stream="stdout", offset=0, length=100)
        (row,) = wait_for(
            lambda: yard.query(f"SELECT answer FROM request_answers WHERE request_id = '{request_id}'"), "回答"
        )
        return dict(row["answer"])

    with stopped([yard.shepherd_pid()]):
        job_id = yard.run("echo 新的\nexec sleep 60\n", standard_output=str(log))
        wait_for(lambda: yard.query("SELECT FROM resource_allocations WHERE claimed_at IS NOT NULL"), "认领了")
        assert answer("before")["code"] == "not_yet"
    wait_for(lambda: log.read_text() == "新的\n", "启动了")
    assert answer("after")["total"] == len("新的\n".encode())
    yard.request_end(job_id, "CANCELLED")
    yard.ended(job_id)
