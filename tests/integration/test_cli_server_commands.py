"""scns db 与 scns token：像管理员那样在命令行里用。"""

import os
import subprocess
import sys
from pathlib import Path

import warm_commands
from scns_conductor.core.settings import Settings
from scns_conductor.core.signing_keys import read_key
from scns_conductor.core.tokens import verify_token

SCNS = str(Path(sys.executable).parent / "scns")


def scns(settings: Settings, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return warm_commands.run(
        [SCNS, *arguments],
        env={
            **os.environ,
            "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
            "SCNS_DATA_DIR": str(settings.data_dir),
            **environment,
        },
    )


def test_the_database_is_upgraded_and_tells_its_version(empty_settings: Settings) -> None:
    assert scns(empty_settings, "db", "current").returncode == 1
    assert scns(empty_settings, "db", "upgrade").returncode == 0
    assert scns(empty_settings, "db", "current").returncode == 0
    # 会丢数据：没有说 --yes、也没有人答应，就不动。
    refused = scns(empty_settings, "db", "downgrade", "base")
    assert refused.returncode == 1
    assert "不能恢复" in refused.stdout
    assert scns(empty_settings, "db", "current").returncode == 0
    assert scns(empty_settings, "db", "downgrade", "base", "--yes").stdout.strip() == "空库"


def test_a_database_that_is_away_is_one_line(settings: Settings) -> None:
    away = scns(settings, "db", "current", SCNS_DATABASE_URL="postgresql:///x?host=/nonexistent")
    assert away.returncode == 1
    assert away.stdout == ""
    assert "SCNS_DATABASE_URL" in away.stderr
    assert len(away.stderr.splitlines()) == 1


def test_a_token_is_issued_for_its_user(settings: Settings) -> None:
    issued = scns(settings, "token", "--user", "alice", "--lifetime", "1-0")
    identity = verify_token(read_key(settings.jwt_key_path), issued.stdout.strip())
    assert (identity.user_name, identity.admin) == ("alice", False)
    assert scns(settings, "token", "--lifetime", "soon").returncode == 2
    assert scns(settings, "nonsense").returncode == 2
