"""Debian 的 PostgreSQL 一主一备（同步），都听回环地址：提升备库，旧的主库重建成新的备库。测试与混沌测试共用。"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from debian_postgres import DebianPostgres
from running_system import free_port, wait_until
from scns_conductor.local.engine_user import choose_engine_user

SYNC_WAIT_S = 60.0


class PostgresPair:
    """folder 直接在 /tmp 下：引擎用户走得到。提升与重建由使用者决定，没有谁自动做（像 Patroni 那样的在部署里）。"""

    def __init__(self, folder: Path) -> None:
        choose_engine_user(folder / "a").own(folder)
        self.primary, self.standby = (
            DebianPostgres(folder / name, (f"cluster_name={name}",), tcp_port=free_port()) for name in ("a", "b")
        )
        self.primary.start()
        self._join()

    @property
    def url(self) -> str:
        """两台都写上，谁可写用谁（docs/database.md）。"""
        ports = sorted(server.port for server in (self.primary, self.standby))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://scns@{hosts}/postgres?target_session_attrs=read-write&sslmode=prefer&keepalives=1"

    def fail_over(self) -> None:
        """提升备库。主库已经死了。"""
        self.standby.program("pg_ctl", "-D", f"{self.standby.data}", "-w", "promote")
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """死了的那个从主库抄一份，成为新的备库；同步之后才又要求同步。"""
        self.standby.stop()
        shutil.rmtree(self.standby.data)
        self._join()

    def _join(self) -> None:
        self.standby.copy_of(self.primary)
        self.standby.start()
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        with psycopg.connect(self.primary.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
            query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_until(lambda: connection.execute(query).fetchone() == (1,), SYNC_WAIT_S, "备库同步")

    def stop(self) -> None:
        """都停下。"""
        for server in (self.primary, self.standby):
            server.stop()


@contextlib.contextmanager
def running_pair() -> Iterator[PostgresPair]:
    """起好的一主一备，离开时停掉、删掉。"""
    folder = Path(tempfile.mkdtemp(prefix="scns-pair-"))
    servers = PostgresPair(folder)
    try:
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder)
