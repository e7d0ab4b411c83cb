"""内嵌引擎：启动、权限、崩溃之后、目录冲突。"""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from running_system import alive
from scns_conductor.core.errors import SettingsError
from scns_conductor.local import data_directory, engine_user
from scns_conductor.local.data_directory import AlreadyRunning, DataDirectory, write_private
from scns_conductor.local.engine_user import choose_engine_user
from scns_conductor.local.engines import Engines, running_engines, stop_process
from scns_conductor.local.postgres import Postgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="只有 root 才换身份")
HOLDER = """
import sys, time
from pathlib import Path
from scns_conductor.local.engines import running_engines
with running_engines(Path(sys.argv[1])) as engines:
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """另一个进程里的引擎，数据目录是 tmp_path/data。"""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def query(engines: Engines, statement: str) -> object:
    with psycopg.connect(engines.database_url, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
        return None if row is None else row[0]


def postmaster_pid(data: Path) -> int:
    return int((data / "postgres/postmaster.pid").read_text().split("\n", 1)[0])


def test_postgres_is_version_18_without_tcp(engines: Engines) -> None:
    assert str(query(engines, "SHOW server_version")).startswith("18.")
    assert query(engines, "SHOW listen_addresses") == ""
    assert query(engines, "SELECT system_user") == f"peer:{choose_engine_user(Path('/')).name}" or os.geteuid() == 0


def test_valkey_needs_its_password_and_has_no_port(engines: Engines) -> None:
    with redis.Redis.from_url(engines.redis_url) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"} or client.config_get("port") == {b"port": b"0"}
    with (
        redis.Redis(unix_socket_path=str(engines.valkey.sockets / "valkey.sock")) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_data_directory_is_private(engines: Engines) -> None:
    assert stat.S_IMODE(engines.directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(engines.postgres.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(engines.postgres.sockets.stat().st_mode) == 0o700


@as_root
def test_engines_never_run_as_root(engines: Engines) -> None:
    assert os.stat(f"/proc/{postmaster_pid(engines.directory.path)}").st_uid != 0
    with redis.Redis.from_url(engines.redis_url) as client:
        pid = client.info("server")["process_id"]
    assert os.stat(f"/proc/{pid}").st_uid != 0


@as_root
def test_another_user_cannot_connect_to_postgres(engines: Engines, scratch: Path) -> None:
    # 套接字目录之外还有 peer 认证这一道：把目录开放之后仍然连不上。
    sockets = engines.postgres.sockets
    psql = engines.postgres._program("psql")
    opened = [scratch, engines.directory.path, sockets]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in opened]
    try:
        for path in opened:
            path.chmod(0o755)
        socket_file = sockets / ".s.PGSQL.5432"
        socket_file.chmod(0o777)
        done = subprocess.run(
            [psql, "-h", str(sockets), "-U", "scns", "-c", "SELECT 1", "scns"],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=65534,
            group=65534,
            extra_groups=[],
        )
    finally:
        for path, mode in zip(opened, modes, strict=True):
            path.chmod(mode)
        socket_file.chmod(0o600)
    assert done.returncode != 0
    assert "Peer authentication failed" in done.stderr


def test_start_works_below_a_directory_others_cannot_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with running_engines(closed / "data") as engines:
        assert query(engines, "SELECT 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_programs_out_of_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_user, "PROGRAM_CACHE", Path("/var/tmp") / f"scns-test-{os.getpid()}")
    user = choose_engine_user(tmp_path)
    hidden = tmp_path / "hidden"  # pytest 的目录是 0700，别的用户进不来
    (hidden / "bin").mkdir(parents=True)
    program = hidden / "bin/tool"
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o700)
    try:
        placed = engine_user.place_programs(hidden, ("bin", "bin.libs"), "bin/tool", "tool", user)
        assert placed != hidden
        assert engine_user.runnable(placed / "bin/tool", user)
        assert engine_user.place_programs(hidden, ("bin", "bin.libs"), "bin/tool", "tool", user) == placed
        assert (placed / "bin/tool").stat().st_uid == 0
    finally:
        subprocess.run(["rm", "-rf", str(engine_user.PROGRAM_CACHE)], check=True)


def test_data_survives_a_restart(tmp_path: Path) -> None:
    with running_engines(tmp_path / "data") as engines, psycopg.connect(engines.database_url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    with running_engines(tmp_path / "data") as engines:
        assert query(engines, "SELECT n FROM kept") == 42
        for durable in ("fsync", "synchronous_commit", "full_page_writes"):
            assert query(engines, f"SHOW {durable}") == "on"


def test_killed_owner_leaves_nothing_and_the_next_start_works(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    old = postmaster_pid(tmp_path / "data")
    holder.kill()
    holder.wait()
    with running_engines(tmp_path / "data") as engines:
        assert query(engines, "SELECT 1") == 1
        assert postmaster_pid(tmp_path / "data") != old
        assert not alive(old)


def test_killed_postmaster_is_recovered(tmp_path: Path) -> None:
    with running_engines(tmp_path / "data") as engines:
        with psycopg.connect(engines.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        os.kill(postmaster_pid(tmp_path / "data"), signal.SIGKILL)
    with running_engines(tmp_path / "data") as engines:
        assert query(engines, "SELECT count(*) FROM kept") == 1000


def test_stale_pid_file_naming_a_living_stranger_is_ignored(tmp_path: Path) -> None:
    # 容器里进程号很小，重启后常被别的进程用上；PostgreSQL 自己会因此拒绝启动。
    with running_engines(tmp_path / "data") as engines:
        user = engines.postgres.user
        saved = (tmp_path / "data/postgres/postmaster.pid").read_text()
        lock = (tmp_path / "data/run/.s.PGSQL.5432.lock").read_text()
    stranger = subprocess.Popen(["sleep", "600"], **user.popen_options())
    try:
        for path, text in (("postgres/postmaster.pid", saved), ("run/.s.PGSQL.5432.lock", lock)):
            stale = tmp_path / "data" / path
            stale.write_text(f"{stranger.pid}\n" + text.split("\n", 1)[1])
            os.chown(stale, user.uid, user.gid)
        with running_engines(tmp_path / "data") as engines:
            assert query(engines, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_interrupted_initdb_is_begun_anew(tmp_path: Path) -> None:
    half = tmp_path / "data/postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with running_engines(tmp_path / "data") as engines:
        assert query(engines, "SELECT 1") == 1
    assert not half.exists()


def test_second_instance_names_the_first(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    with pytest.raises(AlreadyRunning, match=str(holder.pid)):
        directory.lock()
    assert directory.running_pid() == holder.pid
    holder.kill()
    holder.wait()
    assert directory.running_pid() is None


def test_long_path_uses_a_short_private_socket_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("很长的目录名" * 8) / "data"
    with running_engines(deep) as engines:
        outside = engines.postgres.sockets
        assert deep not in outside.parents
        assert stat.S_IMODE(outside.parent.stat().st_mode) == 0o700
        assert query(engines, "SELECT 1") == 1
    subprocess.run(["rm", "-rf", str(outside.parent)], check=True)


def test_foreign_socket_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    monkeypatch.setattr(data_directory, "SOCKET_PATH_LIMIT", 10)
    taken = directory.socket_directory().parent
    taken.rmdir()
    taken.symlink_to(tmp_path)
    try:
        with pytest.raises(SettingsError, match="占用"):
            directory.socket_directory()
    finally:
        taken.unlink()


@as_root
def test_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    with pytest.raises(SettingsError, match="65534"):
        DataDirectory(theirs).prepare()


@as_root
def test_configuration_is_not_written_through_a_planted_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("原样")
    with running_engines(tmp_path / "data") as engines:
        user = engines.postgres.user
    planted = tmp_path / "data/postgres/pg_hba.conf"
    planted.unlink()
    planted.symlink_to(victim)
    os.lchown(planted, user.uid, user.gid)
    with running_engines(tmp_path / "data") as engines:
        assert query(engines, "SELECT 1") == 1
    assert victim.read_text() == "原样"
    assert not planted.is_symlink()


def test_broken_configuration_is_reported_with_the_log(tmp_path: Path) -> None:
    with running_engines(tmp_path / "data") as engines:
        user = engines.postgres.user
    local = tmp_path / "data/postgres/local.conf"
    local.write_text("shared_buffers = nonsense\n")
    os.chown(local, user.uid, user.gid)
    with pytest.raises(Exception, match="nonsense"), running_engines(tmp_path / "data"):
        pass


def test_postgres_restarts_while_clients_wait(tmp_path: Path) -> None:
    with running_engines(tmp_path / "data") as engines:
        postgres: Postgres = engines.postgres
        pid = postmaster_pid(tmp_path / "data")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        postgres.prepare()
        again = postgres.spawn()
        postgres.wait_ready(lambda: again.poll() is None)
        assert query(engines, "SELECT 1") == 1
        stop_process(again, signal.SIGINT)


def test_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "client.json"
    write_private(path, "旧")
    write_private(path, "新")
    assert path.read_text() == "新"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
