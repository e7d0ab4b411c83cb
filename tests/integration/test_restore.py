"""数据库被恢复到从前：作业号会再发一遍，节点上却还有旧的进程。新作业绝不能变成旧进程。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from restore_yard import Dump, old_jobs, pid_of
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


def test_new_jobs_with_reused_ids_do_not_become_the_old_processes(
    yard: NodeYard, settings: Settings, tmp_path: Path
) -> None:
    yard.start_agent()
    dump = Dump(settings, tmp_path / "dump")
    old = old_jobs(yard)
    pids = [pid_of(yard, job_id) for job_id in old]
    dump.restore()
    new = [yard.submit("echo $SLURM_JOB_ID > new_$SLURM_JOB_ID\nexit 7\n") for _ in old]
    for job_id in new:
        yard.start(job_id)
    for job_id in new:
        yard.exists(f"new_{job_id}")
        job = yard.ended(job_id)
        assert (job["state"], job["exit_status"]) == ("FAILED", 7)
    wait_until(lambda: not any(map(alive, pids)), "旧进程都被结束")
