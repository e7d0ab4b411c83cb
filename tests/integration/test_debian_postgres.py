"""别人的 PostgreSQL（Debian 的，缺省设置，jit 开着）：我们的每一条会话都自己设好，数组照常跑完。"""

import asyncio
import itertools
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa

from debian_postgres import DebianPostgres, bouncer, deployed_system
from running_system import RunningSystem, wait_until
from scns_conductor.api.database_problem import database_error
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import direct_connection, sync_engine
from scns_conductor.core.errors import ConductorError, ServiceUnavailable
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scripted_server import serving

NOOP = "#!/bin/sh\n"
JOB = {"name": "j", "current_working_directory": "/tmp", "standard_output": "/dev/null", "environment": {"A": "b"}}
WANTED = {
    "jit": "off",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "1min",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "0",
    "synchronous_commit": "on",
}
_OURS = re.compile(r"\b(jobs|nodes|scheduler_\w+|alembic_version|pg_advisory|LISTEN)\b")
# 一台处处与我们相反的服务器。
_CONTRARY = """
    ALTER DATABASE {0} SET timezone = 'Asia/Shanghai'; ALTER DATABASE {0} SET synchronous_commit = off;
    ALTER DATABASE {0} SET default_transaction_isolation = 'serializable';
    ALTER DATABASE {0} SET idle_session_timeout = '1s'; ALTER DATABASE {0} SET statement_timeout = '1ms'
"""


@pytest.fixture
def database(debian_postgres: DebianPostgres) -> Iterator[str]:
    """一个空的数据库。"""
    name = f"t_{uuid.uuid4().hex[:12]}"
    debian_postgres.execute(f"CREATE DATABASE {name}")
    yield name
    debian_postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def logged(debian_postgres: DebianPostgres) -> Iterator[None]:
    """记下每条会话（应用的名字、会话号）的每条语句。"""
    for statement in ("log_statement = 'all'", "log_line_prefix = '[%a|%c] '"):
        debian_postgres.execute(f"ALTER SYSTEM SET {statement}")
    debian_postgres.execute("SELECT pg_reload_conf()")
    yield
    debian_postgres.execute("ALTER SYSTEM RESET ALL")
    debian_postgres.execute("SELECT pg_reload_conf()")


@pytest.fixture
def system(
    debian_postgres: DebianPostgres, database: str, engines: Engines, scratch: Path, logged: None
) -> Iterator[RunningSystem]:
    with deployed_system(scratch / database, debian_postgres.url(database), engines.redis_url) as started:
        yield started


def sessions(server: DebianPostgres) -> dict[tuple[str, str], list[str]]:
    """（应用的名字，会话号）-> 它的语句。"""
    found: dict[tuple[str, str], list[str]] = {}
    for line in server.log.read_text(errors="replace").splitlines():
        match = re.match(r"\[([^|]*)\|([^]]*)\] LOG:  (?:statement|execute [^:]+): (.*)", line)
        if match:
            found.setdefault((match[1], match[2]), []).append(match[3])
    return found


def test_an_array_of_a_hundred_completes_and_every_session_has_turned_jit_off(
    system: RunningSystem, debian_postgres: DebianPostgres
) -> None:
    array = system.submit(NOOP, array="0-99", standard_output="/dev/null")
    # 问调度器的（LISTEN 的那条会话）也要有。
    status, answer = system.call("GET", "/diag")
    assert status == 200, answer

    def done() -> bool:
        page = system.call("GET", f"/jobs?array={array}&limit=200")[1]["jobs"]
        return [job["state"] for job in page].count("COMPLETED") >= 100

    wait_until(done, 60, "数组跑完")
    ours = {key: texts for key, texts in sessions(debian_postgres).items() if key[0].startswith("scns-conductor")}
    roles = {name.removeprefix("scns-conductor/") for name, _ in ours}
    assert {"api", "scheduler", "agent@node1", "migrations"} <= roles
    for (name, _), texts in ours.items():
        # 碰我们的表之前先设好会话。
        assert any(text.startswith("SET jit = 'off'") for text in texts), (name, texts[:9])
        before = itertools.takewhile(lambda text: not text.startswith("SET jit = 'off'"), texts)
        assert not [text for text in before if _OURS.search(text)], (name, texts[:9])
    listening = " ".join(text for texts in ours.values() for text in texts if text.startswith("LISTEN"))
    assert "scns_answer" in listening
    assert "scns_inbox" in listening
    # 没有名字的会话碰不到我们的表：全系统没有哪处自己连了库。
    strangers = [texts for key, texts in sessions(debian_postgres).items() if "scns-conductor" not in key[0]]
    assert not [text for texts in strangers for text in texts if _OURS.search(text)]


async def _async_values(settings: Settings) -> dict[str, str]:
    engine = async_engine(settings)
    async with engine.connect() as connection:
        found = {
            name: (await connection.execute(sa.text("SELECT current_setting(:name)"), {"name": name})).scalar_one()
            for name in WANTED
        }
    await engine.dispose()
    return found


def test_a_contrary_server_does_not_change_our_sessions(debian_postgres: DebianPostgres, database: str) -> None:
    for statement in _CONTRARY.format(database).split(";"):
        debian_postgres.execute(statement)
    settings = Settings(database_url=debian_postgres.url(database))  # type: ignore[arg-type]
    assert asyncio.run(_async_values(settings)) == WANTED
    with direct_connection(settings, "test") as direct:
        assert {name: direct.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in WANTED} == WANTED  # type: ignore[index]
    engine = sync_engine(settings, role="test")
    with engine.connect() as connection:
        found = {name: connection.scalar(sa.text("SELECT current_setting(:name)"), {"name": name}) for name in WANTED}
        assert found == WANTED
        # 回滚之后还在。
        connection.rollback()
        assert connection.scalar(sa.text("SHOW jit")) == "off"
        assert connection.scalar(sa.text("SHOW enable_seqscan")) == "off"
    engine.dispose()


def test_a_host_that_talks_nonsense_is_passed_over(debian_postgres: DebianPostgres, database: str) -> None:
    """几台主机里有一台说的不是 PostgreSQL 的话：两个驱动都接着试下一台。"""

    def nonsense(connection: socket.socket) -> None:
        connection.recv(65536)
        # 认证的报文，短了三个字节。
        connection.sendall(b"R\0\0\0\x05\0")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)

    with serving(nonsense, nonsense) as stranger:
        port = stranger.rpartition(":")[2]
        places = f"host=127.0.0.1,{debian_postgres.folder}&port={port},{debian_postgres.port}"
        url = f"postgresql://scns@/{database}?{places}&sslmode=disable"
        settings = Settings(database_url=url)  # type: ignore[arg-type]
        assert asyncio.run(_async_values(settings)) == WANTED
        engine = sync_engine(settings, role="test")
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        engine.dispose()


def test_a_node_plans_each_statement_once_a_session(debian_postgres: DebianPostgres, database: str) -> None:
    """代理的会话：第一次就预备好，用不随参数变的计划；别的会话照旧先试几次。"""
    settings = Settings(database_url=debian_postgres.url(database))  # type: ignore[arg-type]
    text = "SELECT relname FROM pg_class WHERE relpages = %(number)s"
    plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%%relpages = $1'"
    found = []
    for one_plan in (True, False):
        engine = sync_engine(settings, role="test", one_plan=one_plan)
        with engine.connect() as connection:
            for number in range(3):
                connection.exec_driver_sql(text, {"number": number})
            found += [tuple(row) for row in connection.exec_driver_sql(plans, {})]
        engine.dispose()
    assert found == [(3, 0)]


def test_a_stricter_durability_of_the_server_is_kept(debian_postgres: DebianPostgres, database: str) -> None:
    debian_postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = 'remote_apply'")
    settings = Settings(database_url=debian_postgres.url(database))  # type: ignore[arg-type]
    with direct_connection(settings, "test") as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("remote_apply",)


@pytest.fixture
def bouncer_url(debian_postgres: DebianPostgres, database: str) -> Iterator[str]:
    with bouncer(debian_postgres, database, "session", 50) as url:
        yield url


async def _shown(url: str, direct: str, name: str) -> tuple[str, ...]:
    """API 的会话在几个事务里的设置。"""
    engine = async_engine(Settings(database_url=url, database_direct_url=direct))  # type: ignore[arg-type]
    found = []
    for _ in range(3):
        async with engine.connect() as connection:
            found.append(str((await connection.execute(sa.text(f"SHOW {name}"))).scalar_one()))
    await engine.dispose()
    return tuple(found)


def test_pgbouncer_in_transaction_mode_serves_agents_and_api(
    debian_postgres: DebianPostgres, database: str, engines: Engines, scratch: Path
) -> None:
    """一个事务一条会话，三条给所有人：代理与 API 都经它，选举与听通知走 direct；设置照样管用。"""
    direct = debian_postgres.url(database)
    with (
        bouncer(debian_postgres, database, "transaction", 3) as url,
        deployed_system(
            scratch / "transaction", url, engines.redis_url, settings={"SCNS_DATABASE_DIRECT_URL": direct}
        ) as system,
    ):
        body = {"jobs": [{"job": JOB, "script": NOOP} for _ in range(100)]}
        status, answer = system.call("POST", "/jobs/submit/batch", body)
        assert status == 200, answer
        held = system.submit("#!/bin/sh\nsleep 300\n")
        said = system.submit("#!/bin/sh\necho through the pool\n")
        for job in [*answer["job_ids"], said]:
            assert system.wait_state(job)["state"] == "COMPLETED"
        assert system.call("POST", f"/jobs/cancel/{held}")[0] == 200
        assert system.wait_state(held)["state"] == "CANCELLED"
        assert system.call("GET", "/diag")[0] == 200
        with ThreadPoolExecutor(16) as many:
            assert set(many.map(lambda _: system.call("GET", "/jobs")[0], range(64))) == {200}
        for name, value in (("jit", "off"), ("lock_timeout", "5s"), ("synchronous_commit", "on")):
            assert set(asyncio.run(_shown(url, direct, name))) == {value}
        agent = sync_engine(Settings(database_url=url, database_direct_url=direct))  # type: ignore[arg-type]
        with agent.connect() as connection:
            assert connection.scalar(sa.text("SHOW enable_seqscan")) == "off"
        agent.dispose()
        with psycopg.connect(direct) as look:
            found = look.execute(
                "SELECT application_name, count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() GROUP BY 1"
            ).fetchall()
        # 池里的三条会话轮流给人用；别的都是走 direct 的。
        assert sum(count for _, count in found) <= 3 + 4, found


@pytest.mark.faults
def test_pgbouncer_in_session_mode_is_good_enough(bouncer_url: str, engines: Engines, scratch: Path) -> None:
    with deployed_system(scratch / "bouncer", bouncer_url, engines.redis_url) as system:
        jobs = [system.submit(NOOP, standard_output="/dev/null") for _ in range(10)]
        for job in jobs:
            assert system.wait_state(job)["state"] == "COMPLETED"
        assert system.call("GET", "/diag")[0] == 200
        settings = Settings(database_url=bouncer_url)  # type: ignore[arg-type]
        with direct_connection(settings, "test") as connection:
            assert connection.execute("SHOW jit").fetchone() == ("off",)
            found = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'scns-%'")
            assert int(str(found.fetchone()[0])) > 3  # type: ignore[index]


async def _refusal(url: str) -> str | None:
    engine = async_engine(Settings(database_url=url))  # type: ignore[arg-type]
    try:
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT * FROM pg_authid"))
    except (sa.exc.DBAPIError, asyncpg.PostgresError) as error:
        found = await database_error(error, engine)
        return None if found is None else f"{found.status} {found.code}"
    finally:
        await engine.dispose()
    return None


def test_a_role_that_is_unknown_or_may_not_is_503_not_500(debian_postgres: DebianPostgres, database: str) -> None:
    url = debian_postgres.url(database)
    assert asyncio.run(_refusal(url.replace("scns@", "nosuch@"))) == "503 database_refused"
    debian_postgres.execute("CREATE ROLE weak LOGIN")
    try:
        assert asyncio.run(_refusal(url.replace("scns@", "weak@"))) == "503 database_refused"
    finally:
        debian_postgres.execute("DROP ROLE weak")


def test_a_database_that_is_not_utf8_is_refused_by_name(debian_postgres: DebianPostgres) -> None:
    """initdb 没有设 locale 就是 SQL_ASCII：原来是驱动里的一串 traceback。"""
    name = f"t_{uuid.uuid4().hex[:12]}"
    debian_postgres.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        url = debian_postgres.url(name)
        with pytest.raises(ServiceUnavailable) as refused:
            asyncio.run(_refusal(url))
        assert (refused.value.status, refused.value.code) == (503, "database_encoding")
        command = [str(Path(sys.executable).with_name("scns")), "db", "upgrade"]
        told = subprocess.run(
            command, env={**os.environ, "SCNS_DATABASE_URL": url}, check=False, capture_output=True, text=True
        )
        assert told.returncode == 1
        assert len(told.stderr.splitlines()) == 1
        assert "SQL_ASCII" in told.stderr
        assert "ENCODING 'UTF8'" in told.stderr
    finally:
        debian_postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def _told_of(url: str, direct: str) -> ConductorError | None:
    """连这个地址出的错，API 怎样回答。"""
    engine = async_engine(Settings(database_url=url, database_direct_url=direct))  # type: ignore[arg-type]
    try:
        await engine.connect()
    except Exception as error:
        return await database_error(error, engine)
    finally:
        await engine.dispose()
    return None


def test_a_full_pgbouncer_is_told_as_too_few_connections(debian_postgres: DebianPostgres, database: str) -> None:
    direct = debian_postgres.url(database)
    with bouncer(debian_postgres, database, "transaction", 3, clients=1) as url, psycopg.connect(url):
        told = asyncio.run(_told_of(url, direct))
    assert told is not None
    assert (told.code, "max_client_conn" in told.detail) == ("database_connections", True)
