"""scripts/health_check.py：好的系统退出码 0（--deep 真的跑一个作业），坏了的说出是哪一样。"""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import warm_commands
import warm_processes
from running_system import RunningSystem, server_environment, wait_until
from scns_conductor import migrations
from scns_conductor.core import database
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.errors import ServiceUnavailable
from scns_conductor.core.settings import Settings
from scns_conductor.language.catalogue import CHINESE
from scns_conductor.services.server_facts import database_report

SCRIPT = Path(__file__).parents[2] / "scripts" / "health_check.py"


def check(system: RunningSystem, *options: str, **changed: str) -> tuple[int, str]:
    environment = {**system.environment, **server_environment(system), **changed}
    done = warm_commands.run([SCRIPT, *options], env=environment)
    return done.returncode, done.stdout + done.stderr


def test_a_good_system_passes_even_with_a_real_job(running_system: RunningSystem) -> None:
    code, text = check(running_system, "--deep")
    assert code == 0, text
    assert "不好" not in text
    assert text.count("正常") == 7


def test_it_speaks_the_language_of_its_user(running_system: RunningSystem) -> None:
    for options, changed, wanted in (
        ((), {}, 0),
        (("--deep", "--partition", "nosuch"), {}, 7),
        ((), {"SCNS_URL": "http://127.0.0.1:1"}, 6),
        ((), {"SCNS_REDIS_URL": "redis://127.0.0.1:1/0"}, 3),
        (("--skip-api",), {"SCNS_DATABASE_URL": "postgresql://scns:x@127.0.0.1:1/scns"}, 1),
        (("--help",), {}, 0),
        (("--nosuch",), {}, 2),
    ):
        code, text = check(running_system, *options, SCNS_LANG="en", **changed)
        assert code == wanted, text
        assert text
        assert not CHINESE.search(text), text
        assert CHINESE.search(check(running_system, *options, SCNS_LANG="zh", **changed)[1])


def test_the_exit_code_says_what_is_wrong(running_system: RunningSystem) -> None:
    nowhere = "postgresql://scns:x@127.0.0.1:1/scns"
    code, text = check(running_system, SCNS_DATABASE_URL=nowhere)
    assert code == 1, text
    # 一个原因说一遍，没有驱动程序的原话（类的名字）。
    assert (text.count("连不上"), text.count("数据库不答，看不了"), text.count("psycopg")) == (1, 4, 0), text
    code, text = check(running_system, SCNS_REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, text.count("不好")) == (3, 1), text
    code, text = check(running_system, SCNS_URL="http://127.0.0.1:1")
    assert (code, text.count("不好")) == (6, 1), text
    assert check(running_system, "--skip-api", SCNS_URL="http://127.0.0.1:1")[0] == 0


def test_a_deep_check_as_root_runs_as_somebody_who_may(running_system: RunningSystem) -> None:
    code, text = check(running_system, "--deep", SCNS_ALLOW_ROOT_JOBS="false")
    assert code == 0, text
    assert "nobody" in text or os.geteuid() != 0
    code, text = check(running_system, "--deep", "--user", "alice")
    assert code == 0, text
    assert "用户 alice" in text


def test_a_refused_job_shows_what_the_server_said(running_system: RunningSystem) -> None:
    code, text = check(running_system, "--deep", "--partition", "nosuch")
    assert code == 7, text
    assert "没有分区 'nosuch'" in text
    assert "partition_unknown" in text


def test_an_api_on_another_database_is_somebody_elses(running_system: RunningSystem, settings: Settings) -> None:
    code, text = check(
        running_system, SCNS_DATABASE_URL=settings.database_url.get_secret_value(), SCNS_URL=running_system.url
    )
    # 那个库里没有领导者也没有节点；API 是好的，但不是它的。
    assert code == 4, text
    assert "是别的系统" in text


def test_the_api_is_found_without_a_url(running_system: RunningSystem) -> None:
    """没有 SCNS_URL 时不去猜 127.0.0.1:6820：数据目录里写着。"""
    code, text = check(running_system, SCNS_URL="")
    assert code == 0, text
    assert running_system.url in text


def test_health_is_not_ready_without_scheduler_and_nodes(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
        "SCNS_DATA_DIR": str(settings.data_dir),
        "SCNS_API_PORT": str(port),
        "SCNS_URL": f"http://127.0.0.1:{port}",
    }
    with open(settings.data_dir / "api.log", "wb") as log:
        api = warm_processes.start("scns_conductor.api", env=environment, stderr=log)
    try:

        def health() -> "subprocess.CompletedProcess[str]":
            command = [str(Path(sys.executable).parent / "scns"), "health"]
            return warm_commands.run(command, env=environment)

        wait_until(lambda: "checks" in health().stdout or "database" in health().stdout, 60, "API 应答")
        done = health()
        assert done.returncode == 1, done.stdout
        assert "没有调度器" in done.stdout
        assert "没有可用的节点" in done.stdout
    finally:
        api.terminate()
        api.wait(30)


def test_a_server_that_falls_short_is_told_with_the_line_to_change() -> None:
    facts = {
        "version": "13.9", "major": 13, "instance": "x", "standby": False, "read_only": False, "fsync": "off",
        "full_page_writes": "on", "autovacuum": "on", "track_counts": "off",
        "shared_buffers": "16MB", "shared_buffers_bytes": 16 * 1024**2,
        "max_connections": 100, "notify_usage": 0.0,
    }  # fmt: skip
    report = database_report(facts, nodes=200, pool_size=10)
    assert report["status"] == "too_old"
    text = "\n".join(report["shortfalls"])
    reload, restart = "SELECT pg_reload_conf()", "重启 PostgreSQL"
    for line, then in {
        "fsync = on": reload,
        "track_counts = on": reload,
        "shared_buffers = 128MB": restart,
        "max_connections = 450": restart,
    }.items():
        assert f"改成 {line}，然后{'' if then == restart else ' '}{then}" in text
    assert "full_page_writes" not in text
    standby = database_report({**facts, "major": 15, "read_only": True, "standby": True}, 0, 10)
    assert (standby["status"], "备库" in standby["remedy"]) == ("read_only", True)


def test_a_server_too_old_is_refused_by_every_engine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """14 以前的装不到这里：把要求提高到没有服务器够得着。"""
    monkeypatch.setattr(database, "MINIMUM_VERSION", 999)
    with pytest.raises(ServiceUnavailable, match="太旧"):
        migrations.upgrade(settings)

    async def ask() -> None:
        async with async_engine(settings).connect():
            pass

    with pytest.raises(ServiceUnavailable, match="太旧"):
        asyncio.run(ask())
