"""SCNS_DATABASE_URL 指错了：口令不对、只读的备库、太旧的服务器。每个程序一句话说清，长住的不死，改对之后自己好。"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from debian_postgres import DebianPostgres, debian_postgres, deployed_system
from postgres_pair import PostgresPair, running_pair
from running_system import free_port, wait_until
from scns_conductor.local.engines import Engines, stop_process

pytestmark = pytest.mark.faults
SCNS = Path(sys.executable).with_name("scns")
HEALTH_CHECK = Path(__file__).parents[2] / "scripts/health_check.py"


@pytest.fixture
def keyed() -> Iterator[DebianPostgres]:
    """要口令的一个：scns 的口令是 right。"""
    with debian_postgres() as server:
        server.execute("ALTER ROLE scns PASSWORD 'right'")
        server.execute("CREATE ROLE watcher SUPERUSER LOGIN")
        hba = server.data / "pg_hba.conf"
        hba.write_text("local all scns scram-sha-256\n" + hba.read_text())
        server.program("pg_ctl", "-D", f"{server.data}", "reload")
        yield server


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    with running_pair() as servers:
        yield servers


def environment(folder: Path, database_url: str, redis_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SCNS_", "SLURM_", "PG"))},
        "SCNS_DATABASE_URL": database_url,
        "SCNS_REDIS_URL": redis_url,
        "SCNS_DATA_DIR": str(folder),
        "SCNS_NODE_NAME": "node1",
        "SCNS_SINGLE_USER": "true",
    }


def refused(command: list[Path | str], variables: dict[str, str]) -> str:
    """退出码不为 0，没有 traceback；返回它说的。"""
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    said = (done.stdout + done.stderr).strip()
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


@contextmanager
def living(folder: Path, module: str, variables: dict[str, str]) -> Iterator[Path]:
    """长住的一个进程；离开时它还活着，日志里没有 traceback。"""
    log = folder / f"{module}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", module], env=variables, stdout=out, stderr=out, cwd=folder)
    try:
        yield log
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        stop_process(process, signal.SIGTERM)


def test_a_wrong_password_is_told_everywhere_and_kills_nobody(
    keyed: DebianPostgres, engines: Engines, tmp_path: Path
) -> None:
    wrong = environment(tmp_path, keyed.url().replace("scns@", "scns:wrong@"), engines.redis_url)
    for command in ([SCNS, "db", "upgrade"], [sys.executable, HEALTH_CHECK, "--skip-api"]):
        said = refused(command, wrong)
        assert "password authentication failed" in said.splitlines()[0]
        assert "wrong" not in said
    with (
        living(tmp_path, "scns_conductor.worker.agent.process", wrong) as agent,
        living(tmp_path, "scns_conductor.worker.scheduler.process", wrong) as scheduler,
    ):
        for log in (agent, scheduler):
            wait_until(lambda log=log: "password authentication failed" in log.read_text(), 60, f"{log} 说出来")
    right = keyed.url().replace("scns@", "scns:right@")
    with deployed_system(tmp_path / "system", right, engines.redis_url) as system:
        assert system.wait_state(system.submit("true\n"), "COMPLETED")


def test_a_server_that_will_not_do_kills_nobody_and_mended_is_enough(
    keyed: DebianPostgres, engines: Engines, tmp_path: Path
) -> None:
    """编码不对（太旧的也走这一处）：长住的说出来、等着；换成好的库之后没有人重启它们。"""
    administer(keyed, "CREATE DATABASE d ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    url = keyed.url("d").replace("scns@", "scns:right@")
    variables = {**environment(tmp_path, url, engines.redis_url), "SCNS_SMTP_HOST": "127.0.0.1"}
    variables |= {"SCNS_SUSPEND_PROGRAM": "/bin/true", "SCNS_RESUME_PROGRAM": "/bin/true", "SCNS_SUSPEND_TIME_S": "600"}
    with (
        living(tmp_path, "scns_conductor.worker.agent.process", variables) as agent,
        living(tmp_path, "scns_conductor.worker.scheduler.process", variables) as scheduler,
        living(tmp_path, "scns_conductor.worker.background.process", variables) as background,
    ):
        for log in (agent, scheduler, background):
            wait_until(lambda log=log: "SQL_ASCII" in log.read_text(), 60, f"{log} 说出来")
        wait_until(lambda: renamed(keyed), 60, "把坏的库挪开")
        administer(keyed, "CREATE DATABASE d ENCODING 'UTF8' TEMPLATE template0")
        done = subprocess.run([SCNS, "db", "upgrade"], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with psycopg.connect(keyed.url("d").replace("scns@", "scns:right@"), autocommit=True) as connection:
            for what in ("FROM nodes WHERE state = 'UP'", "FROM scheduler_leader WHERE backend_pid IS NOT NULL"):
                wait_until(lambda what=what: connection.execute(f"SELECT 1 {what}".encode()).fetchone(), 60, what)


def administer(server: DebianPostgres, statement: str) -> None:
    """以管理员的身份（不要口令的）。"""
    with psycopg.connect(server.url().replace("scns@", "watcher@"), autocommit=True) as connection:
        connection.execute(statement.encode())


def renamed(server: DebianPostgres) -> bool:
    """坏的库挪开了；有人刚好连着就不行，再试。"""
    try:
        administer(server, "ALTER DATABASE d RENAME TO bad")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def test_a_standby_alone_is_read_only_and_says_so(pair: PostgresPair, engines: Engines, tmp_path: Path) -> None:
    """只写了备库：每个程序都说只读、该指向主库；改指主库就好。"""
    primary = pair.primary.url()
    with deployed_system(tmp_path / "first", primary, engines.redis_url) as system:
        system.wait_state(system.submit("true\n"), "COMPLETED")
    variables = environment(tmp_path, pair.standby.url(), engines.redis_url)
    assert "这是备库" in refused([sys.executable, HEALTH_CHECK, "--skip-api"], variables)
    port = free_port()
    variables["SCNS_API_PORT"] = str(port)
    with (
        living(tmp_path, "scns_conductor.worker.agent.process", variables) as agent,
        living(tmp_path, "scns_conductor.worker.scheduler.process", variables) as scheduler,
        living(tmp_path, "scns_conductor.api", variables),
    ):
        for log in (agent, scheduler):
            wait_until(lambda log=log: "read-only" in log.read_text(), 60, f"{log} 说出来")
        ready = wait_until(lambda: not_ready(port), 60, "API 应答")
        assert ready["checks"]["database"]["status"] == "read_only"


def not_ready(port: int) -> Any:
    """/health/ready 的 503 的回答；还没有起来、说就绪了的是 None。"""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10):
            return None
    except urllib.error.HTTPError as error:
        return json.loads(error.read()) if error.code == 503 else None
    except OSError:
        return None
