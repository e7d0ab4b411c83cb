"""数据库那边的麻烦：别人锁着一行，只读了一阵子，会话被终止，结构不符。都是真的；API 说得出原因，过后自己就好。"""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from running_system import RunningSystem, database_url, start_system, wait_until
from scns_conductor.statements.blockers import HOLDERS

pytestmark = pytest.mark.faults

LOCK_WAIT_S = "0.5"


@pytest.fixture(scope="module")
def system(scratch: Path) -> Iterator[RunningSystem]:
    environment = {"SCNS_DATABASE_LOCK_TIMEOUT_S": LOCK_WAIT_S}
    options = ("--nodes", "1", "--cpus", "4", "--memory", "4G")
    with start_system(scratch / "trouble", *options, environment=environment) as started:
        yield started


def database(system: RunningSystem, name: str = "test", *, autocommit: bool = True) -> "psycopg.Connection[Any]":
    return psycopg.connect(database_url(system), application_name=name, autocommit=autocommit)


def end_api_sessions(system: RunningSystem) -> None:
    """终止 API 的全部会话，等它们都不在了。"""
    where = "FROM pg_stat_activity WHERE application_name = 'scns-conductor/api'"
    with database(system) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) {where}")
        wait_until(lambda: connection.execute(f"SELECT count(*) {where}").fetchone() == (0,), what="API 的会话没有了")


def full_call(system: RunningSystem, path: str) -> tuple[int, str | None]:
    request = urllib.request.Request(system.url + path, headers={"Authorization": f"Bearer {system.token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["Retry-After"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]


# ---- 别人锁着一行 ----


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/jobs/{job}/hold", None),
        ("POST", "/jobs/{job}/release", None),
        ("POST", "/jobs/cancel/{job}", None),
        ("PATCH", "/jobs/{job}", {"nice": 5}),
        ("PATCH", "/nodes/node1", {"weight": 2}),
        ("PATCH", "/partitions/main", {"max_time": "60"}),
    ],
)
def test_a_row_locked_by_somebody_is_503_and_names_the_session(
    system: RunningSystem, method: str, path: str, body: Any
) -> None:
    job = system.submit("true", hold=True)
    with database(system, "boss-psql", autocommit=False) as holder:
        for table, key, value in (("jobs", "job_id", job), ("nodes", "name", "node1"), ("partitions", "name", "main")):
            holder.execute(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE", [value])
        status, problem = system.call(method, path.format(job=job), body)
        assert (status, problem["code"]) == (503, "row_locked"), problem
        assert "boss-psql" in problem["detail"]
        assert str(holder.info.backend_pid) in problem["detail"]
    # 什么也没有改；放开之后照做。
    assert system.query(job)["state"] == "PENDING"
    assert system.call(method, path.format(job=job), body)[0] == 200


def test_everyone_who_waits_for_the_same_row_is_told_who_holds_it(system: RunningSystem) -> None:
    job = system.submit("true", hold=True)
    with database(system, "boss-psql", autocommit=False) as holder:
        holder.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", [job])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: system.call("POST", f"/jobs/{job}/hold"), range(4)))
    assert [(status, answer["code"]) for status, answer in answers] == [(503, "row_locked")] * 4
    assert sum("boss-psql" in answer["detail"] for _, answer in answers) >= 1


def test_submissions_go_on_while_a_job_row_is_locked(system: RunningSystem) -> None:
    job = system.submit("true", hold=True)
    with database(system, "boss-psql", autocommit=False) as holder:
        holder.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", [job])
        other = system.submit("true")
        assert system.wait_state(other)["state"] == "COMPLETED"


@pytest.mark.parametrize("busy", [False, True], ids=["停在事务里", "做着很久的语句"])
def test_health_names_a_session_that_locks_our_rows(system: RunningSystem, busy: bool) -> None:
    job = system.submit("true", hold=True)
    with database(system, "boss-psql", autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", [job])
        if busy:
            pool.submit(holder.execute, "SELECT pg_sleep(600)")

        def told() -> Any:
            return system.call("GET", "/health/ready")[1]["checks"]["locks"]["held"]

        try:
            found = wait_until(told, 60, "健康检查说出来")
            who = [(item["application_name"], item["pid"]) for item in found]
            assert who == [("boss-psql", holder.info.backend_pid)]
            assert "jobs" in found[0]["tables"]
            done = subprocess.run(
                [sys.executable, "-c", "from scns_conductor.cli.main import main; main()", "health"],
                env=system.environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert "boss-psql" in done.stdout
        finally:
            holder.cancel()
    assert system.call("GET", "/health/ready")[1]["checks"]["locks"]["held"] == []


def test_a_session_of_another_user_is_named_too(system: RunningSystem) -> None:
    """管理员的 psql 用的是别的用户：它的状态我们看不见，锁着行看得见。"""
    job = system.submit("true", hold=True)
    engine = sa.create_engine(database_url(system).replace("postgresql:", "postgresql+psycopg:"))
    with database(system, "boss-psql", autocommit=False) as holder, engine.connect() as reader:
        reader.execute(sa.text("CREATE ROLE ordinary"))
        reader.execute(sa.text("SET LOCAL ROLE ordinary"))
        values = {"own": "scns-conductor/%", "own_s": 10, "others_s": 600, "tables": ["jobs", "nodes"]}
        assert reader.execute(HOLDERS, values).all() == []
        holder.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", [job])
        found = reader.execute(HOLDERS, values).mappings().all()
        assert [(row["application_name"], row["held_s"]) for row in found] == [("boss-psql", None)]
    engine.dispose()


# ---- 盘满了 ----


def test_health_says_that_the_disk_of_the_database_is_full(system: RunningSystem) -> None:
    """盘满了照样读得到，所以仍算就绪：说出来的是收不下新的。"""
    body = {"job": {"current_working_directory": "/"}, "script": "true"}
    with database(system) as connection:
        connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$"
        )
        connection.execute("CREATE TRIGGER full_disk BEFORE INSERT ON jobs EXECUTE FUNCTION full_disk()")
        try:
            status, problem = system.call("POST", "/jobs/submit", body)
            assert (status, problem["code"]) == (503, "database_full"), problem
        finally:
            connection.execute("DROP FUNCTION full_disk CASCADE")
    status, answer = system.call("GET", "/health/ready")
    found = answer["checks"]["database"]
    assert (status, found["status"]) == (200, "full"), answer
    assert "磁盘满了" in found["remedy"]


# ---- 会话没了，只读了一阵子 ----


def test_ended_pooled_sessions_are_not_seen_by_anyone(system: RunningSystem) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: system.call("GET", "/jobs"), range(16)))
    for _ in range(5):
        end_api_sessions(system)
        assert system.call("GET", "/jobs")[0] == 200
        end_api_sessions(system)
        body = {"job": {"current_working_directory": "/"}, "script": "true"}
        status, answer = system.call("POST", "/jobs/submit", body)
        assert status == 200, answer


def test_a_session_that_is_just_being_ended_is_never_a_500(system: RunningSystem) -> None:
    """不等它们走完就来的请求：终止的话已经到了、断开还没有读到。换一条新的；实在赶在缝里的是 503，不是 500。"""
    body = {"job": {"current_working_directory": "/"}, "script": "true"}
    with database(system) as administrator:
        answers = []
        for _ in range(100):
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scns-conductor/api'"
            )
            answers.append(system.call("POST", "/jobs/submit", body))
    assert {status for status, _ in answers} <= {200, 503}, [each for each in answers if each[0] not in (200, 503)]
    assert sum(status == 200 for status, _ in answers) > 50, answers


def test_a_spell_of_read_only_is_503_and_passes(system: RunningSystem) -> None:
    with database(system) as connection:
        connection.execute("ALTER DATABASE scns SET default_transaction_read_only = on")
        try:
            end_api_sessions(system)
            # 池里装满只读的会话。
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: system.call("GET", "/jobs"), range(32)))
            body = {"job": {"current_working_directory": "/", "hold": True}, "script": "true"}
            for _ in range(3):
                status, problem = system.call("POST", "/jobs/submit", body)
                assert (status, problem["code"]) == (503, "database_read_only"), problem
            job = system.call("GET", "/jobs?limit=1")[1]["jobs"][0]["job_id"]
            status, problem = system.call("POST", f"/jobs/{job}/requeue")
            assert status in (409, 503), problem
            status, retry_after = full_call(system, "/health/ready")
            assert (status, int(retry_after or 0) > 0) == (503, True)
            found = system.call("GET", "/health/ready")[1]["checks"]["database"]
            assert found["status"] == "read_only", found
        finally:
            connection.execute("ALTER DATABASE scns RESET default_transaction_read_only")
        # 过去之后第一个请求就是好的：那阵子开的会话一条也不留。
        wait_until(lambda: system.call("GET", "/health/ready")[0] == 200, 60, "就绪")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: system.call("POST", "/jobs/submit", body), range(32)))
        assert {status for status, _ in answers} == {200}, answers


def test_a_job_that_ends_in_a_read_only_spell_keeps_its_end_and_output(system: RunningSystem, tmp_path: Path) -> None:
    """这样的错是暂时的，不是「数据库不收这个结束」：输出与说明都不丢。"""
    go = tmp_path / "go"
    job = system.submit(f"echo kept; while [ ! -e {go} ]; do sleep 0.1; done; exit 3\n")
    system.wait_state(job, "RUNNING")
    log = system.data_dir / "logs" / "agent-node1.log"
    before = len(log.read_text())
    with database(system) as connection:
        connection.execute("ALTER DATABASE scns SET default_transaction_read_only = on")
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'scns-conductor/%'"
            )
            go.touch()
            wait_until(lambda: "ends_commit_retry" in log.read_text()[before:], 60, "代理送不出结束")
        finally:
            connection.execute("ALTER DATABASE scns RESET default_transaction_read_only")
        ended = system.wait_state(job)
        assert (ended["state"], ended["detail"]["exit_code"]) == ("FAILED", "3:0")
        rows = connection.execute("SELECT content FROM job_outputs WHERE job_id = %s", [job]).fetchall()
    assert b"kept\n" in [bytes(row[0]) for row in rows]
    assert "end_rejected" not in log.read_text()[before:]


def test_sbatch_waits_out_a_spell_of_503(system: RunningSystem, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    with database(system) as connection:
        connection.execute("ALTER DATABASE scns SET default_transaction_read_only = on")
        end_api_sessions(system)
        sbatch = subprocess.Popen(
            [sys.executable, "-m", "scns_conductor.slurm.entry", "sbatch", str(script)],
            env=system.environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sbatch.stderr is not None
        try:
            assert "database_read_only" in sbatch.stderr.readline()
        finally:
            connection.execute("ALTER DATABASE scns RESET default_transaction_read_only")
    output, errors = sbatch.communicate(timeout=60)
    assert sbatch.returncode == 0, errors
    assert system.wait_state(output.split()[-1])["state"] == "COMPLETED"


# ---- 结构不符 ----


def test_a_schema_behind_is_503_with_the_remedy(system: RunningSystem) -> None:
    with database(system) as connection:
        version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("ALTER FUNCTION scns_notify RENAME TO gone")
        try:
            body = {"job": {"current_working_directory": "/"}, "script": "true"}
            status, problem = system.call("POST", "/jobs/submit", body)
            assert (status, problem["code"]) == (503, "schema_mismatch"), problem
            assert "scns db upgrade" in problem["detail"]
            status, answer = system.call("GET", "/health/ready")
            assert (status, answer["checks"]["schema"]["current"]) == (503, "0001")
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", version)
            connection.execute("ALTER FUNCTION gone RENAME TO scns_notify")
    assert system.wait_state(system.submit("true"))["state"] == "COMPLETED"
