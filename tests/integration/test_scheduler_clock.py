"""调度器所在的主机的钟差两个小时（libfaketime）：时刻都照数据库的钟，什么也不早、不晚、不误杀。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until
from test_scheduler import scheduler, submitted

from scns_conductor.core.settings import Settings
from scns_conductor.worker.scheduler.database_clock import DatabaseClock

pytestmark = pytest.mark.faults

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.mark.skipif(not LIBRARIES, reason="没有 faketime（apt-get install faketime）")
@pytest.mark.parametrize("skew", ["+2h", "-2h"])
def test_a_scheduler_with_a_wrong_clock_keeps_the_databases_time(yard: NodeYard, skew: str) -> None:
    yard.start_agent()
    faked = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with scheduler(yard, **faked):
        yard.execute("SELECT 1")
        later = yard.submit("#!/bin/sh\n", hold="user")
        yard.execute("UPDATE jobs SET hold = NULL, begin_time = clock_timestamp() + interval '3 seconds'")
        limited = yard.submit("#!/bin/sh\n", hold="user", time_limit=60)
        yard.execute(
            "UPDATE jobs SET hold = NULL, deadline = clock_timestamp() + interval '1 hour' WHERE job_id = :id",
            id=limited,
        )
        yard.execute(
            "INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', CAST(:ids AS bigint[]))", ids=[later, limited]
        )
        yard.execute("NOTIFY scns_inbox")
        for job_id in (later, limited):
            wait_until(lambda job_id=job_id: yard.job(job_id)["state"] == "COMPLETED", f"作业 {job_id} 做完", 60)
        assert yard.job(later)["start_time"] >= yard.job(later)["begin_time"]
        blocker = submitted(yard, "#!/bin/sh\nsleep 300\n", cpus_per_task=8, time_limit=600)
        wait_until(lambda: yard.job(blocker)["state"] == "RUNNING", "占满节点", 60)
        waiting = submitted(yard, "#!/bin/sh\n", cpus_per_task=8, time_limit=60)
        expected = (
            "SELECT extract(epoch FROM j.expected_start_time - b.start_time)::float8 AS s FROM jobs AS j, jobs AS b "
            "WHERE j.job_id = :waiting AND b.job_id = :blocker AND j.expected_start_time IS NOT NULL"
        )
        rows = wait_until(lambda: yard.query(expected, waiting=waiting, blocker=blocker), "说了预计开始", 60)
        assert 590 <= rows[0]["s"] <= 610


def test_the_clock_moves_only_when_it_is_proved_wrong() -> None:
    clock = DatabaseClock()
    before = clock.mark()
    clock.measure(before, 5000.0)
    first = clock.now()
    assert 5000.0 <= first < 5001.0
    # 往返用了很久：范围包含着现在的差，不动。
    clock.measure(clock.mark() - 10.0, 4995.0)
    assert first <= clock.now() < 5001.0
    # 数据库的钟被拨快了一个小时：跟着走。
    clock.measure(clock.mark(), 8600.0)
    assert 8599.9 < clock.now() < 8601.0
