"""多半何时：时限是上界，人多半写得宽。照历史预测各作业真的跑多久，再计划一次。

预测见 scheduling/run_times：同一个用户最近做完的两个作业的平均，同名的优先；
跑过了预测还没有完的，当作还要跑已经跑了的一半。绝不超过时限。只用来说“多半”：保留与回填仍照时限，谁也不会被推迟。
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.engine import Connection

from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, RunningJob
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.statements.explanations import NAMES_OF_JOBS
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.run_history import RunHistory

# 排队与运行的多于这么多就不预测：一次回答不该花几秒。
MOST_JOBS = 2000
LEAST_RUN_S = 1.0

Times = Mapping[tuple[str, str], float]


def probable_start(
    connection: Connection, memory: QueueMemory, policy: Policy, job: PendingJob, now: float, opens_at: float | None
) -> float | None:
    """多半何时开始（Unix 秒）；没有历史、太多、说不准是 None。opens_at 是还不能排到何时。"""
    ahead = [other for other in memory.queue.jobs.values() if other.startable and other.key < job.key]
    running = [each for each in memory.cluster.running.values() if each.job_id > 0 and not each.suspended]
    if len(ahead) + len(running) > MOST_JOBS or not running:
        return None
    rows = connection.execute(NAMES_OF_JOBS, {"job_ids": [each.job_id for each in running]})
    owners = {row.job_id: (row.user_name, row.name) for row in rows}
    waiting = memory.waiting
    owners |= {
        other.job_id: (waiting[other.job_id].user_name, waiting[other.job_id].name)
        for other in ahead
        if other.job_id in waiting
    }
    history = RunHistory()
    history.read(connection, {user for user, _ in owners.values()})
    times: Times = {pair: mean for pair in set(owners.values()) if (mean := history.mean(*pair)) is not None}
    if not times:
        return None
    cluster = copy.deepcopy(memory.cluster)
    for each in running:
        end = _probable_end(each, times.get(owners.get(each.job_id, ("", ""))), now)
        cluster.allocate(replace(each, expected_end=end))
    queue = Queue()
    for other in ahead:
        run_s = times.get(owners.get(other.job_id, ("", "")), math.inf)
        queue.upsert(replace(other, time_limit_s=min(other.time_limit_s, run_s), tasks=None))
    outlook = Outlook(cluster, queue, job, now, policy)
    start = outlook.earliest(job.shape, job.time_limit_s, opens_at)
    return None if start is None else start[0]


def _probable_end(job: RunningJob, run_s: float | None, now: float) -> float:
    """一个在跑的作业多半何时结束；没有历史的照时限。"""
    if run_s is None or job.ending:
        return job.expected_end
    elapsed = max(0.0, now - job.start_time)
    left = run_s - elapsed if run_s > elapsed else elapsed / 2
    return min(job.expected_end, now + max(LEAST_RUN_S, left), NEVER_ENDS)
