"""数据库的结构比程序旧或新：调度器与代理说一次、等着，不当选、不登记；换好之后自己开始。"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory

from running_system import wait_until
from scns_conductor import migrations
from scns_conductor.core.schema_version import known_versions, wanted_version
from scns_conductor.core.settings import Settings


def connect(settings: Settings) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(settings.database_url.get_secret_value(), autocommit=True)


class Process:
    """一个服务，标准错误写在 log。"""

    def __init__(self, settings: Settings, module: str, folder: Path) -> None:
        self.path = folder / f"{module}.log"
        environment = {
            **os.environ,
            "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
            "SCNS_REDIS_URL": settings.redis_url.get_secret_value(),
            "SCNS_DATA_DIR": str(folder),
            "SCNS_SCRIPT_DIR": str(folder / "scripts"),
            "SCNS_NODE_NAME": "n1",
            "SCNS_SINGLE_USER": "true",
        }
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=log, cwd=folder)

    @property
    def log(self) -> str:
        return self.path.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGUSR1 if "agent" in self.path.name else signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture
def services(settings: Settings, tmp_path: Path) -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        each.stop()


def test_the_version_the_code_wants_is_the_head_of_the_migrations() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert wanted_version() == scripts.get_current_head()
    assert known_versions() == {each.revision for each in scripts.walk_revisions()}


@pytest.mark.faults
@pytest.mark.parametrize(("version", "remedy"), [("0001", "scns db upgrade"), ("9999", "请升级")])
def test_a_database_behind_or_ahead_is_waited_for_and_told_once(
    settings: Settings, services: list[Process], tmp_path: Path, version: str, remedy: str
) -> None:
    with connect(settings) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [version])
        for module in ("scns_conductor.worker.scheduler.process", "scns_conductor.worker.agent.process"):
            services.append(Process(settings, module, tmp_path))
        for each in services:
            wait_until(lambda each=each: "schema_mismatch" in each.log, 60, "说出结构不符")  # type: ignore[misc]
            assert remedy in each.log
        connection.execute("UPDATE alembic_version SET version_num = %s", [wanted_version()])
        wait_until(lambda: "leader_elected" in services[0].log, 60, "当选")
        up = "SELECT count(*) FROM nodes WHERE name = 'n1' AND state = 'UP'"
        wait_until(lambda: connection.execute(up).fetchone() == (1,), 60, "节点上线")
    for each in services:
        assert each.log.count("schema_mismatch") == 1
        before = each.log[: each.log.index("schema_ready")]
        assert "leader_elected" not in before
        assert "Traceback" not in each.log


@pytest.mark.faults
def test_an_empty_database_is_waited_for(empty_settings: Settings, tmp_path: Path) -> None:
    scheduler = Process(empty_settings, "scns_conductor.worker.scheduler.process", tmp_path)
    try:
        wait_until(lambda: "schema_mismatch" in scheduler.log, 60, "说出没有结构")
        migrations.upgrade(empty_settings)
        wait_until(lambda: "leader_elected" in scheduler.log, 60, "当选")
        assert scheduler.log.count("schema_mismatch") == 1
    finally:
        scheduler.stop()
