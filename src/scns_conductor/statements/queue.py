"""调度器装进记忆的：节点、分区、预留、排队与运行的作业。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import LIVE
from scns_conductor.statements.hot_statement import HotStatement
from scns_conductor.statements.node_state import ACCEPTING

# 节点的资源与能不能放作业；:names 为空是全部。节能（:elastic）时关着的也能放，没有开过机的当作要 :boot_s 秒。
SCHEDULABLE_NODES = sa.text(
    "SELECT name, cpus, memory, gres, features, weight, topology, temporary_disk, "
    "sockets, cores_per_socket, threads_per_core, "
    f"{ACCEPTING.format(n='')} AND (state = 'UP' AND power_state = 'ON' OR CAST(:elastic AS boolean) "
    "AND state <> 'DOWN' AND power_state IN ('OFF', 'POWERING_UP')) AS usable, "
    "CASE WHEN power_state = 'ON' THEN 0 ELSE coalesce(boot_s, :boot_s) END AS boot_s "
    "FROM nodes WHERE CAST(:names AS text[]) IS NULL OR name = ANY(CAST(:names AS text[]))"
)
# 停着的节点：排空了（state 是 UP），或下线了；为节能关着的不算。
ABSENT_NODES = sa.text(
    "SELECT name, state, reason FROM nodes WHERE (state <> 'UP' AND NOT (state = 'UNKNOWN' AND power_state <> 'ON')) "
    f"OR NOT ({ACCEPTING.format(n='')}) ORDER BY name"
)
# 全部分区。
ALL_PARTITIONS = sa.text("SELECT * FROM partitions")
# 全部预留。
ALL_RESERVATIONS = sa.text("SELECT * FROM reservations")
# 占着资源的作业与它们在各节点上的份额；:job_ids 为空是全部。
RUNNING_SHARES = sa.text(
    """
    SELECT j.job_id, j.array_job_id, j.partition, j.reservation, j.licenses, j.time_limit, j.account, j.user_name,
      j.qos, j.oversubscribe, j.exclusive_to, j.mcs_label, coalesce(j.priority, 0) - j.nice AS priority,
      j.start_priority,
      extract(epoch FROM j.start_time)::float8 AS start_time, j.suspended_s,
      j.requested_end_state IS NOT NULL AS ending, j.state = 'SUSPENDED' AS suspended,
      CASE WHEN j.state = 'SUSPENDED' THEN (
        SELECT cause <> 'suspend' FROM job_events WHERE job_id = j.job_id AND cause IN ('suspend', 'preempt', 'resume')
        ORDER BY event_id DESC LIMIT 1) END AS resuming,
      j.het_job_id, j.het_job_id_set,
      a.node_name, a.cpus, a.lent_cpus, a.memory, a.gres, a.tasks, a.relay_chain
    FROM resource_allocations AS a JOIN jobs AS j USING (job_id)
    WHERE a.released_at IS NULL AND (CAST(:job_ids AS bigint[]) IS NULL OR j.job_id = ANY(CAST(:job_ids AS bigint[])))
    ORDER BY j.job_id, a.node_index
    """
)
# 排队的作业与它们的版本。
PENDING_REVISIONS = sa.text("SELECT job_id, revision FROM jobs WHERE state = 'PENDING'")
# 排队的作业的个数与校验和。
PENDING_CHECKSUM = sa.text(
    "SELECT count(*), coalesce(sum(job_id * (revision + 1)), 0)::bigint FROM jobs WHERE state = 'PENDING'".replace(
        "::", r"\:\:"
    )
)
# 这些异构作业各有几个部分没有结束。
LIVE_COMPONENTS = sa.text(
    f"SELECT het_job_id, count(*) AS live FROM jobs WHERE het_job_id = ANY(CAST(:het_job_ids AS bigint[])) "
    f"AND state IN {LIVE} GROUP BY het_job_id"
)
# 放得久了的多半是行被锁着，取不走：不等它。
JOBS_IN_INBOX = sa.text(
    "SELECT DISTINCT unnest(job_ids) FROM scheduler_inbox WHERE kind IN ('jobs', 'ended', 'relayed') "
    "AND created_at > clock_timestamp() - interval '5 seconds'"
)
# 占着资源的作业号。
JOBS_HOLDING = sa.text("SELECT DISTINCT job_id FROM resource_allocations WHERE released_at IS NULL")
# 作业怎样称呼：谁的，数组任务写成 12_3。
JOB_LABELS = sa.text(
    "SELECT job_id, name, user_name, CASE WHEN het_job_id IS NOT NULL THEN concat(het_job_id, '+', het_job_offset) "
    "WHEN array_task_id IS NULL THEN CAST(job_id AS text) "
    "ELSE concat(array_job_id, '_', array_task_id) END AS label "
    "FROM jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))"
)


def pending_jobs(columns: str) -> sa.TextClause:
    """全部排队的作业的 columns（逗号分隔的 SQL 表达式），按作业号。"""
    return sa.text(f"SELECT {columns} FROM jobs WHERE state = 'PENDING' ORDER BY job_id".replace("::", r"\:\:"))


def jobs_of(columns: str) -> HotStatement:
    """这些作业（job_ids，bigint[] 的文字）的 columns，不论状态。"""
    return HotStatement(f"SELECT {columns} FROM jobs WHERE job_id = ANY(CAST(%(job_ids)s AS bigint[]))")


def pending_job(columns: str) -> sa.TextClause:
    """一个排队的作业的 columns；不在排队就没有行。"""
    return sa.text(f"SELECT {columns} FROM jobs WHERE job_id = :job_id AND state = 'PENDING'".replace("::", r"\:\:"))
