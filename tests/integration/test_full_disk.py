"""数据库的盘、日志的盘满了（真的小 tmpfs）：说得出原因，运行中的作业照跑；腾出之后没有人重启我们的进程，一个不丢。"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian_postgres import DebianPostgres, deployed_system
from running_system import RunningSystem, wait_until
from scns_conductor.local.engines import Engines

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.geteuid() != 0, reason="需要 root：挂载小的 tmpfs")]
FULL = {"database_full", "database_unavailable"}
# 一批写得满盘的剩余：每个脚本这么大。
SCRIPT_BYTES = 100_000


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """一个小 tmpfs；离开时卸下。"""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """把盘写满；离开时腾出来。"""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        filler.unlink()


class RestartedPostgres(DebianPostgres):
    """像 systemd 管着那样，死了就再起：崩溃恢复时也没有地方，它自己会退出。"""

    deaths = 0

    def keep(self) -> None:
        """死了就再起；还起不来是下一次的事。"""
        assert self._process is not None
        if self._process.poll() is not None:
            self.deaths += 1
            with contextlib.suppress(AssertionError):
                self.start()


@pytest.fixture(scope="module")
def server() -> Iterator[RestartedPostgres]:
    """整个目录（数据、WAL、它的日志）在一个 200 MB 的盘上。"""
    # 直接在 /tmp 下：引擎用户走得到。
    with (
        tempfile.TemporaryDirectory(prefix="scns-small-") as folder,
        small_disk(Path(folder), "200m"),
    ):
        running = RestartedPostgres(Path(folder), ("max_wal_size=32MB", "min_wal_size=32MB"))
        running.start()
        running.execute("CREATE DATABASE d")
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """各服务的日志所在的盘。"""
    with small_disk(tmp_path_factory.mktemp("logs"), "8m") as disk:
        yield disk


@pytest.fixture(scope="module")
def system(
    server: RestartedPostgres, logs: Path, engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("full") / "system"
    # DEBUG：每个请求一行。
    settings = {"SCNS_LOG_LEVEL": "DEBUG"}
    with deployed_system(folder, server.url("d"), engines.redis_url, settings=settings, logs=logs) as running:
        yield running


def waiting_job(system: RunningSystem, go: Path) -> str:
    """一个在运行、等着 go 出现的作业。"""
    job_id = system.submit(f"until [ -e {go} ]; do sleep 0.1; done\n")
    system.wait_state(job_id, "RUNNING")
    return job_id


def test_a_full_database_disk_refuses_new_jobs_and_keeps_the_old(
    system: RunningSystem, server: RestartedPostgres, tmp_path: Path
) -> None:
    running = waiting_job(system, tmp_path / "go")
    ran = tmp_path / "ran"
    body = {"job": {"current_working_directory": str(tmp_path)},
            "script": f"#!/bin/sh\necho $SLURM_JOB_ID >> {ran}\n# {os.urandom(SCRIPT_BYTES // 2).hex()}\n"}  # fmt: skip
    accepted = []
    with filled(server.folder):
        while True:
            status, answer = system.call("POST", "/jobs/submit", body)
            if status != 200:
                break
            accepted.append(answer["job_id"])
        assert (status, answer["code"] in FULL) == (503, True), answer
        # 看得出的原因是磁盘：它自己的日志（也在这个盘上）写不下，问它的人知道。
        (tmp_path / "go").touch()

    def ready() -> bool:
        server.keep()
        return system.call("GET", "/health/ready")[0] == 200

    wait_until(ready, 90, "腾出地方之后就绪")
    assert system.wait_state(running)["state"] == "COMPLETED"
    accepted.append(system.submit(body["script"], **body["job"]))
    for job_id in accepted:
        assert system.wait_state(job_id)["state"] == "COMPLETED"
    assert sorted(ran.read_text().split(), key=int) == accepted


def test_a_full_log_disk_stops_nothing(system: RunningSystem, logs: Path, tmp_path: Path) -> None:
    """API、调度器、代理的日志写不进去：照样提交、运行、结束；腾出地方之后接着写。"""
    with filled(logs):
        running = waiting_job(system, tmp_path / "go")
        # 每一种都会写日志的：请求、拒绝、启动、取消。
        assert system.call("GET", "/jobs/query/99999999")[0] == 404
        cancelled = system.submit("sleep 600\n")
        system.wait_state(cancelled, "RUNNING")
        assert system.call("POST", f"/jobs/cancel/{cancelled}")[0] == 200
        assert system.wait_state(cancelled)["state"] == "CANCELLED"
        (tmp_path / "go").touch()
        assert system.wait_state(running)["state"] == "COMPLETED"
    written = (logs / "api.log").stat().st_size
    system.call("GET", "/jobs")
    wait_until(lambda: (logs / "api.log").stat().st_size > written, 60, "接着写")


def test_the_shepherd_outlives_its_log() -> None:
    """牧守进程只有一个线程：写日志的错要是传出来，全部作业的父进程就没了。"""
    code = "from scns_conductor.worker.shepherd.own_log import log\nlog('x' * 9000)\nlog('y')\nprint('活着')"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, timeout=30, text=True, check=False
        )
    assert done.stdout == "活着\n"
