"""引擎不答话（停住而没有死）、网络吞掉报文、时钟跳变：调度与执行照样对。"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node_yard import NodeYard
from outage import Outage
from shepherd_yard import wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.agent.shepherd_client import _BOOTSTRAP, SOURCE_ROOT
from warm_processes import Process

pytestmark = pytest.mark.faults

pytest_plugins = ["outage_fixtures"]


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    yield running
    running.close()


@contextmanager
def scheduler(yard: NodeYard) -> Iterator[Process]:
    process = yard.start_scheduler("n1", SCNS_SCHEDULER_LEASE_S="2")
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def submitted(yard: NodeYard, script: str) -> int:
    job_id = yard.submit(script)
    yard.execute("INSERT INTO scheduler_inbox (kind, job_ids) VALUES ('jobs', ARRAY[:job_id]::bigint[])", job_id=job_id)
    yard.execute("NOTIFY scns_inbox")
    return job_id


def test_valkey_that_does_not_answer_delays_jobs_but_loses_none(fragile: NodeYard, outage: Outage) -> None:
    """Valkey 停住：连得上，没有回答。调度器不等它，代理靠核对启动与取消。"""
    fragile.start_agent()
    with scheduler(fragile):
        assert fragile.ended(submitted(fragile, "true\n"))["state"] == "COMPLETED"
        outage.freeze(outage.valkey_pid)
        jobs = [submitted(fragile, "echo ran >> runs\n") for _ in range(5)]
        for job_id in jobs:
            assert fragile.ended(job_id)["state"] == "COMPLETED"
        endless = submitted(fragile, "touch ready; sleep 300\n")
        fragile.exists("ready")
        fragile.request_end(endless, "CANCELLED", send=False)
        assert fragile.ended(endless)["state"] == "CANCELLED"
        outage.thaw()
        assert fragile.ended(submitted(fragile, "true\n"))["state"] == "COMPLETED"
    assert (fragile.output / "runs").read_text() == "ran\n" * 5


def test_postgres_that_does_not_answer_stops_nothing_that_runs(fragile: NodeYard, outage: Outage) -> None:
    """PostgreSQL 停住几秒：运行中的作业不受影响，结束的时刻是真的，之后照常调度。"""
    fragile.start_agent()
    with scheduler(fragile):
        job_id = submitted(fragile, "touch ready; while [ ! -e go ]; do sleep 0.1; done; date +%s.%N > when; exit 3\n")
        fragile.exists("ready")
        outage.freeze(outage.postgres_pid)
        (fragile.output / "go").touch()
        when = fragile.exists("when")
        wait_until(lambda: time.time() > float(when.read_text() or "inf") + 1.0, "停够一秒")
        outage.thaw()
        job = fragile.ended(job_id)
        assert job["exit_status"] == 3
        assert abs(job["end_time"].timestamp() - float(when.read_text())) < 0.5
        assert fragile.ended(submitted(fragile, "true\n"))["state"] == "COMPLETED"


SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32] = {0};
    int fd = open(getenv("CLOCK_SHIFT_FILE"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return atol(text);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def test_clock_steps_change_neither_limits_nor_times(yard: NodeYard) -> None:
    """节点的钟前后各跳一天（代理与牧守进程看到的日历时钟真的跳了）：时限照开机秒数算，结束时刻照数据库的钟。"""
    compiler = shutil.which("cc")
    assert compiler is not None, "需要 C 编译器"
    source, library, shift = yard.work / "clock.c", yard.work / "clock.so", yard.work / "shift"
    source.write_text(SHIFTED_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    shift.write_text("86400")
    skewed = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)}
    seen = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={**os.environ, **skewed},
        capture_output=True,
        check=True,
    )
    assert float(seen.stdout) - time.time() > 80000, "日历时钟真的跳得动"
    shift.write_text("0")
    spool = yard.spool()
    spool.mkdir(parents=True, mode=0o700)
    with open(spool / "shepherd.log", "ab") as log:
        shepherd = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-X",
                "utf8",
                "-c",
                _BOOTSTRAP,
                SOURCE_ROOT,
                "--spool",
                str(spool),
                "--node",
                "n1",
            ],
            env={**os.environ, **skewed},
            stderr=log,
        )
    wait_until((spool / "shepherd.sock").exists, "牧守进程")
    yard.start_agent(**skewed)
    assert yard.shepherd_pid() == shepherd.pid, "代理接上了钟会跳的牧守进程"
    steady = yard.run("touch ready; while [ ! -e go ]; do sleep 0.1; done\n", time_limit=600)
    limited = yard.run("sleep 300\n", time_limit=3)
    yard.exists("ready")
    for step_s in (86400, -86400):
        shift.write_text(str(step_s))
        late = yard.run("true\n")
        job = yard.ended(late)
        assert job["state"] == "COMPLETED"
        (row,) = yard.query(
            "SELECT extract(epoch FROM clock_timestamp() - end_time) AS age, end_time >= start_time AS ordered "
            "FROM jobs WHERE job_id = :id",
            id=late,
        )
        assert row["ordered"]
        assert 0 <= row["age"] < 30
    job = yard.ended(limited)
    assert job["state"] == "TIMEOUT"
    assert 3 <= (job["end_time"] - job["start_time"]).total_seconds() < 15
    assert yard.job(steady)["state"] == "RUNNING"
    (yard.output / "go").touch()
    assert yard.ended(steady)["state"] == "COMPLETED"
    yard.kill_agent(number=signal.SIGTERM)
    yard.close()
    shepherd.wait(30)
