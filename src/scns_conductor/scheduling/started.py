"""计划好的启动占住资源之后的样子：假设它此刻启动了，再往后看。"""

import math

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, RunningJob
from scns_conductor.scheduling.plan import PlannedStart


def started(cluster: Cluster, start: PlannedStart, job_id: int, now: float) -> RunningJob:
    """它在 now（Unix 秒）启动、号是 job_id 时占着的；节点还要开机的，时限从开好算起。"""
    job, shape = start.job, start.job.shape
    end = NEVER_ENDS if math.isinf(start.limit_s) else now + cluster.boot_s(start.shares) + start.limit_s
    return RunningJob(
        job_id,
        end,
        start.shares,
        cluster.chosen_partition(shape, start.shares),
        shape.pools,
        qos=shape.qos,
        start_time=now,
        reservation=shape.reservation,
        oversubscribe=shape.oversubscribe,
        priority=job.priority,
        owners=shape.owners,
        exclusive_to=shape.exclusive_to,
    )
