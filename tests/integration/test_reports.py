"""scns report：数与 GET /reports/usage 的一样；reporting 的视图只读的角色看得到，别的一样也看不到。"""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from slurm_links import Commands

import warm_commands
from running_system import RunningSystem, database_url
from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.core.settings import Settings
from scns_conductor.migrations.reporting import grant_reporting

SCNS = str(Path(sys.executable).parent / "scns")
SECRETS = {
    "script",
    "environment",
    "argv",
    "content",
    "command",
    "comment",
    "standard_output",
    "token_digest",
    "message",
}


def report(system: RunningSystem, *words: str, code: int = 0) -> str:
    done = warm_commands.run([SCNS, "report", *words], env=system.environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_form_tells_the_same_usage(running_system: RunningSystem) -> None:
    for name in ("one", "two"):
        job = running_system.submit("sleep 1\n", name=name, account="reported", tasks=2)
        running_system.wait_state(job, "COMPLETED")
    rows = [row for row in table(report(running_system, "usage", "--format", "csv")) if row["account"] == "reported"]
    assert [(row["jobs"], float(row["gpu_h"])) for row in rows] == [("2", 0.0)]
    # 两个作业，各 2 个 CPU、一秒以上。
    assert float(rows[0]["cpu_h"]) * 3600 >= 4
    answer = running_system.call("GET", "/reports/usage?since=now-1day")[1]["usage"]
    asked = sum(row["cpu_s"] for row in answer if row["account"] == "reported")
    assert float(rows[0]["cpu_h"]) * 3600 == pytest.approx(asked, rel=1e-3)
    for every in ("hour", "day", "month"):
        words = ("usage", "--every", every, "--by", "account", "--zone", "Asia/Shanghai", "--format", "csv")
        split = [row for row in table(report(running_system, *words)) if row["account"] == "reported"]
        assert sum(float(row["cpu_h"]) for row in split) * 3600 == pytest.approx(asked, rel=1e-3)
        assert sum(int(row["jobs"]) for row in split) == 2
    found = json.loads(report(running_system, "usage", "--by", "account", "--format", "json"))["rows"]
    assert [row["jobs"] for row in found if row["account"] == "reported"] == [2]
    chart = report(running_system, "usage", "--by", "account", "--format", "chart")
    assert [line for line in chart.splitlines() if line.startswith("reported ")]
    assert "reported" in report(running_system, "usage")
    wasted = [row for row in table(report(running_system, "waste", "--format", "csv")) if row["account"] == "reported"]
    # 睡着的作业没有用 CPU。
    assert [row["jobs"] for row in wasted] == ["2"]
    assert float(wasted[0]["cpu_used"]) < 0.5


def test_a_formula_in_a_csv_is_text(running_system: RunningSystem) -> None:
    """表格软件打开也不算它：用户写得了的只有工作负载标签。"""
    running_system.wait_state(running_system.submit("true\n", account="formula", wckey="=1+1"), "COMPLETED")
    rows = table(report(running_system, "usage", "--by", "account,wckey", "--format", "csv"))
    assert [row["wckey"] for row in rows if row["account"] == "formula"] == ["'=1+1"]


def test_energy_is_reported_in_every_place(running_system: RunningSystem, tmp_path: Path) -> None:
    """汇总里一千瓦时：scns report 与 sreport 都说得出（sreport 的单位照 -t，同 Slurm）。"""
    with psycopg.connect(database_url(running_system), autocommit=True) as database:
        for period in ("hour", "day", "month"):
            database.execute(
                "INSERT INTO usage_rollups (period, start, account, user_name, partition, job_cpus, jobs, wall_s, "
                "cpu_s, memory_mb_s, node_s, gpu_s, wall_moment, others) VALUES (%(period)s, "
                "date_trunc(%(period)s, now(), 'UTC'), 'powered', 'ada', 'main', 1, 1, 60, 60, 0, 60, 60, 0, "
                "'{\"energy\": 3600000}')",
                {"period": period},
            )
    rows = [row for row in table(report(running_system, "usage", "--format", "csv")) if row["account"] == "powered"]
    assert [float(row["energy_kwh"]) for row in rows] == [1.0]
    words = ("usage", "--every", "day", "--format", "csv")
    split = [row for row in table(report(running_system, *words)) if row["account"] == "powered"]
    assert [float(row["energy_kwh"]) for row in split] == [1.0]
    slurm = Commands.beside(running_system, tmp_path)
    asked = ("cluster", "AccountUtilizationByUser", "accounts=powered", "start=now-1hour", "end=now+1minute")
    cells = [row.split("|") for row in slurm.run("sreport", "-nP", "-t", "seconds", *asked).stdout.splitlines()]
    assert [row[-1] for row in cells] == ["3600000", "3600000"]
    energy = slurm.run("sreport", "-nP", "-t", "secper", "-T", "energy", *asked).stdout.splitlines()
    assert [row.split("|")[-2:] for row in energy] == [["energy", "3600000(100.00%)"]] * 2
    with psycopg.connect(database_url(running_system), autocommit=True) as database:
        database.execute("DELETE FROM usage_rollups WHERE account = 'powered'")


def test_bad_input_is_one_line(running_system: RunningSystem) -> None:
    assert "account、user" in report(running_system, "usage", "--by", "accuont", code=2)
    assert "Nowhere" in report(running_system, "usage", "--every", "day", "--zone", "Nowhere/Town", code=1)
    assert running_system.call("GET", "/reports/usage/series?since=now-1day&by=x")[0] == 422
    assert running_system.call("GET", "/reports/usage/series?since=now-1day&every=week")[0] == 422


def test_the_reporting_role_sees_the_views_and_nothing_else(running_system: RunningSystem) -> None:
    url = database_url(running_system)
    settings = Settings(database_url=url, data_dir=running_system.data_dir)
    job = running_system.submit("echo secret\n", name="seen", environment={"PASSWORD": "hunter2"})
    running_system.wait_state(job, "COMPLETED")
    assert grant_reporting(settings, "bi", "ops") is True
    assert grant_reporting(settings, "bi", "ops") is False
    with psycopg.connect(url, autocommit=True) as database:
        views = _column(database, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'reporting'")
        assert set(views) == {
            "jobs", "job_events", "nodes", "accounts", "usage_hourly", "usage_daily", "usage_monthly"
        }  # fmt: skip
        columns = _column(
            database, "SELECT column_name FROM information_schema.columns WHERE table_schema = 'reporting'"
        )
        assert SECRETS & set(columns) == set()
        uncommented = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'reporting'::regnamespace "
            "AND obj_description(oid, 'pg_class') IS NULL"
        )
        assert _column(database, uncommented) == []
        others = _column(
            database,
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname IN ('public', 'history') AND c.relkind IN ('r', 'p', 'v')",
        )
        assert {"jobs", "job_outputs", "history.jobs", "users"} <= set(others)
        database.execute("SET ROLE bi")
        for view in views:
            database.execute(f"SELECT * FROM reporting.{view}")
        limits = "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'bi'"
        (most, config) = database.execute(limits).fetchone() or (0, [])
        assert most == 10
        assert {"default_transaction_read_only=on", "statement_timeout=60s"} <= set(config)
        assert "idle_in_transaction_session_timeout=60s" in config
        seen = database.execute("SELECT name, state FROM reporting.jobs WHERE job_id = %s", (job,)).fetchall()
        assert seen == [("seen", "COMPLETED")]
        for other in others:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                database.execute(f"SELECT * FROM {other} LIMIT 1")
        for change in ("DELETE FROM reporting.accounts", "UPDATE reporting.nodes SET name = 'x'"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                database.execute(change)
        database.execute("RESET ROLE")
        # 看得到别的的角色不给。
        database.execute("CREATE ROLE nosy; GRANT SELECT ON jobs TO nosy")
        with pytest.raises(Conflict, match="nosy"):
            grant_reporting(settings, "nosy", "ops")
        with pytest.raises(InvalidRequest):
            grant_reporting(settings, "pg_monitor", "ops")
        for role in ("bi", "nosy"):
            database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _column(database: "psycopg.Connection[tuple[Any, ...]]", statement: str) -> list[Any]:
    return [row[0] for row in database.execute(statement).fetchall()]
