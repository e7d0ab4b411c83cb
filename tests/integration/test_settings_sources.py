"""设置从哪里来：读不了、写坏了、写错了名字的都是一行，不是一页；当前目录里的文件从来不看。"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import warm_commands
from running_system import RunningSystem

SCNS = str(Path(sys.executable).parent / "scns")
HEALTH_CHECK = str(Path(__file__).parents[2] / "scripts" / "health_check.py")
SERVER_COMMANDS = [["config", "--local"], ["token"], ["up", "--detach"], ["down"], ["db", "current"], ["worker"]]
NOBODY = 65534


@pytest.fixture
def home(scratch: Path) -> Iterator[Path]:
    """一个空的家目录，别的用户也进得来。"""
    path = scratch / "settings-home"
    path.mkdir(mode=0o755)
    scratch.chmod(0o755)
    yield path
    shutil.rmtree(path)


def run(
    home: Path, *command: str, uid: int | None = None, cwd: Path | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """数据目录、家目录都在 home 下；uid 是以谁的身份。"""
    if uid is None and command[0] != sys.executable:
        there = {"PATH": os.environ["PATH"], "HOME": str(home), "SCNS_DATA_DIR": str(home / "data")}
        return warm_commands.run(command, cwd=cwd or home, env={**there, **environment}, timeout=60)
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd or home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "SCNS_DATA_DIR": str(home / "data"), **environment},
        **({} if uid is None else {"user": uid, "group": uid, "extra_groups": []}),  # type: ignore[call-overload]
    )


def refused(answer: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """没有做成，只有一行说明，里面有这些话。"""
    assert answer.returncode not in (0, -9), answer
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    for word in words:
        assert word in answer.stderr, answer.stderr


# 每个命令、每种坏法都碰到，不必两两相乘：读文件的是同一处。
COMMANDS = [*([SCNS, *each] for each in SERVER_COMMANDS), [HEALTH_CHECK]]
BAD_FILES = (
    ("acounting_storage_enforce = 'limits'\n", "accounting_storage_enforce"), ("api_port = = 1\n", "TOML"),
    ("api_port = 'many'\n", "api_port"), ("cluster_name = '\udcff'\n", "TOML"),
)  # fmt: skip


@pytest.mark.parametrize(("command", "bad"), list(zip(COMMANDS, itertools.cycle(BAD_FILES), strict=False)))
def test_a_bad_file_is_one_line(home: Path, command: list[str], bad: tuple[str, str]) -> None:
    text, word = bad
    (home / "own.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(run(home, *command, SCNS_CONFIG=str(home / "own.toml")), word)


@pytest.mark.skipif(os.geteuid() != 0, reason="要换成别的用户")
@pytest.mark.parametrize("command", [*SERVER_COMMANDS, ["HEALTH"]])
def test_a_file_of_the_service_that_others_may_not_read_is_one_line(home: Path, command: list[str]) -> None:
    shared = home / "scns-conductor"
    shared.mkdir(mode=0o755)
    (shared / "config.toml").write_text("cluster_name = 'lab'\n")
    (shared / "config.toml").chmod(0o600)
    # 别的用户走得到解释器（虚拟环境可能在 0700 的目录里）才试得了：不行就在这个进程里换身份再导入。
    script = (
        "import os, sys\n"
        "sys.path.insert(0, os.environ['SRC'])\n"
        "import scns_conductor.cli.main as main, scns_conductor.core.config_file as config_file\n"
        "import scns_conductor.cli.config, scns_conductor.cli.token\n"
        "import scns_conductor.local.up_command, scns_conductor.local.database_command\n"
        "import scns_conductor.local.worker_command, scns_conductor.local.up, scns_conductor.core.tokens, runpy\n"
        "import pydantic_settings.sources.providers.toml, tomllib\n"
        "config_file.SYSTEM_CONFIG = config_file.Path(os.environ['SHARED'])\n"
        "checked = runpy.run_path(os.environ['CHECK'])\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(checked['main']() if sys.argv[1] == 'HEALTH' and not sys.argv.pop() is None else main.main())\n"
    )
    answer = run(
        home, sys.executable, "-c", script, *command,
        SRC=str(Path(__file__).parents[2] / "src"), SHARED=str(shared / "config.toml"), CHECK=HEALTH_CHECK,
    )  # fmt: skip
    refused(answer, "读不了", str(shared / "config.toml"), "--config")


def test_a_misspelt_variable_is_an_error_with_the_nearest_name(home: Path) -> None:
    refused(run(home, SCNS, "config", SCNS_ACOUNTING_STORAGE_ENFORCE="limits"), "SCNS_ACCOUNTING_STORAGE_ENFORCE")
    refused(run(home, SCNS, "token", SCNS_FAIR_SHARES="not json"), "fair_shares")
    refused(run(home, SCNS, "token", SCNS_QQQQ="1"), "SCNS_QQQQ")


def test_variables_of_clients_and_jobs_are_not_mistaken_for_settings(home: Path) -> None:
    given = {"SCNS_TOKEN": "x", "SCNS_LANG": "en", "SCNS_JOB_ID": "7", "SCNS_JOB_KEY": "7.0.batch", "SCNS_ATTEMPT": "0"}
    assert run(home, SCNS, "config", "--local", **given).returncode == 0


def test_the_current_directory_is_never_read(home: Path) -> None:
    trap = home / "trap"
    trap.mkdir()
    (trap / "scns.toml").write_text("task_prolog = '/tmp/evil'\n")
    (trap / ".env").write_text("SCNS_TASK_EPILOG=/tmp/evil\n")
    (trap / "config.toml").write_text("task_prolog = '/tmp/evil'\n")
    answer = run(home, SCNS, "config", "--local", cwd=trap)
    assert answer.returncode == 0, answer
    assert "evil" not in answer.stdout


def test_the_data_directory_and_the_option_are_read(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "config.toml").write_text("cluster_name = 'of-data'\n")
    (home / "own.toml").write_text("cluster_name = 'of-option'\n")
    assert "of-data" in run(home, SCNS, "config", "cluster_name").stdout
    assert "of-option" in run(home, SCNS, "--config", "own.toml", "config", "cluster_name").stdout
    assert "scns " in run(home, SCNS, "--config", "/dev/null", "config", "cluster_name").stdout
    refused(run(home, SCNS, "--config", "missing.toml", "config"), "missing.toml")
    (home / "data" / "config.toml").chmod(0o666)
    refused(run(home, SCNS, "config"), "chmod go-w")


@pytest.mark.skipif(os.geteuid() != 0, reason="要有别的用户的文件")
def test_root_does_not_obey_a_file_of_the_service_user(home: Path) -> None:
    (home / "data").mkdir()
    own = home / "data" / "config.toml"
    own.write_text("task_prolog = '/tmp/evil'\n")
    os.chown(own, NOBODY, NOBODY)
    refused(run(home, SCNS, "config"), str(own))


def test_the_values_shown_are_those_of_the_running_system(running_system: RunningSystem, home: Path) -> None:
    asked = [SCNS, "config", "node_timeout_s", "cluster_name", "api_port"]
    there = {"SCNS_URL": running_system.url, "SCNS_TOKEN": running_system.token, "SCNS_NODE_TIMEOUT_S": "7"}
    lines = run(home, *asked, **there).stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines[:2]] == [["node_timeout_s", "60.0"], ["cluster_name", "scns"]]
    assert all(running_system.url in line for line in lines[:2])
    assert lines[2].split() == ["api_port", "6820", "缺省值"]
    assert "7.0" in run(home, *asked, "--local", **there).stdout
    # 这里的设置坏了也看得到系统的。
    (home / "own.toml").write_text("nonsense = 1\n")
    broken = run(home, SCNS, "config", SCNS_CONFIG=str(home / "own.toml"), **there)
    assert (broken.returncode, len(broken.stderr.splitlines())) == (0, 1), broken
    assert "enforce_part_limits" in broken.stdout


def test_one_wrong_setting_is_one_complaint(home: Path) -> None:
    """别的设置的缺省值没有轮到算，不是使用者的错；英文里没有中文。"""
    wrong = {"SCNS_REDIS_URL": "http://x", "SCNS_API_PORT": "many"}
    answer = run(home, SCNS, "config", "--local", **wrong)
    refused(answer, "redis_url", "api_port", "给的是 'many'")
    assert "backfill_depth" not in answer.stderr
    assert answer.stderr.count("；") == 1
    english = run(home, SCNS, "config", "--local", SCNS_LANG="en", **wrong)
    refused(english, "given: 'many'")
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english.stderr)
