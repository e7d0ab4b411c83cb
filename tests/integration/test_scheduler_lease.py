"""租约：忙得很久的领导者仍续着租；被暂停的很快有人接替；核对不把还没有取的变化算作没听到的。"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until
from test_scheduler import scheduler, submitted

from scns_conductor.core.settings import Settings

pytestmark = pytest.mark.faults


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@pytest.mark.alone
def test_a_leader_that_loads_longer_than_its_lease_is_not_evicted(yard: NodeYard) -> None:
    """六万个排队的作业要装载好几个租期：租约由自己的线程续着，候选者不来接管，作业照样启动。"""
    yard.start_agent()
    yard.execute(
        "INSERT INTO jobs (name, user_name, partition, current_working_directory, script, hold) "
        "SELECT 'j' || i, 'u', 'main', '/', 'x', 'user' FROM generate_series(1, 60000) AS i"
    )
    job_id = yard.submit("#!/bin/sh\n")
    # 两个进程一起启动、装载：租期再短，挤着的机器上会让出去。
    with scheduler(yard, SCNS_SCHEDULER_LEASE_S="3"), scheduler(yard, SCNS_SCHEDULER_LEASE_S="3"):
        wait_until(lambda: yard.job(job_id)["state"] == "COMPLETED", "做完", 120)
    assert yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"] == 1


def test_a_paused_leader_is_replaced_and_finds_out(yard: NodeYard) -> None:
    """停住之后换人；醒来的旧领导者放下一切去当候补，不是反过来又把新的赶走。"""
    yard.start_agent()
    with scheduler(yard) as first:
        wait_until(lambda: yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"] == 1, "选出来", 60)
        with scheduler(yard):
            os.kill(first.pid, signal.SIGSTOP)
            job_id = submitted(yard, "#!/bin/sh\n")
            wait_until(lambda: yard.job(job_id)["state"] == "COMPLETED", "候补启动的", 60)
            os.kill(first.pid, signal.SIGCONT)
            log = yard.work / "scheduler.log"
            wait_until(lambda: "scheduler_interrupted" in log.read_text(), "旧领导者发现了", 60)
            job_id = submitted(yard, "#!/bin/sh\n")
            wait_until(lambda: yard.job(job_id)["state"] == "COMPLETED", "照常", 60)
            assert first.poll() is None
    assert yard.query("SELECT epoch FROM scheduler_leader")[0]["epoch"] == 2


def test_changes_that_are_told_but_not_taken_yet_are_no_repairs(yard: NodeYard) -> None:
    """不停地提交、不停地核对：每个变化都经收件箱知道，核对没有一个可修的。"""
    yard.start_agent()
    with scheduler(yard, SCNS_RECONCILE_INTERVAL_S="0.05"):
        for _ in range(200):
            with yard.engine.begin() as connection:
                connection.exec_driver_sql(
                    "WITH j AS (INSERT INTO jobs (name, user_name, partition, current_working_directory, script) "
                    f"VALUES ('j', 'root', 'main', '{yard.output}', '#!/bin/sh\n') RETURNING job_id) "
                    "INSERT INTO scheduler_inbox (kind, job_ids) SELECT 'jobs', ARRAY[job_id] FROM j"
                )
                connection.exec_driver_sql("NOTIFY scns_inbox")
        wait_until(lambda: not yard.query("SELECT 1 FROM jobs WHERE state <> 'COMPLETED'"), "全部做完", 60)
    assert "memory_reconciled" not in (yard.work / "scheduler.log").read_text()
