"""0008 -> 0009：已有的作业与预留一行不丢，新列是空的；降级再升级也行。"""

import psycopg

from scns_conductor import migrations
from scns_conductor.core.database import database_url
from scns_conductor.core.settings import Settings


def test_jobs_and_reservations_of_the_previous_version_survive(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0008")
    with psycopg.connect(database_url(empty_settings), autocommit=True) as database:
        database.execute(
            "INSERT INTO jobs (name, user_name, partition, current_working_directory, script) "
            "VALUES ('old', 'alice', 'p,q', '/', 'true')"
        )
        database.execute(
            "INSERT INTO reservations (name, start_time, end_time, nodes, created_by, partition) "
            "VALUES ('maint', now(), now() + interval '1 hour', 'ALL', 'root', 'p')"
        )
        migrations.upgrade(empty_settings, "0009")
        jobs = database.execute("SELECT name, partition, requested_partitions FROM jobs").fetchall()
        assert jobs == [("old", "p,q", None)]
        reservations = database.execute("SELECT name, partition, licenses FROM reservations").fetchall()
        assert reservations == [("maint", "p", None)]
        database.execute(
            "UPDATE jobs SET array_base = 4, array_step = 3, array_remaining = '{[0,2),[5,6)}' WHERE name = 'old'"
        )
        migrations.downgrade(empty_settings, "0008")
        assert database.execute("SELECT array_remaining::text FROM jobs").fetchone() == ("{[4,5),[7,8),[19,20)}",)
        migrations.upgrade(empty_settings, "0009")
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM reservations").fetchone() == (1,)
