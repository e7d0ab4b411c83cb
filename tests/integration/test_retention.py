"""保留期：作业移进历史之后，问什么答什么都和从前一样；改不了；移到一半被杀不丢不重；导出、丢掉、装回；备份；降级。"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from slurm_links import Commands
from sqlalchemy.ext.asyncio import AsyncEngine

import warm_commands
from database_command import SCNS, scns_on
from running_system import RunningSystem, as_user, free_port, server_environment, wait_until
from scns_conductor import migrations
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import database_url, sync_engine
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.settings import Settings
from scns_conductor.migrations import backup as backups
from scns_conductor.migrations.history_tables import match_columns
from scns_conductor.services import history_files, retention
from scns_conductor.services.retention import KEEPER
from scns_conductor.statements.archive import JOB_END
from scns_conductor.statements.table_columns import COLUMNS

# 历史之前的一版。
BEFORE = "0028"
T = TypeVar("T")
Database = psycopg.Connection[tuple[Any, ...]]
# 列表的各种问法；{user} 换成用户。
LISTS = (
    "/jobs", "/jobs?limit=3", "/jobs?state=FAILED", "/jobs?state=COMPLETED,PENDING", "/jobs?state=FAILED,TIMEOUT",
    "/jobs?user={user}", "/jobs?name=lister", "/jobs?account=lab&sort=name", "/jobs?sort=-end_time&limit=4",
    "/jobs?sort=submit_time", "/jobs?start_after=now-200day", "/jobs?end_before=now-50day", "/jobs?node=node1",
    "/jobs?partition=other", "/jobs?partition=main&layout=rows&fields=name,state", "/jobs?arrays=folded",
    "/jobs?end_after=now-95day&sort=-start_time", "/jobs?job_id={array}", "/jobs?job_id={array}_1",
)  # fmt: skip


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return lent_system


@pytest.fixture(scope="module")
def url(system: RunningSystem) -> Iterator[str]:
    found = server_environment(system)["SCNS_DATABASE_URL"]
    yield found
    scns_on(found, "db", "retention", "set", "--move-after", "never")


def pages(system: RunningSystem, path: str) -> list[Any]:
    """一种问法的全部页。"""
    found, cursor = [], ""
    while True:
        joined = f"{path}{'&' if '?' in path else '?'}cursor={cursor}" if cursor else path
        status, answer = system.call("GET", joined)
        assert status == 200, answer
        found += answer["jobs"]
        cursor = answer["next_cursor"]
        if not cursor:
            return found


def _values(row: Any) -> list[Any]:
    return list(row.values()) if isinstance(row, dict) else row


def everything(system: RunningSystem, jobs: dict[str, str], slurm: Commands) -> dict[str, Any]:
    """关于这些作业能问到的一切。"""
    names = {"user": "root", "array": jobs["array"]}
    # 还在排队的一直在变（等了多久）。
    found: dict[str, Any] = {
        path: [row for row in pages(system, path.format(**names)) if "PENDING" not in _values(row)] for path in LISTS
    }
    for job_id in [*jobs.values(), f"{jobs['array']}_1"]:
        for what in ("", "/events", "/script", "/samples", "/dependencies", "/output"):
            found[f"{job_id}{what}"] = system.call("GET", f"/jobs/{job_id}{what}")
        found[f"query {job_id}"] = system.call("GET", f"/jobs/query/{job_id}")
    numbers = ",".join(jobs.values())
    found["steps"] = [
        {name: value for name, value in step.items() if name != "now"}
        for step in system.call("GET", f"/jobs/steps?job_id={numbers}")[1]["steps"]
    ]
    for path in ("usage", "efficiency"):
        answer = system.call("GET", f"/reports/{path}?since=now-200day&until=now-50day")[1]
        found[path] = {name: value for name, value in answer.items() if name not in ("since", "until")}
    sacct = ("-a", "-P", "-S", "now-200days", "-o", "JobID,JobName,State,ExitCode,AllocCPUS,NodeList,MaxRSS,Account")
    found["sacct"] = slurm.run("sacct", *sacct).stdout
    found["finished"] = {
        state: count
        for state, count in system.call("GET", "/dashboard")[1]["jobs"]["by_state"].items()
        if state not in ("PENDING", "RUNNING")
    }
    return found


def age(database: Database, job_ids: list[int], days: int) -> None:
    """让这些作业与它们的记录早 days 天。"""
    shift = f"- interval '{days} days'"
    for table, columns in (
        ("jobs", ("submit_time", "eligible_time", "start_time", "end_time")),
        ("resource_allocations", ("created_at", "claimed_at", "released_at")),
        ("job_events", ("event_time",)),
        ("job_steps", ("start_time", "end_time")),
        ("job_samples", ("since",)),
    ):
        changes = ", ".join(f"{column} = {column} {shift}" for column in columns)
        database.execute(f"UPDATE {table} SET {changes} WHERE job_id = ANY(%s)", (job_ids,))


def moved(database: Database) -> int:
    return int(_one(database, "SELECT count(*) FROM history.jobs"))


def _one(database: Database, statement: str) -> Any:
    row = database.execute(statement).fetchone()
    assert row is not None
    return row[0]


def test_nobody_sees_the_difference_and_nothing_can_be_changed(system: RunningSystem, url: str, tmp_path: Path) -> None:
    slurm = Commands.beside(system, tmp_path)
    system.call("POST", "/partitions", {"name": "other", "nodes": "node1"})
    jobs = {
        "good": system.submit(
            f"echo hello; sleep 1; PATH={slurm.prefix}:$PATH srun -n1 hostname\n", name="lister", account="lab", tasks=2
        ),
        "bad": system.submit("exit 3\n", name="lister", account="lab"),
        "other": system.submit("true\n", partition="other"),
        "array": system.submit("echo $SLURM_ARRAY_TASK_ID\n", array="0-3", name="many"),
        "cancelled": system.submit("true\n", hold=True),
    }
    system.call("POST", f"/jobs/cancel/{jobs['cancelled']}")
    waits = system.submit("true\n", hold=True, array="0-1")
    for name, state in (("good", "COMPLETED"), ("bad", "FAILED"), ("other", "COMPLETED")):
        system.wait_state(jobs[name], state)
    wait_until(
        lambda: {each["state"] for each in pages(system, f"/jobs?job_id={jobs['array']}")} == {"COMPLETED"}, 30, "数组"
    )
    with psycopg.connect(url, autocommit=True) as database:
        rows = database.execute("SELECT job_id FROM jobs WHERE end_time IS NOT NULL").fetchall()
        age(database, [row[0] for row in rows], 100)
        # 一个离得近的不移；它的数组没有做完的也不移。
        recent = system.submit("true\n", name="recent")
        system.wait_state(recent, "COMPLETED")
        before = everything(system, jobs, slurm)
        assert before["sacct"].count("\n") > 8
        assert len(before["/jobs?node=node1"]) >= 8
        text = scns_on(url, "db", "retention", "set", "--move-after", "60d")
        assert "结束 60 天之后" in text
        assert f"移进历史 {len(rows)} 个" in scns_on(url, "db", "retention", "run")
        assert moved(database) == len(rows)
        assert _one(database, f"SELECT count(*) FROM jobs WHERE job_id IN ({recent}, {waits})") == 2
        assert _one(database, "SELECT count(*) FROM job_events WHERE job_id NOT IN (SELECT job_id FROM jobs)") == 0
        after = everything(system, jobs, slurm)
        for key, value in before.items():
            assert after[key] == value, key
        # 再做一遍没有可移的。
        assert "移进历史 0 个" in scns_on(url, "db", "retention", "run")

    for method, path, body in (
        ("POST", f"/jobs/{jobs['bad']}/requeue", None),
        ("POST", f"/jobs/cancel/{jobs['good']}", None),
        ("PATCH", f"/jobs/{jobs['good']}", {"comment": "x"}),
    ):
        status, answer = system.call(method, path, body)
        assert (status, answer["code"]) == (409, "job_archived"), (path, answer)
    assert system.call("POST", "/jobs/cancel/987654321")[0] == 404
    # 依赖历史里的作业：成了的立即可以开始，没成的永远不满足。
    fine = system.submit("true\n", dependency=f"afterok:{jobs['good']}:{jobs['array']}")
    system.wait_state(fine, "COMPLETED")
    hopeless = system.submit("true\n", dependency=f"afterok:{jobs['bad']}", kill_on_invalid_dependency=True)
    system.wait_state(hopeless, "CANCELLED")
    with psycopg.connect(url, autocommit=True) as database:
        # 放回来的与平常的一样。
        assert "放回 1 个" in scns_on(url, "db", "retention", "bring-back", jobs["bad"])
        assert _one(database, f"SELECT count(*) FROM job_events WHERE job_id = {jobs['bad']}") >= 3
        assert moved(database) == len(rows) - 1
    # 又是平常的结束了的作业：不是历史里的那种不许。
    assert system.call("PATCH", f"/jobs/{jobs['bad']}", {"comment": "x"})[1]["code"] != "job_archived"


def test_sacctmgr_archives_and_loads(system: RunningSystem, url: str, tmp_path: Path) -> None:
    """整月地写成文件、从库里丢掉；装回来和从前一样，用量一直在。"""
    slurm = Commands.beside(system, tmp_path)
    jobs = [system.submit(f"echo {word}\n", name=f"cold{word}", account="cold") for word in ("one", "two")]
    for job in jobs:
        system.wait_state(job, "COMPLETED")
    with psycopg.connect(url, autocommit=True) as database:
        age(database, [int(job) for job in jobs], 400)
        ended = _one(database, f"SELECT end_time FROM jobs WHERE job_id = {jobs[0]}").astimezone(UTC)

    def seen() -> list[Any]:
        found = [
            system.call("GET", f"/jobs/{job}{what}")
            for job in jobs
            for what in ("", "/events", "/script", "/logs/stdout")
        ]
        return [*found, slurm.run("sacct", "-P", "-j", ",".join(jobs), "-o", "JobID,JobName,State,End").stdout]

    def usage() -> list[Any]:
        rows = system.call("GET", "/reports/usage?since=now-500day")[1]["usage"]
        return [row for row in rows if row["account"] == "cold"]

    before = seen()
    # 没有答应的什么也不做。
    declined = slurm.run("sacctmgr", "archive", "dump", "PurgeJobAfter=12months", text="n\n")
    assert (declined.returncode, declined.stdout.endswith(" Changes Discarded\n")) == (0, True)
    dump = ("sacctmgr", "-i", "archive", "dump", "Directory=cold", "Jobs", "Steps", "PurgeJobAfter=12months")
    done = slurm.run(*dump)
    folder = system.data_dir / "archive" / "cold" / f"{ended:%Y-%m}"
    assert (done.returncode, done.stdout) == (0, f" Archived 2 jobs that ended in {ended:%Y-%m} to {folder}\n"), done
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    used = usage()
    assert sum(row["jobs"] for row in used) == 2
    assert [status for status, _ in seen()[:-1]] == [404] * 8
    assert slurm.run(*dump).stdout == " Nothing to archive: no whole month is old enough\n"

    load = ("sacctmgr", "archive", "load", f"file=cold/{ended:%Y-%m}")
    assert slurm.run(*load).stdout == f" Loaded 2 jobs from cold/{ended:%Y-%m}\n"
    assert (seen(), usage()) == (before, used)
    again = slurm.run(*load)
    assert (again.returncode, "Problem loading archive file" in again.stderr) == (1, True)
    # 旧的不覆盖；绝对的路径也行，只要在里面。
    assert f"to {folder}.2\n" in slurm.run(*dump).stdout
    assert slurm.run("sacctmgr", "archive", "load", f"file={folder}.2").returncode == 0
    assert seen() == before
    acts = [
        (each["action"], each["after"]["jobs"])
        for each in system.call("GET", "/audit?action=history&limit=4")[1]["audit"]
    ]
    assert acts == [("history.load", 2), ("history.archive", 2)] * 2

    for words, said in (
        (("archive",), 'Input line must include, "Dump", or "load"'),
        (("archive", "dump", "PurgeJobAfter=soon"), "Invalid purge string 'soon'"),
        (("archive", "dump", "PurgeStepAfter=1month"), "PurgeStepAfter is not supported by this system: steps go"),
        (("archive", "dump", "TXN"), "TXN is not supported"),
        (("archive", "dump", "nonsense=1"), "Unknown option: nonsense=1"),
        (("archive", "dump"), "drop-after"),
        (("archive", "dump", "Directory=../elsewhere", "PurgeJobAfter=1"), "archive_dir"),
        (("archive", "load"), 'Use "file="'),
        (("archive", "load", "insert=DROP TABLE jobs"), "insert is not supported"),
        (("archive", "load", "file=/etc"), "archive_dir"),
        (("archive", "load", "file=cold/1999-01"), "1999-01"),
    ):
        refused = slurm.run("sacctmgr", "-i", *words)
        assert (refused.returncode, said in refused.stderr) == (1, True), (words, refused)
    # 太长的路径、不成样子的文件也是请求的错。
    broken = folder.parent / "2020-01"
    shutil.copytree(f"{folder}.2", broken)
    with (broken / "jobs.csv").open("a") as file:
        file.write("nonsense\n")
    for path, field, text in (
        ("archive", "directory", "x" * 300), ("load", "folder", "x" * 300), ("load", "folder", str(broken))
    ):  # fmt: skip
        status, answer = system.call(
            "POST", f"/history/{path}", {"before": "2020-01-01", field: text} if path == "archive" else {field: text}
        )
        assert (status, answer["errors"][0]["field"]) == (422, field), answer
    plain = as_user(system, "somebody")
    for path, body in (("archive", {}), ("load", {"folder": "cold"})):
        status, answer = plain.call("POST", f"/history/{path}", body)
        assert (status, answer["code"]) == (403, "admin_required")


FINISHED = """
    INSERT INTO jobs (name, user_name, partition, current_working_directory, script, state, submit_time, start_time,
      end_time, batch_host, node_list, allocated_cpus, allocated_nodes, environment)
    SELECT 'h' || i, 'u' || mod(i, 5), 'main', '/', '#!/bin/sh' || chr(10),
      CASE WHEN mod(i, 7) = 0 THEN 'FAILED' ELSE 'COMPLETED' END, began, began, began + interval '1 minute',
      'n1', 'n1', 1 + mod(i, 4), 1, jsonb_build_object('A', 'x,"y"' || chr(10))
    FROM (SELECT i, timestamptz '2025-10-20 00:00+00' + make_interval(mins => (i * 7)::integer) AS began
          FROM generate_series(1, %(count)s::bigint) AS i) AS n
"""
RECORDS = (
    "INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks, "
    "created_at, released_at, gres_ids) SELECT job_id, 0, 'n1', 0, allocated_cpus, 0, 1, start_time, end_time, "
    "'{\"gpu\": [0]}' FROM jobs",
    "INSERT INTO job_events (job_id, event_time, from_state, to_state, cause, actor, message) "
    "SELECT job_id, end_time, 'RUNNING', state, 'exit', 'agent@n1', '' FROM jobs",
    "INSERT INTO job_outputs (job_id, restart_count, stream, content, total_bytes) "
    "SELECT job_id, 0, 'stdout', '\\x00ff0a', 3 FROM jobs",
    "INSERT INTO job_samples (job_id, restart_count, node_name, since, width_s, elapsed_s, cpu_s, memory_mb) "
    "SELECT job_id, 0, 'n1', start_time, 30, 60, '{1.5,2}', '{7,NULL}' FROM jobs WHERE job_id % 3 = 0",
    "INSERT INTO job_steps (job_id, restart_count, step_id, name, state, tasks, cpus_per_task, nodes, node_tasks, "
    "node_cpus, pending_nodes, launch, end_time) SELECT job_id, 0, 0, 'hostname', 'COMPLETED', 1, 1, '{n1}', '{1}', "
    "'{1}', '{}', '{}', end_time FROM jobs WHERE job_id % 5 = 0",
)


def fill(database: Database, count: int) -> None:
    database.execute(FINISHED, {"count": count})
    for statement in RECORDS:
        database.execute(statement)


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """平常的与历史里的合起来，每张表的全部行。"""
    found = {}
    for table, names in COLUMNS.items():
        columns = ", ".join(f'"{name}"' for name in names)
        found[table] = database.execute(
            f"SELECT md5(r::text) FROM (SELECT {columns} FROM {table} UNION ALL SELECT {columns} FROM history.{table}) "
            "AS r ORDER BY 1"
        ).fetchall()
    return found


def _until_moved(database: Database, mover: "subprocess.Popen[bytes]", count: int) -> None:
    wait_until(lambda: moved(database) >= count or mover.poll() is not None, 60, "移了一些")


@pytest.mark.faults
def test_killed_in_the_middle_loses_and_doubles_nothing(settings: Settings) -> None:
    url = database_url(settings)
    with psycopg.connect(url, autocommit=True) as database:
        fill(database, 4000)
        before = contents(database)
        act(settings, lambda engine: retention.set_policy(engine, KEEPER, 86400, None))
        command = [SCNS, "db", "retention", "run"]
        for part in (1, 2):
            mover = subprocess.Popen(
                command, env={**os.environ, "SCNS_DATABASE_URL": url}, stdout=subprocess.DEVNULL, process_group=0
            )
            _until_moved(database, mover, 1200 * part)
            os.killpg(mover.pid, signal.SIGKILL)
            mover.wait()
            assert contents(database) == before

        async def both(engine: AsyncEngine) -> None:
            await asyncio.gather(*(retention.apply_policy(engine, gently=False) for _ in range(2)))
            # 没有轮到的那一个什么也没有做。
            await retention.apply_policy(engine, gently=False)

        act(settings, both)
        assert contents(database) == before
        assert _one(database, "SELECT count(*) FROM jobs") == 0
        assert _one(database, "SELECT sum(jobs) FROM history.counts") == 4000


ARCHIVE = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.settings import load_settings
from scns_conductor.services import history_files, retention

async def main():
    engine = async_engine(load_settings())
    await history_files.archive_month(engine, retention.KEEPER, datetime(2025, 10, 1, tzinfo=UTC), Path(sys.argv[1]))

asyncio.run(main())
"""


@pytest.mark.faults
def test_an_archive_killed_in_the_middle_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    url, folder = database_url(settings), tmp_path / "cold"
    folder.mkdir()
    with psycopg.connect(url, autocommit=True) as database:
        fill(database, 2500)
        before = contents(database)
        act(settings, lambda engine: retention.set_policy(engine, KEEPER, 86400, None))
        act(settings, lambda engine: retention.apply_policy(engine, gently=False))
        with psycopg.connect(url) as reader:
            # 有人正读着这个月：写好了、改了名，丢不掉，正等着——这时杀它。
            reader.execute("SELECT count(*) FROM history.jobs_202510")
            archiver = subprocess.Popen(
                [sys.executable, "-c", ARCHIVE, str(folder)], env={**os.environ, "SCNS_DATABASE_URL": url}
            )
            wait_until((folder / "2025-10").is_dir, 60, "写好了")
            archiver.kill()
            archiver.wait()
        assert contents(database) == before
        month = datetime(2025, 10, 1, tzinfo=UTC)

        async def both(engine: AsyncEngine) -> list[Any]:
            tries = (history_files.archive_month(engine, KEEPER, month, folder) for _ in range(2))
            return await asyncio.gather(*tries, return_exceptions=True)

        def again() -> Any:
            # 两个一起来的，一个不做；服务器还没有发现死了的那条会话时，两个都不做。
            done, other = sorted(act(settings, both), key=lambda each: isinstance(each, Exception))
            assert isinstance(other, (Conflict, NotFound))
            return done if isinstance(done, dict) else None

        done = wait_until(again, 60, "再归档")
        # 从前写好的不覆盖。
        assert sorted(path.name for path in folder.iterdir()) == ["2025-10", "2025-10.2"]
        assert _one(database, "SELECT count(*) FROM history.jobs WHERE end_time < '2025-11-01Z'") == 0
        loaded = act(settings, lambda engine: history_files.load_month(engine, KEEPER, folder / "2025-10.2"))
        assert (loaded, contents(database)) == (done["jobs"], before)


def act(settings: Settings, action: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """在这个库上做一件事。"""

    async def do() -> T:
        engine = async_engine(settings)
        try:
            return await action(engine)
        finally:
            await engine.dispose()

    return asyncio.run(do())


@pytest.mark.faults
def test_export_drop_load_backup_and_downgrade(settings: Settings, tmp_path: Path) -> None:
    url, folder = database_url(settings), tmp_path / "out"
    months = [datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)]

    def apply(engine: AsyncEngine) -> Awaitable[tuple[int, list[datetime]]]:
        return retention.apply_policy(engine, gently=False)

    def export(month: datetime, target: Path, form: str = "csv") -> Path:
        return act(settings, lambda engine: history_files.export_month(engine, KEEPER, month, target, form))

    def load(source: Path) -> int:
        return act(settings, lambda engine: history_files.load_month(engine, KEEPER, source))

    with psycopg.connect(url, autocommit=True) as database:
        fill(database, 9000)
        before = contents(database)
        act(settings, lambda engine: retention.set_policy(engine, KEEPER, 86400, None))
        assert act(settings, apply) == (9000, [])
        listed = re.findall(r"^(\d{4}-\d\d) +(\d+)", scns_on(url, "db", "retention"), re.MULTILINE)
        assert [month for month, _ in listed] == ["2025-10", "2025-11", "2025-12"]
        counts = [int(count) for _, count in listed]
        assert sum(counts) == 9000

        for month in months:
            export(month, folder)
        exported = folder / "2025-11"
        assert sorted(path.name for path in exported.iterdir()) == sorted(f"{table}.csv" for table in COLUMNS)
        assert {path.stat().st_mode & 0o777 for path in exported.iterdir()} == {0o600}
        with pytest.raises(Conflict, match="已经存在"):
            export(months[1], folder)
        with pytest.raises(NotFound, match="没有 2019-01"):
            export(datetime(2019, 1, 1, tzinfo=UTC), folder)
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(export(months[1], tmp_path / "columns", "parquet") / "jobs.parquet")
        assert table.num_rows == counts[1]
        assert json.loads(table.column("environment")[0].as_py()) == {"A": 'x,"y"\n'}
        # 没有的与空的分得清。
        assert table.column("account").null_count == table.num_rows
        events = parquet.read_table(tmp_path / "columns" / "2025-11" / "job_events.parquet")
        assert (events.column("message").null_count, events.column("message")[0].as_py()) == (0, "")
        assert str(table.schema.field("end_time").type) == "timestamp[us, tz=UTC]"

        # 丢掉整个都够久的月；装回来一行不差，装两遍也不重。
        act(settings, lambda engine: retention.set_policy(engine, KEEPER, 86400, 86400))
        assert act(settings, apply) == (0, months)
        assert moved(database) == 0
        act(settings, lambda engine: retention.set_policy(engine, KEEPER, 86400, None))
        assert [load(exported), load(exported)] == [counts[1], 0]
        assert load(folder / "2025-10") + load(folder / "2025-12") == 9000 - counts[1]
        assert contents(database) == before
        assert _one(database, "SELECT sum(jobs) FROM history.counts") == 9000
        (exported / "job_events.csv").unlink()
        with pytest.raises(InvalidRequest, match=r"没有 job_events\.csv"):
            load(exported)

        # 备份连同历史。
        backups.backup(settings, tmp_path / "dump")
        database.execute("DELETE FROM history.jobs")
    occupied = backups.occupancy(settings)
    tools = backups.readable_tools(settings, tmp_path / "dump", occupied.major)
    backups.restore(settings, tmp_path / "dump", tools, occupied)
    with psycopg.connect(url, autocommit=True) as database:
        assert contents(database) == before
        with pytest.raises(RuntimeError, match="bring-back"):
            migrations.downgrade(settings, BEFORE)
        while act(settings, lambda engine: retention.bring_back(engine, KEEPER)):
            pass
        assert _one(database, "SELECT count(*) FROM jobs") == 9000
        assert contents(database) == before
    migrations.downgrade(settings, BEFORE)
    with psycopg.connect(url, autocommit=True) as database:
        assert _one(database, "SELECT count(*) FROM jobs") == 9000


@pytest.mark.faults
def test_a_new_column_of_the_jobs_reaches_the_history(settings: Settings) -> None:
    """给 jobs 加列的迁移不管历史：升级之后历史的表也有，少了的也没有了。"""
    engine = sync_engine(settings)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE jobs ADD COLUMN project text, ADD COLUMN scratch int NOT NULL DEFAULT 5"
        )
        connection.exec_driver_sql("ALTER TABLE job_events DROP COLUMN message")
        match_columns(connection)
        for table in COLUMNS:
            names = [
                [
                    (row.attname, row.atttypid, row.attnotnull)
                    for row in connection.exec_driver_sql(
                        "SELECT attname, atttypid, attnotnull FROM pg_attribute "
                        f"WHERE attrelid = '{schema}.{table}'::regclass AND attnum > 0 AND NOT attisdropped "
                        f"AND attname NOT IN ('{JOB_END}', 'end_time') ORDER BY attname"
                    )
                ]
                for schema in ("public", "history")
            ]
            assert names[0] == names[1], table
    engine.dispose()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set",), "--move-after"),
        (("set", "--move-after", "soon"), "90d"),
        (("set", "--move-after", "0d"), "90d"),
        (("set", "--move-after", "never", "--drop-after", "10d"), "move_after"),
        (("set", "--move-after", "30d", "--drop-after", "10d"), "不比它短"),
        (("export", "x", "/tmp"), "2026-01"),
        (("load", "/nonexistent"), "nonexistent"),
        (("bring-back", "0"), "0"),
    ],
)
def test_bad_input_is_one_line(url: str, words: tuple[str, ...], said: str) -> None:
    done = warm_commands.run([SCNS, "db", "retention", *words], env={**os.environ, "SCNS_DATABASE_URL": url})
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [(), ("set", "--move-after", "60d"), ("run",), ("export", "2025-11", "."), ("bring-back", "3")]
)
def test_a_database_that_is_away_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = warm_commands.run(
        [SCNS, "db", "retention", *words],
        cwd=tmp_path,
        env={**os.environ, "SCNS_DATABASE_URL": f"postgresql://x@127.0.0.1:{free_port()}/x"},
    )
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("scns：连不上数据库")
    assert list(tmp_path.iterdir()) == []
