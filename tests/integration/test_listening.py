"""API 与看板听不了的地址：一行说清是哪个、为什么、怎么办，以 2 退出，没有驱动程序的原话。"""

import os
import socket
import sys
from pathlib import Path

import pytest

import warm_commands

SCNS = str(Path(sys.executable).parent / "scns")


def refused(tmp_path: Path, *command: str, **changed: str) -> str:
    environment = {
        **os.environ,
        "SCNS_DATABASE_URL": "postgresql://scns:x@127.0.0.1:1/scns",
        "SCNS_REDIS_URL": "redis://127.0.0.1:1/0",
        "SCNS_DATA_DIR": str(tmp_path),
        "SCNS_WEB_METRICS": "",
        **changed,
    }
    done = warm_commands.run([SCNS, *command], env=environment)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "Errno" not in line
    return line


@pytest.mark.parametrize(("command", "name"), [(("api", "--no-scheduler"), "api"), (("web",), "web")])
def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = {f"SCNS_{name.upper()}_PORT": port}
        line = refused(tmp_path, *command, **given)
        assert f"127.0.0.1:{port}" in line
        assert f"ss -ltnp 'sport = :{port}'" in line
        assert f"{name}_port" in line
        english = refused(tmp_path, *command, SCNS_LANG="en", **given)
        assert english.isascii()
        assert f"ss -ltnp 'sport = :{port}'" in english


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    key = tmp_path / "jwt.key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    line = refused(
        tmp_path, "api", "--no-scheduler", SCNS_API_HOST="192.0.2.1", SCNS_API_PORT="0", SCNS_JWT_KEY_FILE=str(key)
    )
    assert "192.0.2.1" in line
    assert "api_host" in line


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = refused(tmp_path, "api", "--no-scheduler", SCNS_DATA_DIR=str(blocked / "data"), SCNS_API_PORT="0")
    assert str(blocked) in line
