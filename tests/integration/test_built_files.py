"""造出的文件本身：源码包、从它造出的轮子，装进新的虚拟环境，用装好的命令跑一个作业。不看源码树。"""

import json
import os
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from running_system import START_WAIT_S, STOP_WAIT_S, RunningSystem, wait_until
from scns_conductor.cli.main import COMMANDS

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dist/ 里的两个文件：python -m build，轮子由源码包造出。"""
    place = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """新的虚拟环境的 bin。依赖借用测试环境的，不另外下载；scns_conductor 只能来自轮子。"""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, symlinks=True)
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    borrowed = Path(pytest.__file__).parents[1]
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    wheel = next(built.glob("*.whl"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", place, "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--ignore-installed", wheel],
        check=True, timeout=120,
    )  # fmt: skip
    return place / "bin"


def test_the_wheel_carries_everything_the_package_needs(built: Path) -> None:
    """样式、脚本、单元、译文、迁移的模板：忘了哪一个，装好的才坏。"""
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/scns_conductor").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        carried = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
    assert carried == source
    assert "License-File: LICENSE" in metadata


def test_the_source_archive_is_enough_to_start_and_test(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        carried = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "constraints.txt", "LICENSE", "README.md", "docker-compose.yml", "Dockerfile",
              "scripts/demo.py", "docs/deployment.md", "tests/conftest.py", "packaging/build_deb.sh"}  # fmt: skip
    assert wanted <= carried
    assert not [name for name in carried if name.startswith((".venv/", ".machines/", ".git/"))]


def test_a_job_runs_with_the_installed_commands(installed: Path, tmp_path: Path) -> None:
    """在别的目录里，没有 PYTHONPATH。"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ready = tmp_path / "ready.json"
    words = ("up", "--no-web", "--data-dir", tmp_path / "data", "--port", "0", "--ready-file", ready)
    with (tmp_path / "up.log").open("wb") as log:
        system = subprocess.Popen([installed / "scns", *words], env=environment, cwd="/", stdout=log, stderr=log)
    try:
        wait_until(lambda: ready.exists() or system.poll() is not None, START_WAIT_S, "scns up 就绪")
        found = json.loads(ready.read_text())
        client = {**environment, "SCNS_URL": found["url"], "SCNS_TOKEN": found["token"], "SCNS_LANG": "en"}

        def scns(*arguments: str, stdin: str = "") -> str:
            done = subprocess.run(
                [installed / "scns", *arguments], env=client, cwd="/", input=stdin,
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        where = f"{installed / 'python'} -c 'import scns_conductor; print(scns_conductor.__file__)'"
        said = scns("submit", "--wait", "--output", str(tmp_path / "out"), "-", stdin=where)
        assert Path((tmp_path / "out").read_text().strip()).is_relative_to(installed.parent), said
        scns("health")
    finally:
        system.send_signal(signal.SIGTERM)
        assert system.wait(STOP_WAIT_S) == 0, (tmp_path / "up.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def client_only(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """只有客户端的虚拟环境的 bin：轮子与它不带附加组件的依赖，别的什么也没有。"""
    place = tmp_path_factory.mktemp("client")
    venv.create(place, symlinks=True)
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wheel = next(built.glob("*.whl"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", place, "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", wheel],
        check=True, timeout=120,
    )  # fmt: skip
    asked = [Requirement(text) for text in metadata.Distribution.at(_info(packages)).requires or ()]
    for requirement in asked:
        if requirement.marker is None:
            found = metadata.distribution(requirement.name)
            for top in {Path(file).parts[0] for file in found.files or () if ".." not in Path(file).parts}:
                (packages / top).symlink_to(Path(str(found.locate_file(top))))
    return place / "bin"


def _info(packages: Path) -> Path:
    return next(packages.glob("scns_conductor-*.dist-info"))


# 要启动进程、碰数据库、签发令牌、模拟的；别的只说 HTTP。
SERVER_COMMANDS = {"up", "down", "api", "web", "worker", "db", "setup", "token", "config", "simulate"}


def test_a_client_alone_submits_looks_and_says_what_the_server_needs(
    client_only: Path, running_system: RunningSystem
) -> None:
    """pip install scns-conductor：没有 FastAPI、SQLAlchemy、numpy，客户端、scns 与 Slurm 的命令照样能用。"""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(client_only), "SCNS_LANG": "en"}
    environment |= {"SCNS_URL": running_system.url, "SCNS_TOKEN": running_system.token}

    def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [client_only / words[0], *words[1:]],
            env=environment, cwd="/", input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    missing = run("python", "-c", "import sqlalchemy")
    assert "No module named 'sqlalchemy'" in missing.stderr
    assert run("python", "-c", "import scns_conductor.client").stderr == ""
    submitted = run("scns", "submit", "--parsable", "-", "--chdir", "/tmp", stdin="#!/bin/sh\necho 只有客户端\n")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    running_system.wait_state(job_id, "COMPLETED")
    assert "只有客户端" in run("scns", "logs", job_id).stdout
    listed = run("scns-slurm", "sacct", "-X", "-n", "-o", "State", "-j", job_id)
    assert (listed.stdout.strip(), listed.stderr) == ("COMPLETED", "")
    for name in COMMANDS.keys() - SERVER_COMMANDS:
        helped = run("scns", name, "--help")
        assert (helped.returncode, helped.stderr) == (0, ""), name
    refused = run("scns", "api")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "scns-conductor[server]" in refused.stderr
