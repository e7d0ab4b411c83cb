"""节点上的作业：持有的分配、进程号、用量。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE, LAUNCH_ID, among

# 别的会话锁着的作业不等：下一次再写。
_FREE = f"""
    free AS MATERIALIZED (
      SELECT job_id, restart_count FROM jobs WHERE job_id = ANY(CAST(:job_id AS bigint[])) AND state IN {ACTIVE}
      ORDER BY job_id FOR NO KEY UPDATE SKIP LOCKED
    )"""
# 记下运行中的作业的进程号，返回记下了的。
RECORD_PROCESSES = sa.text(
    f"""
    WITH {_FREE},
    running AS (
      SELECT r.* FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:pid AS integer[]))
      AS r(job_id, attempt, pid) WHERE {among("(r.job_id, r.attempt)", "TABLE free")}
    ),
    unlocked AS MATERIALIZED (
      SELECT allocation_id FROM resource_allocations
      WHERE job_id IN (SELECT job_id FROM running) AND node_name = :node AND released_at IS NULL
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    allocation AS (
      UPDATE resource_allocations AS a SET process_id = r.pid FROM running AS r
      WHERE a.job_id = r.job_id AND a.restart_count = r.attempt
        AND {among("a.allocation_id", "TABLE unlocked")}
      RETURNING a.job_id, r.pid
    )
    UPDATE jobs AS j SET process_id = a.pid FROM allocation AS a WHERE j.job_id = a.job_id
    RETURNING j.job_id
    """
)
# 采样值只增不减：进程退出后采样会变小，最终值在结束时写。
RECORD_USAGE = sa.text(
    f"""
    WITH {_FREE}
    UPDATE jobs AS j SET
      cpu_user_s = greatest(j.cpu_user_s, u.user_s), cpu_system_s = greatest(j.cpu_system_s, u.system_s),
      max_rss_kb = greatest(j.max_rss_kb, u.max_rss_kb), read_bytes = greatest(j.read_bytes, u.read_bytes),
      written_bytes = greatest(j.written_bytes, u.written_bytes)
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:user_s AS double precision[]),
      CAST(:system_s AS double precision[]), CAST(:max_rss_kb AS bigint[]), CAST(:read_bytes AS bigint[]),
      CAST(:written_bytes AS bigint[]))
      AS u(job_id, attempt, user_s, system_s, max_rss_kb, read_bytes, written_bytes)
    WHERE j.job_id = u.job_id AND {among("(u.job_id, u.attempt)", "TABLE free")}
    """
)
# 一个节点尚未释放的分配，与作业此刻的状态、要求的去向。
HELD_ALLOCATIONS = sa.text(
    f"""
    SELECT a.allocation_id, a.job_id, a.restart_count, j.restart_count AS current_attempt, a.node_index,
      a.claimed_at IS NOT NULL AS claimed, j.state, j.requested_end_state, j.requested_end_reason,
      j.requested_end_grace, j.time_limit, j.no_kill,
      a.cpu_ids, a.gres_ids, a.relay_chain,
      coalesce(a.claimed_at < to_timestamp(:boot_time), false) AS claimed_before_boot,
      {LAUNCH_ID} AS launch_id,
      a.node_index = 0 AND a.claimed_at IS NULL AND j.allocated_nodes > 1 AND EXISTS (
        SELECT FROM resource_allocations AS o JOIN nodes AS n ON n.name = o.node_name
        WHERE o.job_id = a.job_id AND o.restart_count = a.restart_count AND o.node_name <> a.node_name
          AND o.released_at IS NULL AND n.power_state <> 'ON') AS waits
    FROM resource_allocations AS a JOIN jobs AS j ON j.job_id = a.job_id
    WHERE a.node_name = :node AND a.released_at IS NULL
      AND (CAST(:job_ids AS bigint[]) IS NULL OR a.job_id = ANY(CAST(:job_ids AS bigint[])))
    ORDER BY a.allocation_id
    """
)
# 运行中的作业出了它该知道的事（一块卡不见了）；已经不是那一次尝试的不动。
TELL_JOBS = sa.text(
    f"""
    UPDATE jobs AS j SET error_msg = :message
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[])) AS t (job_id, restart_count)
    WHERE j.job_id = t.job_id AND j.restart_count = t.restart_count AND j.state IN {ACTIVE}
    """
)
# 找到一个作业的输出文件，并看里面是不是它的（core/output_path.py），节点与 API 都要的。
OUTPUT_COLUMNS = """
    job_id, name, user_name, state, array_job_id, array_task_id, restart_count, current_working_directory,
    standard_output, standard_error, open_mode, interactive, process_id IS NOT NULL AS running,
    (SELECT CAST(extract(epoch FROM a.claimed_at) AS double precision) FROM resource_allocations AS a
     WHERE a.job_id = jobs.job_id AND a.restart_count = jobs.restart_count AND a.node_name = batch_host) AS claimed_s
"""
# 节点读一个作业的输出之前问的。
OUTPUT_ON_NODE = sa.text(f"SELECT {OUTPUT_COLUMNS} FROM jobs WHERE job_id = :job_id")
