"""0003 -> 0004：升级时库里已有作业与运行中的分配，一行不丢；有借出的 CPU 时拒绝降级。"""

import psycopg
import pytest

from scns_conductor import migrations
from scns_conductor.core.database import database_url
from scns_conductor.core.settings import Settings


def connect(settings: Settings) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(database_url(settings), autocommit=True)


def test_jobs_of_the_previous_version_survive(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0003")
    with connect(empty_settings) as database:
        database.execute(
            "INSERT INTO nodes (name, address, cpus, memory, state, allocated_cpus) "
            "VALUES ('n1', 'n1', 4, 4096, 'UP', 2)"
        )
        database.execute(
            "INSERT INTO jobs (name, user_name, account, qos, partition, current_working_directory, script, state) "
            "VALUES ('old', 'alice', 'lab', 'gold', 'main', '/', 'true', 'RUNNING'), "
            "('older', 'alice', NULL, NULL, 'main', '/', 'true', 'COMPLETED')"
        )
        database.execute(
            "INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, tasks) "
            "VALUES (1, 0, 'n1', 0, 2, 0, 1)"
        )
    migrations.upgrade(empty_settings, "0004")
    with connect(empty_settings) as database:
        jobs = database.execute("SELECT name, account, qos, state, requested_end_grace FROM jobs ORDER BY job_id")
        assert jobs.fetchall() == [
            ("old", "lab", "gold", "RUNNING", None),
            ("older", None, None, "COMPLETED", None),
        ]
        assert database.execute("SELECT cpus, lent_cpus FROM resource_allocations").fetchall() == [(2, 0)]
        assert database.execute("SELECT name, parent FROM accounts").fetchall() == [("root", None)]
        assert database.execute("SELECT name FROM qos").fetchall() == [("normal",)]
        assert database.execute("SELECT account, user_name, qos FROM associations").fetchall() == [
            ("root", "", ["normal"])
        ]
        # 建好的约束真的管用。
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute("INSERT INTO accounts (name, parent) VALUES ('top', NULL)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            database.execute("INSERT INTO associations (account) VALUES ('nosuch')")
        database.execute("UPDATE resource_allocations SET cpus = 0, lent_cpus = 2")
    with pytest.raises(RuntimeError, match="挂起"):
        migrations.downgrade(empty_settings, "0003")
    assert migrations.current(empty_settings) == "0004"
    with connect(empty_settings) as database:
        database.execute("UPDATE resource_allocations SET cpus = 2, lent_cpus = 0")
    migrations.downgrade(empty_settings, "0003")
    with connect(empty_settings) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
