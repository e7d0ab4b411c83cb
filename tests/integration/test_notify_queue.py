"""通知的队列真的满了（别的库里一个停在事务里的 LISTEN）：提交照收，作业照跑，提问照答；健康检查与指标说得出。"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from outage import Outage

from debian_postgres import deployed_system
from running_system import RunningSystem, wait_until

pytestmark = pytest.mark.faults

pytest_plugins = ["outage_fixtures"]

# 服务器许用的最小的队列（页）；缺省是 1048576 页（8 GiB）。
PAGES = 64


@pytest.fixture
def system(outage: Outage, tmp_path: Path) -> Iterator[RunningSystem]:
    """队列很小的服务器上的一套。"""
    postgres = outage.engines.postgres
    outage.kill_postgres()
    (postgres.data / "local.conf").write_text(f"max_notify_queue_pages = {PAGES}\n")
    (postgres.data / "local.conf").chmod(0o644)
    outage.revive_postgres()
    with deployed_system(tmp_path / "system", outage.engines.database_url, outage.engines.redis_url) as started:
        yield started


def usage(connection: "psycopg.Connection[tuple[object, ...]]") -> float:
    row = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
    assert row is not None
    return float(str(row[0]))


def fill(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    for number in range(10_000):
        connection.execute("SELECT pg_notify('anything', %s)", [f"{number}{'x' * 7000}"])


def test_a_full_queue_stops_nothing(outage: Outage, system: RunningSystem) -> None:
    other = outage.engines.database_url.replace("@/scns?", "@/postgres?")
    with psycopg.connect(other, autocommit=True) as sender, psycopg.connect(other) as idler:
        idler.execute("LISTEN anything")
        idler.commit()
        # 停在事务里：队列的尾巴从此不动。
        idler.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            fill(sender)
        assert usage(sender) > 0.9
        # 领导者等的是租期的三分之一：等它发现没有通知可听。
        log = system.data_dir / "scheduler.log"
        wait_until(lambda: "notify_queue_crowded" in log.read_text(), 60, "调度器发现队列满了")
        for _ in range(3):
            assert system.wait_state(system.submit("true"))["state"] == "COMPLETED"
        job = system.submit("sleep 1000")
        system.wait_state(job, "RUNNING")
        assert system.call("POST", f"/jobs/cancel/{job}")[0] == 200
        assert system.wait_state(job)["state"] == "CANCELLED"
        assert system.call("GET", "/diag")[0] == 200
        status, health = system.call("GET", "/health/ready")
        assert (status, health["checks"]["notify_queue"]["status"]) == (200, "crowded"), health
        assert "pg_stat_activity" in health["checks"]["notify_queue"]["remedy"]
        metrics = system.call("GET", "/metrics")[1]
        found = re.search(r"^scns_notify_queue_usage ([\d.]+)$", metrics, re.MULTILINE)
        assert found is not None
        assert float(found[1]) > 0.9
        # 人走了，队列空了，一切照旧。
        idler.rollback()
        wait_until(lambda: usage(sender) < 0.5, 60, "队列空了")
    assert system.call("GET", "/health/ready")[1]["checks"]["notify_queue"]["status"] == "ok"
    assert system.wait_state(system.submit("true"))["state"] == "COMPLETED"
