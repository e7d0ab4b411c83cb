"""真的证书，真的 TLS：sslmode=verify-full 写在一个地址里，两个驱动都核对；证书不对的谁也连不上。"""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from debian_postgres import DebianPostgres, debian_postgres
from running_system import free_port
from scns_conductor.api.database_problem import database_error
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.local.engine_user import choose_engine_user

# 这条会话是不是加密的。
ENCRYPTED = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


def authority(folder: Path, name: str) -> Path:
    """自己签自己的根证书；返回它，钥匙在旁边（.key）。"""
    made = folder / f"{name}.pem"
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-keyout", f"{folder}/{name}.key", "-out", f"{made}")  # fmt: skip
    return made


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


def _certificates(folder: Path) -> tuple[str, ...]:
    """服务器只叫 localhost 的证书，与用它的设置。"""
    root = authority(folder, "root")
    authority(folder, "stranger")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", f"{folder}/server.key",
             "-out", f"{folder}/server.csr")  # fmt: skip
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost\n")
    _openssl("x509", "-req", "-in", f"{folder}/server.csr", "-CA", f"{root}", "-CAkey", f"{folder}/root.key",
             "-CAcreateserial", "-days", "2", "-extfile", f"{names}", "-out", f"{folder}/server.crt")  # fmt: skip
    user = choose_engine_user(folder / "data")
    if user.switch:
        os.chown(folder / "server.key", user.uid, user.gid)
    return ("ssl=on", f"ssl_cert_file={folder}/server.crt", f"ssl_key_file={folder}/server.key")


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    with debian_postgres(_certificates, tcp_port=free_port()) as running:
        yield running


def tls_settings(server: DebianPostgres, host: str, root: str) -> Settings:
    options = f"sslmode=verify-full&sslrootcert={server.folder}/{root}.pem"
    return Settings(database_url=SecretStr(f"postgresql://scns@{host}:{server.port}/postgres?{options}"))


async def _ask(settings: Settings) -> object:
    engine = async_engine(settings)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(ENCRYPTED)).scalar_one()
    finally:
        await engine.dispose()


def test_one_url_verifies_the_certificate_in_both_drivers(server: DebianPostgres) -> None:
    settings = tls_settings(server, "localhost", "root")
    engine = sync_engine(settings)
    with engine.connect() as connection:
        assert connection.scalar(ENCRYPTED) is True
    engine.dispose()
    assert asyncio.run(_ask(settings)) is True


@pytest.mark.parametrize(("host", "root"), [("localhost", "stranger"), ("127.0.0.1", "root")])
def test_a_wrong_authority_or_name_is_refused_by_both(server: DebianPostgres, host: str, root: str) -> None:
    settings = tls_settings(server, host, root)
    engine = sync_engine(settings)
    with pytest.raises(sa.exc.OperationalError, match="certificate"):
        engine.connect()
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED") as refused:
        asyncio.run(_ask(settings))
    answer = asyncio.run(database_error(refused.value, async_engine(settings)))
    assert answer is not None, "API 要答 503，不是 500"
    assert answer.status == 503


def _knocks(listener: socket.socket) -> int:
    """有几条连接来过。"""
    listener.setblocking(False)
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_a_silent_host_does_not_hide_the_next(server: DebianPostgres) -> None:
    """头一台收下连接就没有声音（冻住了、关了机）：两个驱动都轮到下一台，之后的会话先找应答过的。"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{server.port}"
        settings = Settings(database_url=SecretStr(f"postgresql://scns@{hosts}/postgres?target_session_attrs=primary"))
        engine = sync_engine(settings)
        with engine.connect() as first, engine.connect() as second:
            assert first.scalar(sa.text("SELECT 1")) == second.scalar(sa.text("SELECT 1")) == 1
        engine.dispose()
        assert _knocks(silent) == 1

        async def ask() -> None:
            engine = async_engine(settings)
            async with engine.connect() as first, engine.connect() as second:
                for connection in (first, second):
                    assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
                driver = (await first.get_raw_connection()).driver_connection
                assert driver is not None
                plug = driver._transport.get_extra_info("socket")
                # 用着用着没有声音的，语句不等一刻钟。
                assert plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
                assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            await engine.dispose()

        asyncio.run(ask())
        assert _knocks(silent) == 1


def test_no_host_of_the_wanted_kind_is_503(server: DebianPostgres) -> None:
    """切换之间只剩备库：等它接任，不是 500。"""
    settings = Settings(
        database_url=SecretStr(f"postgresql://scns@127.0.0.1:{server.port}/postgres?target_session_attrs=standby")
    )
    engine = sync_engine(settings)
    with pytest.raises(sa.exc.OperationalError, match="standby"):
        engine.connect()
    with pytest.raises(OSError, match="target_session_attrs=standby") as refused:
        asyncio.run(_ask(settings))
    answer = asyncio.run(database_error(refused.value, async_engine(settings)))
    assert answer is not None
    assert answer.status == 503
