"""主库死了、同步的备库接任（docs/database.md）：一个地址写两台主机，答应过的作业一个不丢、一个不重，没有人重启任何进程。"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from debian_postgres import deployed_system
from postgres_pair import PostgresPair, running_pair
from running_system import wait_until
from scns_conductor.local.engines import Engines

pytestmark = pytest.mark.faults

JOBS = 20


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    with running_pair() as servers:
        yield servers


def test_jobs_survive_a_failover(pair: PostgresPair, engines: Engines, tmp_path: Path) -> None:
    with deployed_system(tmp_path / "system", pair.url, engines.redis_url) as system:
        out = tmp_path / "out"
        out.mkdir()
        script = f"echo x >> {out}/$SLURM_JOB_ID\nuntil [ -e {out}/go ]; do sleep 0.1; done\n"
        before = [system.submit(script) for _ in range(JOBS)]
        wait_until(lambda: any(system.query(job)["state"] == "RUNNING" for job in before), 60, "有的在运行")
        pair.primary.stop(signal.SIGKILL)
        # 没有主库：说没有就绪，不收作业。
        wait_until(lambda: system.call("GET", "/health/ready")[0] == 503, 60, "没有就绪")
        pair.fail_over()
        wait_until(lambda: system.call("GET", "/health/ready")[0] == 200, 60, "就绪")
        after = [system.submit(script) for _ in range(JOBS)]
        (out / "go").touch()
        for job in [*before, *after]:
            assert system.wait_state(job, "COMPLETED", "FAILED", "NODE_FAIL")["state"] == "COMPLETED"
            assert (out / job).read_text() == "x\n"
