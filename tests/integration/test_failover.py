"""主库死了、同步的备库接任（docs/database.md）：一个地址写两台主机，答应过的作业一个不丢、一个不重，没有人重启任何进程。"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from debian_postgres import debian_programs, deployed_system
from running_system import free_port, wait_until
from scns_conductor.local.engine_user import choose_engine_user
from scns_conductor.local.engines import Engines

JOBS = 20


class Pair:
    """Debian 的 PostgreSQL：一个主库与一个同步的备库，都听回环地址。"""

    def __init__(self, folder: Path) -> None:
        programs = debian_programs()
        assert programs is not None, "没有装 Debian 的 postgresql；.ci/run 会装"
        self.programs = programs
        self.folder = folder
        self.user = choose_engine_user(folder / "primary")
        self.user.own(folder)
        self.ports = {name: free_port() for name in ("primary", "standby")}
        self.run("initdb", "-D", f"{folder}/primary", "-U", "scns", "-A", "trust", "--no-sync")
        self.start("primary")
        self.run("pg_basebackup", "-d", self.url("primary"), "-D", f"{folder}/standby", "-R", "-X", "stream")
        self.start("standby")
        with psycopg.connect(self.url("primary"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_until(lambda: connection.execute(query).fetchone() == (1,), 30, "备库同步")

    def run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / name, *arguments], check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL,
            **self.user.popen_options(),
        )  # fmt: skip

    def start(self, name: str) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.ports[name]} -c unix_socket_directories={self.folder}"
        self.run(
            "pg_ctl", "-D", f"{self.folder}/{name}", "-w", "-l", f"{self.folder}/{name}.log", "-o", options, "start"
        )

    def kill_primary(self) -> None:
        """kill -9 主进程；它的子进程发现之后自己退出。"""
        os.kill(int((self.folder / "primary/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def promote(self) -> None:
        self.run("pg_ctl", "-D", f"{self.folder}/standby", "-w", "promote")

    def stop(self) -> None:
        for name in self.ports:
            pid = self.folder / name / "postmaster.pid"
            if pid.exists():
                subprocess.run(
                    [self.programs / "pg_ctl", "-D", self.folder / name, "-m", "immediate", "stop"],
                    check=False, timeout=60, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    **self.user.popen_options(),
                )  # fmt: skip

    def url(self, *names: str) -> str:
        hosts = ",".join(f"127.0.0.1:{self.ports[name]}" for name in names)
        return f"postgresql://scns@{hosts}/postgres?target_session_attrs=read-write&sslmode=prefer&keepalives=1"


@pytest.fixture
def pair() -> Iterator[Pair]:
    # 直接在 /tmp 下：引擎用户走得到。
    folder = Path(tempfile.mkdtemp(prefix="scns-pair-"))
    servers = Pair(folder)
    yield servers
    servers.stop()
    shutil.rmtree(folder)


def test_jobs_survive_a_failover(pair: Pair, engines: Engines, tmp_path: Path) -> None:
    with deployed_system(tmp_path / "system", pair.url("primary", "standby"), engines.redis_url) as system:
        out = tmp_path / "out"
        out.mkdir()
        script = f"echo x >> {out}/$SLURM_JOB_ID\nuntil [ -e {out}/go ]; do sleep 0.1; done\n"
        before = [system.submit(script) for _ in range(JOBS)]
        wait_until(lambda: any(system.query(job)["state"] == "RUNNING" for job in before), 30, "有的在运行")
        pair.kill_primary()
        # 没有主库：说没有就绪，不收作业。
        wait_until(lambda: system.call("GET", "/health/ready")[0] == 503, 30, "没有就绪")
        pair.promote()
        wait_until(lambda: system.call("GET", "/health/ready")[0] == 200, 60, "就绪")
        after = [system.submit(script) for _ in range(JOBS)]
        (out / "go").touch()
        for job in [*before, *after]:
            assert system.wait_state(job, "COMPLETED", "FAILED", "NODE_FAIL")["state"] == "COMPLETED"
            assert (out / job).read_text() == "x\n"
