"""后台一直在跑的协程意外死去就结束进程；取消的、做完的不算。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scns_conductor.owned_tasks import EXIT_TASK_DIED

STORY = """
import asyncio
from scns_conductor.owned_tasks import owned_task

async def work(error):
    await asyncio.sleep(0)
    if error:
        raise error

async def main():
    cancelled = owned_task(asyncio.sleep(60), "cancelled")
    await owned_task(work(None), "done")
    cancelled.cancel()
    await asyncio.sleep(0.01)
    print("alive", flush=True)
    owned_task(work(ValueError("坏了")), "clock")
    await asyncio.sleep(60)

asyncio.run(main())
"""
# 真的 API 进程，数据库不在；对钟的那一个一开始就出错。
API = """
from scns_conductor.api import app

async def broken(_):
    raise ValueError("坏了")

app.keep_clock = broken
from scns_conductor.api.__main__ import main
main()
"""
# 真的看板进程；替全部标签页问 API 的那一个一开始就出错。
WEB = """
import sys

from scns_conductor.web.feed import Feed

async def broken(_):
    raise ValueError("坏了")

Feed.run = broken
from scns_conductor.web.__main__ import main
sys.argv[1:] = ["--port", "0", "--api-url", "http://127.0.0.1:1", "--data-dir", sys.argv[1]]
main()
"""


def died(code: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == EXIT_TASK_DIED, done.stderr
    assert "task_died" in done.stderr
    assert "ValueError: 坏了" in done.stderr
    return done


def test_only_an_unexpected_death_ends_the_process() -> None:
    assert died(STORY).stdout == "alive\n"


@pytest.mark.faults
def test_the_api_dies_loudly(tmp_path: Path) -> None:
    away = {"SCNS_DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "SCNS_REDIS_URL": f"unix://{tmp_path}/none"}
    told = died(API, SCNS_DATA_DIR=str(tmp_path), SCNS_API_PORT="0", **away).stderr
    assert "clock" in told


@pytest.mark.faults
def test_the_dashboard_dies_loudly(tmp_path: Path) -> None:
    died(WEB, str(tmp_path))
