"""接力的链：牧守进程按次序一个接一个地启动，任何时候至多一个；轮不到的交还，绝不启动两遍。"""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from shepherd_yard import Yard, alive, wait_until

from scns_conductor.worker.agent.shepherd_client import ShepherdGone
from scns_conductor.worker.wire.shepherd_messages import RunningStep

LONG_S = 600.0


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    spool, work = tmp_path / "spool", tmp_path / "work"
    work.mkdir()
    running = Yard(spool, work, "auto")
    yield running
    try:
        running.client.hello()
    except ShepherdGone:
        running.connect()
    running.stop()


def held_script(name: str) -> str:
    return f"echo {name} >> order\nuntil [ -e go-{name} ]; do sleep 0.1; done\n"


def launch(yard: Yard, jobs: dict[int, str], chain: int, wait_s: float = LONG_S) -> None:
    specs = [yard.spec(job_id, script, chain=chain, chain_wait_s=wait_s) for job_id, script in jobs.items()]
    assert [answer.state for answer in yard.client.launch(specs)] == ["running"] * len(specs)


def order(yard: Yard) -> list[str]:
    path = yard.work / "order"
    return path.read_text().split() if path.exists() else []


def running(yard: Yard) -> dict[str, RunningStep]:
    return {step.key: step for step in yard.client.state().running}


def test_a_chain_runs_one_at_a_time_in_order_and_chains_do_not_wait_for_one_another(yard: Yard) -> None:
    launch(yard, {1: held_script("a"), 2: held_script("b")}, 7)
    launch(yard, {3: held_script("c")}, 7)
    launch(yard, {4: held_script("d")}, 8)
    wait_until(lambda: sorted(order(yard)) == ["a", "d"], "两条链各一个在跑")
    # 没有轮到的也算在手里（不是丢了），没有进程。
    assert {key: step.pid is not None for key, step in running(yard).items()} == {
        "1.0.batch": True,
        "2.0.batch": False,
        "3.0.batch": False,
        "4.0.batch": True,
    }
    for name in "abcd":
        (yard.work / f"go-{name}").touch()
    ends = [yard.end(job_id) for job_id in (1, 2, 3)]
    assert [(end.exit_status, end.queued) for end in ends] == [(0, True)] * 3
    assert [name for name in order(yard) if name != "d"] == ["a", "b", "c"]
    # 后一个真的开始不早于前一个结束。
    for first, then in itertools.pairwise(ends):
        assert then.started_boot_s is not None
        assert first.ended_boot_s is not None
        assert then.started_boot_s >= first.ended_boot_s
    # 链空了之后还接得上。
    launch(yard, {5: "exit 3"}, 7)
    assert yard.end(5).exit_status == 3


def test_what_waits_is_cancelled_changed_and_suspended_like_what_runs(yard: Yard) -> None:
    launch(yard, {1: held_script("a"), 2: held_script("b"), 3: held_script("c"), 4: "sleep 600"}, 7)
    yard.client.kill([(2, 0)], cause="cancel", message="不要了", grace_s=None)
    cancelled = yard.end(2)
    assert (cancelled.cause, cancelled.message, cancelled.exit_status, cancelled.pid) == (
        "cancel",
        "不要了",
        None,
        None,
    )
    yard.client.suspend([(3, 0)])
    yard.client.set_time_limit([(4, 0)], 0.3)
    assert running(yard)["3.0.batch"].suspended
    (yard.work / "go-a").touch()
    (yard.work / "go-c").touch()
    assert yard.end(1).exit_status == 0
    # 轮到就挂起：恢复了才做得完。
    pid = wait_until(lambda: running(yard)["3.0.batch"].pid, "轮到它了")
    assert running(yard)["3.0.batch"].suspended
    assert alive(pid)
    yard.client.resume([(3, 0)])
    assert yard.end(3).exit_status == 0
    # 等着的时候改的时限算数。
    assert yard.end(4).cause == "timeout"
    assert order(yard) == ["a", "c"]


def test_what_waits_too_long_is_given_back_and_never_runs(yard: Yard) -> None:
    launch(yard, {1: held_script("a")}, 7)
    launch(yard, {2: held_script("b"), 3: held_script("c")}, 7, wait_s=0.1)
    assert [yard.end(job_id).cause for job_id in (2, 3)] == ["give_back"] * 2
    (yard.work / "go-a").touch()
    assert yard.end(1).exit_status == 0
    assert order(yard) == ["a"]


def test_a_failed_launch_passes_the_turn_on(yard: Yard) -> None:
    launch(yard, {1: held_script("a")}, 7)
    specs = [
        yard.spec(2, None, argv=["/no/such/program"], script_path=None, chain=7, chain_wait_s=LONG_S),
        yard.spec(3, "echo c >> order", chain=7, chain_wait_s=LONG_S),
    ]
    yard.client.launch(specs)
    (yard.work / "go-a").touch()
    assert yard.end(2).cause == "launch_failed"
    assert yard.end(3).exit_status == 0
    assert order(yard) == ["a", "c"]


def test_a_step_of_a_job_that_waits_is_refused(yard: Yard) -> None:
    launch(yard, {1: held_script("a"), 2: held_script("b")}, 7)
    yard.client.launch([yard.spec(2, "true", step="0", script_path=str(yard.spool / "step.sh"))])
    assert "没有轮到" in (yard.end(2, "0").message or "")
    for name in "ab":
        (yard.work / f"go-{name}").touch()
    assert yard.end(2).exit_status == 0


def test_a_killed_shepherd_gives_back_what_had_not_started_and_keeps_what_runs(yard: Yard) -> None:
    launch(yard, {1: held_script("a"), 2: held_script("b"), 3: held_script("c")}, 7)
    wait_until(lambda: order(yard) == ["a"], "第一个在跑")
    pid = yard.hello.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "牧守进程死了")
    yard.connect()
    assert [yard.end(job_id).cause for job_id in (2, 3)] == ["give_back"] * 2
    # 接管来的仍占着它的链：新来的等它。
    launch(yard, {4: "echo d >> order"}, 7)
    assert running(yard)["4.0.batch"].pid is None
    (yard.work / "go-a").touch()
    assert yard.end(4).exit_status == 0
    assert order(yard) == ["a", "d"]


def test_a_stopping_shepherd_gives_back_what_had_not_started(yard: Yard) -> None:
    launch(yard, {1: "sleep 600", 2: held_script("b")}, 7)
    yard.client.shutdown(0)
    assert yard.end(2).cause == "give_back"
    assert yard.end(1).cause == "shutdown"
    assert order(yard) == []


def test_ends_of_a_chain_arrive_in_order_whether_they_wait_for_one_another_or_not(yard: Yard) -> None:
    """有下一个接着跑的攒着一起推；没有的（链上最后一个、别处的）立即推，不越过攒着的。"""
    launch(yard, dict.fromkeys(range(1, 31), "exit 0"), 7)
    yard.launch(31, "exit 0")
    launch(yard, {32: held_script("a"), 33: held_script("b")}, 8)
    (yard.work / "go-a").touch()
    # 接着它的还在跑，攒着的也等不了多久。
    assert yard.end(32).exit_status == 0
    assert "33.0.batch" in running(yard)
    yard.end(30)
    arrived = [int(key.partition(".")[0]) for key in yard.ends]
    assert [number for number in arrived if number <= 30] == list(range(1, 31))
    (yard.work / "go-b").touch()
    assert yard.end(33).exit_status == 0
