"""API 所在的主机的钟差一个小时（libfaketime）：相对的时刻照数据库的钟；令牌因此不收的，说是钟不一致。"""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until
from test_scheduler_clock import LIBRARIES

from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not LIBRARIES, reason="没有 faketime（apt-get install faketime）")]


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def call(url: str, token: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@contextlib.contextmanager
def api(yard: NodeYard, skew: str) -> Iterator[tuple[str, Settings]]:
    """一个 API，它的钟差 skew。"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = yard.environment(
        "n1",
        SCNS_API_PORT=str(port),
        LD_PRELOAD=str(LIBRARIES[0]).replace("libfaketime.so", "libfaketimeMT.so"),
        FAKETIME=skew,
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{url}/health/live", timeout=5))
        return False

    with open(yard.work / "api.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scns_conductor.api"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(answers, "API 应答")
        yield url, Settings(data_dir=Path(environment["SCNS_DATA_DIR"]))
    finally:
        process.terminate()
        process.wait(30)


def test_relative_times_keep_the_databases_time(yard: NodeYard) -> None:
    with api(yard, "+1h") as (url, settings):
        token = issue_token(settings, "root", admin=True)
        job = {
            "current_working_directory": str(yard.output),
            "begin_time": "now+10minutes",
            "deadline": "now+40minutes",
        }
        job |= {"time_limit": "5"}
        # 第一次问过数据库之前照本机的钟：问一次只要几毫秒。
        wait_until(lambda: call(url, token, "/health/ready")[0] in (200, 503), "就绪检查答了")
        status, answer = call(url, token, "/jobs/submit", {"job": job, "script": "#!/bin/sh\n"})
        assert status in (200, 201), answer
    (row,) = yard.query(
        "SELECT extract(epoch FROM begin_time - submit_time)::float8 AS begins, "
        "extract(epoch FROM deadline - submit_time)::float8 AS ends FROM jobs WHERE job_id = :id",
        id=int(answer["job_id"]),
    )
    assert 540 < row["begins"] < 660
    assert 2340 < row["ends"] < 2460


def test_a_token_from_the_future_says_that_the_clocks_differ(yard: NodeYard) -> None:
    with api(yard, "-1h") as (url, settings):
        status, problem = call(url, issue_token(settings, "root"), "/jobs")
    assert (status, problem["code"]) == (401, "token_invalid")
    assert "时钟不一致" in problem["detail"]
