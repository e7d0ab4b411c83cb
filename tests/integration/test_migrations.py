"""每一个版本的库，每张表都有行：升级到最新，一行不丢，值不变；隔几个版本的还降回去、再升级，升级后的系统读得出、接着用。

新的迁移自动列入。新的表没有写例子的，按类型造一行；造不出来（CHECK、外键）就在 EXAMPLES 里写上。
"""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from running_system import wait_until
from scns_conductor import migrations
from scns_conductor.api.app import build_app
from scns_conductor.core.database import sync_engine
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token

# 表 -> 各行；只写与缺省不同的、造不出来的。那个版本还没有的列不写进去。
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "accounts": [{"name": "lab", "parent": "root"}],
    "users": [{"name": "alice", "default_account": "lab"}],
    "qos": [{"name": "gold", "priority": 5}],
    "associations": [{"account": "lab", "user_name": "alice"}],
    "partitions": [{"name": "old", "nodes": "n[1-2]", "max_time": 3600}],
    "nodes": [
        {
            "name": "n1", "address": "n1", "cpus": 4, "memory": 4096, "state": "UP", "allocated_cpus": 2,
            "last_heartbeat": sa.func.clock_timestamp(),
        },
    ],
    "jobs": [
        {"job_id": 1, "state": "RUNNING", "start_time": sa.func.now(), "node_list": "n1", "allocated_cpus": 2},
        {"job_id": 2, "state": "COMPLETED", "start_time": sa.func.now(), "end_time": sa.func.now(), "exit_status": 0},
        {"job_id": 3, "state": "PENDING", "cpus_per_task": 1},
        {
            "job_id": 4, "state": "PENDING", "hold": True, "array_job_id": 4, "required_switches": 2,
            "array_remaining": sa.text("'{[3,7)}'::int4multirange"),
        },
    ],
    "resource_allocations": [
        {"job_id": 1, "restart_count": 0, "node_name": "n1", "node_index": 0, "cpus": 2, "memory": 0, "tasks": 1},
    ],
    "job_steps": [{"nodes": ["n1"], "node_tasks": [1], "node_cpus": [1], "pending_nodes": ["n1"], "state": "RUNNING"}],
    "job_events": [{"to_state": "PENDING", "cause": "submitted", "actor": "alice"}],
    "job_outputs": [{"stream": "stdout", "content": b"\x00\xff", "total_bytes": 2}],
    "reservations": [{"name": "maint", "end_time": sa.text("now() + interval '1 hour'"), "nodes": "n2"}],
    "scheduler_inbox": [{"kind": "job"}],
    "usage_rollups": [{"period": "hour"}],
    "webhooks": [{"scope": "user", "format": "json", "url": "https://example.org/"}],
}  # fmt: skip
COMMON = {
    "name": "old", "user_name": "alice", "partition": "main", "current_working_directory": "/", "script": "true\n",
}  # fmt: skip


def revisions() -> list[str]:
    """从最早到最新。"""
    folder = ScriptDirectory(str(Path(migrations.__file__).parent))
    return [script.revision for script in folder.walk_revisions()][::-1]


class Database:
    """一个库：按当时的结构填行，取出全部行。"""

    def __init__(self, settings: Settings) -> None:
        self.engine = sync_engine(settings, lookups=False, limits=False, pooled=False)

    def tables(self) -> list[sa.Table]:
        found = sa.MetaData()
        found.reflect(self.engine)
        return [table for table in found.sorted_tables if table.name != "alembic_version"]

    def fill(self) -> None:
        """每张表都有行。"""
        with self.engine.begin() as connection:
            for table in self.tables():
                for example in EXAMPLES.get(table.name, [{}]):
                    # 只有一行的，迁移写下了。
                    if "singleton" in table.columns and connection.scalar(_count(table)):
                        continue
                    given = {name: value for name, value in example.items() if name in table.columns}
                    connection.execute(table.insert().values({**_required(connection, table), **given}))
            # 行的号是写死的：让序列跟上。
            connection.execute(sa.text("SELECT setval(pg_get_serial_sequence('jobs', 'job_id'), 100)"))
            empty = [table.name for table in self.tables() if not connection.scalar(_count(table))]
        assert empty == []

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """各表的全部行，次序固定。"""
        with self.engine.connect() as connection:
            return {
                table.name: sorted((dict(row) for row in connection.execute(table.select()).mappings()), key=repr)
                for table in self.tables()
            }


def _count(table: sa.Table) -> "sa.Select[tuple[int]]":
    return sa.select(sa.func.count()).select_from(table)


def _required(connection: sa.Connection, table: sa.Table) -> dict[str, Any]:
    """必须写的列：外键取那张表已有的，别的按类型造。"""
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.nullable or column.server_default is not None or column.computed or column.identity:
            continue
        if column.foreign_keys:
            values[column.name] = connection.scalar(sa.select(next(iter(column.foreign_keys)).column).limit(1))
        else:
            values[column.name] = COMMON.get(column.name) if table.name == "jobs" else _made(column.type)
    return values


def _made(kind: sa.types.TypeEngine[Any]) -> Any:
    if isinstance(kind, sa.ARRAY):
        return [_made(kind.item_type)]
    if isinstance(kind, sa.DateTime):
        return sa.func.now()
    if isinstance(kind, sa.JSON):
        return {}
    if isinstance(kind, sa.LargeBinary):
        return b"x"
    if isinstance(kind, sa.Boolean):
        return True
    return 1 if isinstance(kind, sa.Integer | sa.Numeric | sa.Float) else "x"


def lost(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> list[str]:
    """before 里有而 after 里没有的行：只比两边都有的列；表没有了不算（降级）。"""
    missing = []
    for name, rows in before.items():
        for row in rows if name in after else []:
            shared = row.keys() & (after[name][0].keys() if after[name] else set())
            if not shared or not any(all(row[key] == other[key] for key in shared) for other in after[name]):
                missing.append(f"{name}：{row}")
    return missing


def _chosen() -> list[Any]:
    """最新的在 make test 里，其余在 make test-faults 里。"""
    every = revisions()
    return [pytest.param(name, marks=() if name in every[-1:] else pytest.mark.faults) for name in every]


@pytest.mark.parametrize("revision", _chosen())
def test_rows_of_every_version_survive_and_the_system_goes_on(empty_settings: Settings, revision: str) -> None:
    every = revisions()
    # 起 API 与调度器、来回各一遍很贵：最早的、最近的几个与隔几个的做。
    whole = every.index(revision) % 6 == 0 or revision in every[-3:]
    migrations.upgrade(empty_settings, revision)
    database = Database(empty_settings)
    database.fill()
    old = database.rows()

    migrations.upgrade(empty_settings)
    new = database.rows()
    assert new.keys() >= old.keys()
    assert lost(old, new) == []
    if not whole:
        return

    try:
        migrations.downgrade(empty_settings, revision)
    except (RuntimeError, NotImplementedError):
        assert migrations.current(empty_settings) == wanted_version()
    else:
        assert lost(old, database.rows()) == []
        migrations.upgrade(empty_settings)
    assert lost(old, database.rows()) == []
    asyncio.run(reads(empty_settings))
    schedules(empty_settings, database)


async def reads(settings: Settings) -> None:
    """API 认得这些行。"""
    app = build_app(settings)
    headers = {"Authorization": f"Bearer {issue_token(settings, 'alice', admin=True)}"}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://scns", headers=headers) as client,
    ):
        assert (await client.get("/health/ready")).status_code == 200
        found = (await client.get("/jobs", params={"limit": 100})).json()["jobs"]
        assert {job["job_id"]: job["state"] for job in found} == {
            "1": "RUNNING", "2": "COMPLETED", "3": "PENDING", "4": "PENDING",
        }  # fmt: skip
        for path in ("/jobs/query/1", "/jobs/2", "/jobs/1/events", "/jobs/steps?job_id=1", "/nodes", "/partitions",
                     "/qos", "/accounts", "/associations", "/reservations", "/dashboard"):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text)
        job = {"job": {"current_working_directory": "/"}, "script": "true\n"}
        assert (await client.post("/jobs/submit", json=job)).json() == {"job_id": "101"}


def schedules(settings: Settings, database: Database) -> None:
    """调度器装得下这些行，启动排着的作业，运行着的不碰。"""
    process = subprocess.Popen(
        [sys.executable, "-m", "scns_conductor.worker.scheduler.process"],
        env={
            **os.environ,
            "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
            "SCNS_REDIS_URL": settings.redis_url.get_secret_value(),
            "SCNS_DATA_DIR": str(settings.data_dir),
        },
    )

    def states() -> dict[int, str]:
        with database.engine.connect() as connection:
            found = connection.execute(sa.text("SELECT job_id, state FROM jobs"))
            return {int(job_id): state for job_id, state in found}

    try:
        wait_until(lambda: states()[3] == "RUNNING" and process.poll() is None, 90, "排着的作业启动")
        assert (states()[1], states()[2], states()[4]) == ("RUNNING", "COMPLETED", "PENDING")
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.faults
def test_an_upgrade_that_deadlocks_with_the_running_system_is_done_again(empty_settings: Settings) -> None:
    """运行中的系统先碰 nodes 再碰迁移已经锁着的：服务器撤销迁移，它从头再来，成了。"""
    migrations.upgrade(empty_settings, "0012")
    url = empty_settings.database_url.get_secret_value()
    held = (
        "SELECT c.relname FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation "
        "JOIN pg_locks AS w ON w.pid = l.pid WHERE NOT w.granted AND w.relation = 'nodes'::regclass AND l.granted "
        "AND l.mode = 'AccessExclusiveLock' AND c.relname IN ('jobs', 'resource_allocations', 'partitions')"
    )
    with (
        psycopg.connect(url, autocommit=True) as admin,
        psycopg.connect(url) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        # 先发现的是迁移；这一条会话自己不去发现。
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET deadlock_timeout = '10s'")
        running.execute("SET LOCAL deadlock_timeout = '1h'")
        running.execute("LOCK TABLE nodes IN ROW EXCLUSIVE MODE")
        upgrading = pool.submit(migrations.upgrade, empty_settings)
        (table,) = wait_until(lambda: upgrading.done() or admin.execute(held).fetchone(), 60, "迁移等着 nodes")
        running.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")
        running.commit()
        upgrading.result(60)
    assert migrations.current(empty_settings) == wanted_version()
