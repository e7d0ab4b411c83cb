"""调度所需的快照：可用的节点、排队的作业；以及把等待的原因写回去。"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.scheduling.first_fit import Need, NodeSpace, Waiting

QUEUE_DEPTH = 10_000
UNSUPPORTED = "调度器还不支持这个作业的某些要求（数组、依赖、多节点、期限、通用资源、特性、节点列表、许可证、预留）"

_PLAIN = """
  array_remaining IS NULL AND dependency IS NULL AND minimum_nodes = 1 AND licenses IS NULL AND reservation IS NULL
  AND tres_per_job IS NULL AND tres_per_node IS NULL AND tres_per_task IS NULL AND constraints IS NULL
  AND required_nodes IS NULL AND excluded_nodes IS NULL AND memory_per_gpu IS NULL
  AND (tasks_per_node IS NULL OR tasks_per_node >= tasks) AND temporary_disk_per_node IS NULL AND deadline IS NULL
"""
_NODES = sa.text(
    "SELECT name, cpus, memory, cpus - allocated_cpus AS free_cpus, memory - allocated_memory AS free_memory "
    "FROM nodes WHERE state = 'UP' AND NOT drain ORDER BY weight, name"
)
# 作业号随提交递增，所以按作业号就是按提交次序。只认状态为 UP、包含全部节点的分区。
_NEEDS = sa.text(
    f"""
    SELECT j.job_id, j.revision, greatest(j.tasks * j.cpus_per_task, coalesce(j.minimum_cpus_per_node, 1)) AS cpus,
      j.memory_per_node, j.memory_per_cpu, j.exclusive,
      ({_PLAIN}) AND p.name IS NOT NULL AND coalesce(j.memory_per_node, 1) > 0 AS plain,
      coalesce(j.begin_time > clock_timestamp(), false) AS early
    FROM jobs AS j LEFT JOIN partitions AS p ON p.name = j.partition AND p.state = 'UP' AND p.nodes = 'ALL'
    WHERE j.state = 'PENDING' AND j.hold IS NULL ORDER BY j.job_id LIMIT {QUEUE_DEPTH}
    """
)
_MARK = sa.text(
    """
    UPDATE jobs AS j SET reason = w.reason, error_msg = w.message
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:reason AS text[]), CAST(:message AS text[]))
      AS w(job_id, reason, message)
    WHERE j.job_id = w.job_id AND j.state = 'PENDING'
      AND (j.reason <> w.reason OR j.error_msg IS DISTINCT FROM w.message)
    """
)


def load_nodes(connection: Connection) -> list[NodeSpace]:
    """能接新作业的节点，权重小的在前。"""
    return [NodeSpace(*row) for row in connection.execute(_NODES)]


@dataclass(frozen=True, slots=True)
class Queue:
    """排队的作业，按提交次序；waiting 是这一次不必计划的，revisions 是各作业的版本号。"""

    needs: list[Need]
    waiting: list[Waiting]
    revisions: dict[int, int]


def load_queue(connection: Connection, default_memory_mb_per_cpu: int) -> Queue:
    """读出队列；default_memory_mb_per_cpu 用于没有写内存的作业（MiB）。"""
    queue = Queue([], [], {})
    for row in connection.execute(_NEEDS):
        if row.early:
            queue.waiting.append(Waiting(row.job_id, "BeginTime"))
            continue
        if not row.plain:
            queue.waiting.append(Waiting(row.job_id, "BadConstraints", UNSUPPORTED))
            continue
        per_cpu = row.memory_per_cpu if row.memory_per_cpu is not None else default_memory_mb_per_cpu
        memory = row.memory_per_node if row.memory_per_node is not None else per_cpu * row.cpus
        queue.needs.append(Need(row.job_id, row.cpus, memory, row.exclusive))
        queue.revisions[row.job_id] = row.revision
    return queue


def mark_waiting(connection: Connection, waiting: Sequence[Waiting]) -> None:
    """写下等待的原因；没有变化的行不动。"""
    if waiting:
        connection.execute(
            _MARK,
            {
                "job_id": [item.job_id for item in waiting],
                "reason": [item.reason for item in waiting],
                "message": [item.message for item in waiting],
            },
        )
