"""时间点恢复（docs/backup.md）：基础备份加归档的 WAL，退回到一个时刻；没有人告诉节点，它们自己发现。"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from node_yard import NodeYard
from restore_yard import a_heartbeat_passes, old_jobs, pid_of
from shepherd_yard import alive, wait_until

from debian_postgres import DebianPostgres, started_postgres
from scns_conductor import migrations
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scns_conductor.statements.incarnation import JOB_ID_MARGIN

pytestmark = pytest.mark.faults

WAITS = "echo $$ > old_$SLURM_JOB_ID\nuntil [ -e go ]; do sleep 0.1; done\nexit 7\n"


def _archiving(folder: Path) -> Sequence[str]:
    return (
        "archive_mode=on",
        f"archive_command=mkdir -p {folder}/archive && test ! -f {folder}/archive/%f && cp %p {folder}/archive/%f",
    )


class ArchivingPostgres(DebianPostgres):
    """归档着 WAL，能退回到一个恢复点。"""

    def archived(self) -> None:
        """到此为止的 WAL 都进了归档。"""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            name = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
            connection.execute("SELECT pg_switch_wal()")
        assert name is not None
        wait_until((self.folder / "archive" / name[0]).exists, "WAL 进了归档")

    def rewind(self, target: str) -> None:
        """docs/backup.md 的步骤：停下，换上基础备份，重放到 target。"""
        self.stop()
        self.run("mv", self.data, f"{self.folder}/data.old")
        self.run("cp", "-a", f"{self.folder}/base", self.data)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(
                f"restore_command = 'cp {self.folder}/archive/%f %p'\n"
                f"recovery_target_name = '{target}'\n"
                "recovery_target_action = promote\n"
            )
        self.run("touch", f"{self.data}/recovery.signal")
        self.start()
        with psycopg.connect(self.url(), autocommit=True) as connection:
            wait_until(
                lambda: connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,),
                "重放完毕",
                wait_s=60,
            )


@pytest.fixture
def server() -> Iterator[ArchivingPostgres]:
    with started_postgres(ArchivingPostgres, _archiving) as running:
        yield running


@pytest.fixture
def yard(server: ArchivingPostgres, engines: Engines, tmp_path: Path) -> Iterator[NodeYard]:
    settings = Settings(
        database_url=server.url(),
        redis_url=engines.redis_url,
        data_dir=tmp_path,
        single_user=True,
        allow_root_jobs=True,
    )
    migrations.upgrade(settings)
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def test_a_database_recovered_to_a_point_in_time_is_noticed(server: ArchivingPostgres, yard: NodeYard) -> None:
    yard.start_agent()
    across = yard.run(WAITS)
    yard.exists(f"old_{across}")
    server.program("pg_basebackup", "-d", server.url(), "-D", f"{server.folder}/base", "-c", "fast")
    pending = yard.submit("echo x >> run_$SLURM_JOB_ID\nexec sleep 600\n")
    yard.query("SELECT pg_create_restore_point('before')")
    before = yard.query("SELECT incarnation FROM system_incarnation")
    yard.start(pending)
    yard.exists(f"run_{pending}")
    later = old_jobs(yard)
    pids = [pid_of(yard, job_id) for job_id in later]
    a_heartbeat_passes(yard)
    server.archived()
    yard.engine.dispose()
    server.rewind("before")
    wait_until(lambda: yard.query("SELECT incarnation FROM system_incarnation") != before, "节点发现退回到了从前")
    wait_until(lambda: not any(map(alive, pids)), "之后启动的进程都被结束")
    assert [row["state"] for row in yard.query("SELECT state FROM jobs ORDER BY job_id")] == ["RUNNING", "PENDING"]
    assert yard.submit("exit 0\n") >= max(later) + JOB_ID_MARGIN
    yard.start(pending)
    wait_until(lambda: (yard.output / f"run_{pending}").read_text() == "x\n", "排队的重新启动，从头写输出")
    yard.request_end(pending, "CANCELLED")
    assert yard.ended(pending)["state"] == "CANCELLED"
    (yard.output / "go").touch()
    assert yard.ended(across)["exit_status"] == 7
