"""抢占的提交：请节点结束被抢占的作业（requeue 或 cancel），与领导者的栅栏在同一条语句里。"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.scheduling.preemption import Preemption, mode_of
from scns_conductor.worker.queue_memory import QueueMemory

# 不许重新排队的作业只能取消（Slurm 也是）。
_REQUEST = sa.text(
    """
    WITH wanted AS (
      SELECT * FROM unnest(CAST(:job_ids AS bigint[]), CAST(:modes AS text[]), CAST(:messages AS text[]))
        AS w(job_id, mode, message)
    )
    UPDATE jobs AS j SET
      requested_end_state = CASE WHEN w.mode = 'requeue' AND j.requeue AND NOT j.interactive THEN 'PENDING'
                                 ELSE 'PREEMPTED' END,
      requested_end_reason = w.message, requested_end_actor = 'scheduler'
    FROM wanted AS w
    WHERE j.job_id = w.job_id AND j.state IN ('RUNNING', 'SUSPENDED') AND j.requested_end_state IS NULL
      AND EXISTS (SELECT FROM scheduler_leader WHERE epoch = :epoch)
    RETURNING j.job_id
    """
)


def request_preemptions(
    connection: Connection, epoch: int, memory: QueueMemory, preemptions: Sequence[Preemption], default_mode: str
) -> list[int]:
    """写下要求，返回真正被抢占的作业号；已经在结束的不在其中。在调用者的事务里执行。"""
    values: dict[str, list[object]] = {"job_ids": [], "modes": [], "messages": []}
    for preemption in preemptions:
        for victim in preemption.victims:
            partition = memory.cluster.partitions.get(victim.partition)
            values["job_ids"].append(victim.job_id)
            values["modes"].append(mode_of(partition.preempt_mode if partition else None, default_mode))
            values["messages"].append(f"被作业 {preemption.job.job_id} 抢占（分区 {preemption.job.shape.partition}）")
    return list(connection.scalars(_REQUEST, {**values, "epoch": epoch}))
