"""时间点恢复（docs/backup.md）：基础备份加归档的 WAL，退回到一个时刻；没有人告诉节点，它们自己发现。"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from node_yard import NodeYard
from restore_yard import a_heartbeat_passes, old_jobs, pid_of
from shepherd_yard import alive, wait_until

from scns_conductor import migrations
from scns_conductor.core.settings import Settings
from scns_conductor.local.engine_user import choose_engine_user, place_programs
from scns_conductor.local.engines import Engines
from scns_conductor.local.postgres import PROGRAM_TREES, PROGRAMS, _installation
from scns_conductor.statements.incarnation import JOB_ID_MARGIN

WAITS = "echo $$ > old_$SLURM_JOB_ID\nuntil [ -e go ]; do sleep 0.05; done\nexit 7\n"


class Server:
    """一个自己的 PostgreSQL，归档着 WAL。"""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.user = choose_engine_user(home / "data")
        self.programs = place_programs(_installation(), PROGRAM_TREES, f"{PROGRAMS}/initdb", "postgres", self.user)
        self.user.own(home)
        self.run("mkdir", f"{home}/archive")
        self.program("initdb", "-D", f"{home}/data", "-U", "scns", "--auth=trust", "--no-sync")
        self.configure(
            "listen_addresses = ''",
            f"unix_socket_directories = '{home}'",
            "archive_mode = on",
            f"archive_command = 'test ! -f {home}/archive/%f && cp %p {home}/archive/%f'",
        )
        self.start()

    def run(self, *command: str) -> None:
        subprocess.run(
            command, check=True, timeout=120, cwd="/", stdout=subprocess.DEVNULL, **self.user.popen_options()
        )

    def program(self, name: str, *arguments: str) -> None:
        self.run(str(self.programs / PROGRAMS / name), *arguments)

    def configure(self, *lines: str) -> None:
        with open(self.home / "data/postgresql.conf", "a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def start(self) -> None:
        self.program("pg_ctl", "-D", f"{self.home}/data", "-w", "-l", f"{self.home}/log", "start")

    def stop(self, mode: str = "fast") -> None:
        self.program("pg_ctl", "-D", f"{self.home}/data", "-w", "-m", mode, "stop")

    @property
    def url(self) -> str:
        return f"postgresql://scns@/postgres?host={self.home}"

    def archived(self) -> None:
        """到此为止的 WAL 都进了归档。"""
        with psycopg.connect(self.url, autocommit=True) as connection:
            name = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
            connection.execute("SELECT pg_switch_wal()")
        assert name is not None
        wait_until((self.home / "archive" / name[0]).exists, "WAL 进了归档")

    def rewind(self, target: str) -> None:
        """docs/backup.md 的步骤：停下，换上基础备份，重放到 target。"""
        self.stop()
        self.run("mv", f"{self.home}/data", f"{self.home}/data.old")
        self.run("cp", "-a", f"{self.home}/base", f"{self.home}/data")
        self.configure(
            f"restore_command = 'cp {self.home}/archive/%f %p'",
            f"recovery_target_name = '{target}'",
            "recovery_target_action = promote",
        )
        self.run("touch", f"{self.home}/data/recovery.signal")
        self.start()
        with psycopg.connect(self.url, autocommit=True) as connection:
            wait_until(
                lambda: connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,),
                "重放完毕",
                wait_s=60,
            )


@pytest.fixture
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="scns-pitr-"))
    running = Server(home)
    yield running
    running.stop("immediate")
    shutil.rmtree(home)


@pytest.fixture
def yard(server: Server, engines: Engines, tmp_path: Path) -> Iterator[NodeYard]:
    settings = Settings(
        database_url=server.url, redis_url=engines.redis_url, data_dir=tmp_path, single_user=True, allow_root_jobs=True
    )
    migrations.upgrade(settings)
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def test_a_database_recovered_to_a_point_in_time_is_noticed(server: Server, yard: NodeYard) -> None:
    yard.start_agent()
    across = yard.run(WAITS)
    yard.exists(f"old_{across}")
    server.program("pg_basebackup", "-h", str(server.home), "-U", "scns", "-D", f"{server.home}/base", "-c", "fast")
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
