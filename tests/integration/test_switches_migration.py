"""0007 -> 0006（编号早定，次序在后）：已有的作业与预留一行不丢；降级再升级也行。"""

import psycopg

from scns_conductor import migrations
from scns_conductor.core.database import database_url
from scns_conductor.core.settings import Settings


def test_jobs_and_reservations_of_the_previous_version_survive(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0007")
    with psycopg.connect(database_url(empty_settings), autocommit=True) as database:
        database.execute(
            "INSERT INTO jobs (name, user_name, partition, current_working_directory, script, required_switches) "
            "VALUES ('old', 'alice', 'main', '/', 'true', 2)"
        )
        database.execute(
            "INSERT INTO reservations (name, start_time, end_time, nodes, created_by) "
            "VALUES ('maint', now(), now() + interval '1 hour', 'ALL', 'root')"
        )
        migrations.upgrade(empty_settings, "0006")
        jobs = database.execute("SELECT name, required_switches, maximum_switch_wait_time FROM jobs").fetchall()
        assert jobs == [("old", 2, None)]
        assert database.execute("SELECT name, partition FROM reservations").fetchall() == [("maint", None)]
        migrations.downgrade(empty_settings, "0007")
        migrations.upgrade(empty_settings, "0006")
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
