"""数据库的连接被别人占满：谁也连不上时说得出原因，作业照跑；放开之后没有人重启任何进程，一个也不丢。"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

import warm_commands
from debian_postgres import DebianPostgres, debian_postgres, deployed_system
from running_system import RunningSystem, server_environment, wait_until
from scns_conductor.local.engines import Engines

pytestmark = pytest.mark.faults

MOST = 20
HEALTH_CHECK = Path(__file__).parents[2] / "scripts" / "health_check.py"
OURS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = 'd' AND application_name LIKE 'scns-conductor/%'"
)


@contextmanager
def nothing_left(server: DebianPostgres) -> Iterator[None]:
    """占满全部连接，断开我们的每一条，空出来的也占上。"""
    with ExitStack() as held:
        first = held.enter_context(psycopg.connect(server.url(), autocommit=True))

        def took_one() -> bool:
            try:
                held.enter_context(psycopg.connect(server.url(), autocommit=True))
            except psycopg.OperationalError:
                return False
            return True

        def full() -> bool:
            first.execute(OURS)
            while took_one():
                pass
            row = first.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'd'").fetchone()
            return row == (0,)

        wait_until(full, 60, "占满了")
        yield


def answers(system: RunningSystem) -> set[tuple[int, str | None]]:
    """一些请求同时来：状态与错误码。"""

    def ask(_: int) -> tuple[int, str | None]:
        status, answer = system.call("GET", "/jobs")
        return status, answer.get("code")

    with ThreadPoolExecutor(8) as many:
        return set(many.map(ask, range(16)))


def test_a_server_without_a_free_connection_is_503_and_recovers(engines: Engines, scratch: Path) -> None:
    with debian_postgres(lambda _: (f"max_connections={MOST}",)) as server:
        server.execute("CREATE DATABASE d")
        settings = {"SCNS_DATABASE_POOL_SIZE": "3"}
        with deployed_system(scratch / "full", server.url("d"), engines.redis_url, settings=settings) as system:
            go = scratch / "go"
            running = system.submit(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.1; done\n")
            system.wait_state(running, "RUNNING")
            with nothing_left(server):
                assert answers(system) == {(503, "database_connections")}
                assert system.call("GET", "/health/ready")[0] == 503
                checked = warm_commands.run(
                    [HEALTH_CHECK, "--skip-api"], env={**os.environ, **server_environment(system)}
                )
                assert checked.returncode == 1
                assert "连接用完了" in checked.stdout
                assert "max_connections" in checked.stdout
                go.touch()
            wait_until(lambda: system.call("GET", "/health/ready")[0] == 200, 60, "就绪")
            assert system.wait_state(running)["state"] == "COMPLETED"
            assert system.wait_state(system.submit("#!/bin/sh\n"))["state"] == "COMPLETED"
