"""牧守进程跑完多少作业，内存都一样多：数每个作业留下的对象与字节。"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

# 另起一个进程：它要回收自己的全部子进程，不能是 pytest 自己的。
PROGRAM = """
import gc, json, os, sys, tracemalloc
from scns_conductor.worker.shepherd import keeper as keeper_module
from scns_conductor.worker.shepherd.containment import Containment
from scns_conductor.worker.shepherd.journal import Journal
from scns_conductor.worker.shepherd.keeper import JobKeeper
from scns_conductor.worker.shepherd.script_files import ScriptFiles
from scns_conductor.worker.shepherd.spawn import Spawner
from scns_conductor.worker.wire.launch_spec import LaunchSpec

spool, warm, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = json.loads(sys.argv[4])
grace_s = options.pop("preempted_with_grace_s", None)
keeper_module.RECENT_KEYS = 50
tasks = {}
journal = Journal(spool + "/journal")
journal.open()
keeper = JobKeeper(journal, Containment(None, "", tasks, "here"), Spawner(ScriptFiles(spool)), tasks, lambda task: None)

def run(numbers):
    for number in numbers:
        script = f"{spool}/job_{number}.sh"
        spec = LaunchSpec(
            job_id=number, attempt=0, step="batch", argv=["/bin/true"], env={"A": "b" * 500}, cwd="/",
            stdout="/dev/null", script="#!/bin/true", script_path=script, **options,
        )
        keeper.launch([spec])
        if grace_s:
            # 请它结束，宽限很长，它自己马上就走了。
            keeper.commands.stop(next(iter(keeper.groups.values())), "preempt", None, grace_s)
        while keeper.groups:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            keeper.endings.reap()
            keeper.timers.run()
        ends, keeper.new_ends = keeper.new_ends, []
        journal.ack(list(journal.ends))
        journal.flush()
    gc.collect()
    return len(gc.get_objects())

run(range(warm // 2))
tracemalloc.start()
objects, octets = run(range(warm // 2, warm)), tracemalloc.get_traced_memory()[0]
more_objects = run(range(warm, end)) - objects
more_octets = tracemalloc.get_traced_memory()[0] - octets
print(json.dumps([more_objects, more_octets, len(keeper.timers)]))
"""
WARM, END = 600, 1200


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"time_limit_s": 3600.0},
        {"time_limit_s": 3600.0, "warn_signal": 10, "warn_before_s": 60.0, "pids_max": 4096},
        {"preempted_with_grace_s": 3600.0},
    ],
)
def test_a_finished_job_leaves_nothing_behind(tmp_path: Path, options: dict[str, float]) -> None:
    """一小时时限的作业一闪而过：它的定时不许把它的记录留到一小时之后。"""
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), str(WARM), str(END), json.dumps(options)]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True)
    objects, octets, timers = json.loads(told.stdout)
    measured = END - WARM
    # 每个作业不到百分之几个对象、几十个字节：散列表、堆扩容的零头，不是作业留下的。
    assert objects < measured * 0.6, f"每个作业留下 {objects / measured:.2f} 个对象"
    assert octets < measured * 60, f"每个作业留下 {octets / measured:.0f} 字节"
    assert timers < 1000
