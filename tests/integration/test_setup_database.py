"""scns setup 建数据库的角色：Debian 的 PostgreSQL，从回环地址连不上时说出服务器为什么不让。"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from debian_postgres import DebianPostgres, debian_postgres
from running_system import free_port
from scns_conductor.local.setup.engines import ADMIN, Cluster, postgres_steps
from scns_conductor.local.setup.steps import SetupFailed, run_steps


@dataclass(frozen=True, slots=True)
class PrivateCluster(Cluster):
    """同一个 Cluster，只是语句经测试自己的服务器的套接字。"""

    server: DebianPostgres

    def ask(self, statement: str, *, database: str = ADMIN) -> str:
        """执行，不取结果。"""
        self.server.execute(statement, database)
        return "1"


@pytest.fixture
def server() -> Iterator[DebianPostgres]:
    with debian_postgres(tcp_port=free_port()) as running:
        yield running


def test_the_reason_of_the_server_is_told(server: DebianPostgres) -> None:
    (server.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 reject\n")
    server.execute("SELECT pg_reload_conf()")
    role, _ = postgres_steps(PrivateCluster("15", "main", server.port, server), "pass-word-1")
    with pytest.raises(SetupFailed, match=r"pg_hba\.conf rejects connection for host .*user \"scns\""):
        run_steps([role], dry_run=False, tell=lambda _: None)
