"""作业步：占着什么、编号、列出、新建。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from scns_conductor.statements.archive import archived
from scns_conductor.statements.conditions import ACTIVE, LAUNCH_ID, STEP_ELSEWHERE

# 系统自己的步（sbcast）从这个号起，不列出来，也不占用户的步号。
FIRST_HIDDEN_ID = 2_000_000_000
LAST_ID = 2**31 - 1

# 作业的各节点：份额，与别的没有结束的作业步占着的；作业行已经加锁，所以看得全。
NODES_OF_JOB = sa.text(
    """
    SELECT a.node_name AS name, a.cpus, a.tasks, a.claimed_at IS NOT NULL AS claimed,
      a.cpus - coalesce((
        SELECT sum(s.node_cpus[array_position(s.nodes, a.node_name)])
        FROM job_steps AS s
        WHERE s.job_id = a.job_id AND s.restart_count = a.restart_count AND a.node_name = ANY(s.pending_nodes)), 0)
        AS free_cpus,
      a.memory, coalesce(a.gres, '{}') AS gres, coalesce(a.gres_ids, '{}') AS gres_ids,
      (SELECT coalesce(jsonb_agg(s.node_shares -> a.node_name), '[]') FROM job_steps AS s
       WHERE s.job_id = a.job_id AND s.restart_count = a.restart_count AND a.node_name = ANY(s.pending_nodes)
         AND s.node_shares ? a.node_name) AS taken
    FROM resource_allocations AS a
    WHERE a.job_id = :job_id AND a.restart_count = :restart_count AND a.released_at IS NULL
    ORDER BY a.node_index
    """.replace("::", r"\:\:")
).columns(gres=JSONB, gres_ids=JSONB, taken=JSONB)
# 这次尝试的下一个步号，从 :first 起，不到 :limit。
NEXT_STEP_ID = sa.text(
    "SELECT coalesce(max(step_id) + 1, :first) FROM job_steps "
    "WHERE job_id = :job_id AND restart_count = :restart_count AND step_id >= :first AND step_id < :limit"
)
# 异构作业的各个部分一起编号（同 Slurm）：跨部分的一步在各个部分里是同一个号。
NEXT_HET_STEP_ID = sa.text(
    "SELECT coalesce(max(s.step_id) + 1, :first) FROM job_steps AS s JOIN jobs AS j USING (job_id) "
    "WHERE j.het_job_id = :het_job_id AND s.restart_count = :restart_count "
    "AND s.step_id >= :first AND s.step_id < :limit"
)
# 作业结束了而节点没有来得及报的步，随作业一起算取消。
_COLUMNS = f"""
    s.job_id::text || '.' || s.step_id AS step, s.job_id::text AS job_id, s.restart_count, s.step_id, s.name,
    CASE WHEN s.end_time IS NULL AND j.state NOT IN {ACTIVE} THEN 'CANCELLED'
         WHEN s.end_time IS NULL AND j.state = 'SUSPENDED' THEN 'SUSPENDED' ELSE s.state END AS state,
    s.tasks, s.cpus_per_task, s.pending_nodes, s.nodes, s.node_tasks, s.node_cpus, s.node_shares,
    s.launch -> 'nodes' AS layout, CAST(s.launch ->> 'time_limit' AS integer) AS time_limit,
    s.launch -> 'reserved_ports' AS reserved_ports,
    s.start_time,
    coalesce(s.end_time, CASE WHEN j.state NOT IN {ACTIVE} THEN j.end_time END) AS end_time,
    s.exit_status, s.exit_signal, s.cpu_user_s + u.user_s AS cpu_user_s, s.cpu_system_s + u.system_s AS cpu_system_s,
    greatest(s.max_rss_kb, u.max_rss_kb) AS max_rss_kb, j.user_name, j.partition, j.account,
    j.array_job_id::text AS array_job_id, j.array_task_id, clock_timestamp() AS now
"""
# 还没有报结束的节点上，用量以最近一次采样为准；报了的已经在步的行里。
_SAMPLED = """
    CROSS JOIN LATERAL (
      SELECT coalesce(sum((v.value ->> 'user_s')::double precision), 0) AS user_s,
        coalesce(sum((v.value ->> 'system_s')::double precision), 0) AS system_s,
        coalesce(max((v.value ->> 'max_rss_kb')::bigint), 0) AS max_rss_kb
      FROM jsonb_each(s.samples) AS v WHERE v.key = ANY(s.pending_nodes)
    ) AS u
"""
# 这些作业的全部步，步号不到 :limit。
_STEPS = f"""
    SELECT {_COLUMNS} FROM job_steps AS s JOIN jobs AS j ON j.job_id = s.job_id {_SAMPLED}
    WHERE s.job_id = ANY(CAST(:job_ids AS bigint[])) AND s.step_id < :limit
"""
# 同上，连同历史里的，按作业、尝试、步号。
STEPS_OF_JOBS = sa.text(
    f"""
    SELECT * FROM ({_STEPS} UNION ALL {archived(_STEPS)}) AS steps
    ORDER BY CAST(job_id AS bigint), restart_count, step_id
    """.replace("::", r"\:\:")
).columns(node_shares=JSONB, layout=JSONB, reserved_ports=JSONB)
# 正在运行的全部步。
RUNNING_STEPS = sa.text(
    f"""
    SELECT {_COLUMNS} FROM jobs AS j JOIN job_steps AS s ON s.job_id = j.job_id AND s.restart_count = j.restart_count
    {_SAMPLED}
    WHERE j.state IN {ACTIVE} AND s.end_time IS NULL AND s.step_id < {FIRST_HIDDEN_ID}
    ORDER BY s.job_id, s.step_id
    """.replace("::", r"\:\:")
).columns(node_shares=JSONB, layout=JSONB, reserved_ports=JSONB)
# 这些作业在运行的节点（已经认领、没有释放）。
NODES_OF_RUNNING = sa.text(
    "SELECT DISTINCT node_name FROM resource_allocations "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND claimed_at IS NOT NULL AND released_at IS NULL"
)
# 一个步的状态、还没有报结束的节点、启动的报文。
ONE_STEP = sa.text(
    "SELECT state, pending_nodes, launch FROM job_steps "
    "WHERE job_id = :job_id AND restart_count = :restart_count AND step_id = :step_id"
).columns(pending_nodes=ARRAY(sa.Text), launch=sa.JSON)


# 这些作业里，被要求结束、别的节点上还有步没有报结束的；grace_s 是要求的宽限（秒），没有写是 KillWait。
STEPS_ON_OTHER_NODES = sa.text(
    f"""
    SELECT j.job_id, j.restart_count, j.requested_end_grace AS grace_s FROM jobs AS j
    WHERE j.job_id = ANY(CAST(:job_ids AS bigint[])) AND j.requested_end_state IS NOT NULL
      AND {STEP_ELSEWHERE}
    """
)
# 改一个步自己的时限（秒，JSON 的数或 null）：再送启动的消息时也是它。
SET_STEP_TIME_LIMIT = sa.text(
    "UPDATE job_steps SET launch = jsonb_set(launch, '{time_limit}', CAST(:time_limit AS jsonb)) "
    "WHERE job_id = :job_id AND restart_count = :restart_count AND step_id = :step_id"
)


def step_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个步。"""
    # 只有 API 用：导入这里的代理不必有模型。
    from scns_conductor.core.models import JobStep

    return sa.insert(JobStep).values(**values)


# 每个节点报一次：重复送来的找不到自己的名字，什么也不做。
RECORD_STEP_ENDS = sa.text(
    f"""
    UPDATE job_steps AS s SET
      pending_nodes = array_remove(s.pending_nodes, :node),
      exit_status = greatest(coalesce(s.exit_status, 0), e.exit_status),
      exit_signal = greatest(coalesce(s.exit_signal, 0), e.exit_signal),
      cpu_user_s = s.cpu_user_s + e.user_s, cpu_system_s = s.cpu_system_s + e.system_s,
      max_rss_kb = greatest(s.max_rss_kb, e.max_rss_kb),
      end_time = CASE WHEN cardinality(s.pending_nodes) = 1
                      THEN greatest(s.start_time, coalesce(to_timestamp(e.end_time), clock_timestamp())) END,
      state = CASE WHEN s.state <> 'RUNNING' THEN s.state
                   WHEN e.state <> 'COMPLETED' THEN e.state
                   WHEN cardinality(s.pending_nodes) = 1 THEN 'COMPLETED' ELSE 'RUNNING' END
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:step_id AS integer[]),
      CAST(:state AS text[]), CAST(:exit_status AS integer[]), CAST(:exit_signal AS integer[]),
      CAST(:user_s AS double precision[]), CAST(:system_s AS double precision[]), CAST(:max_rss_kb AS bigint[]),
      CAST(:end_time AS double precision[]), CAST(:launch_id AS bigint[]))
      AS e(job_id, attempt, step_id, state, exit_status, exit_signal, user_s, system_s, max_rss_kb, end_time, launch_id)
    WHERE s.job_id = e.job_id AND s.restart_count = e.attempt AND s.step_id = e.step_id
      AND :node = ANY(s.pending_nodes)
      AND NOT EXISTS (SELECT FROM jobs AS j WHERE j.job_id = e.job_id AND j.restart_count = e.attempt
                      AND e.launch_id <> {LAUNCH_ID})
    RETURNING s.job_id, s.restart_count, s.exit_status,
      s.end_time IS NOT NULL AND coalesce((s.launch ->> 'release_allocation')::boolean, false) AS releases,
      s.step_id, CAST(s.launch ->> 'het_job_id' AS bigint) AS het_job_id
    """.replace("::", r"\:\:")
)
# 几个节点各报各的：一个一个地看跨几个部分的一步是不是都做完了。
LOCK_HET_JOB = sa.text("SELECT job_id FROM jobs WHERE job_id = :het_job_id FOR NO KEY UPDATE")
# 跨几个部分的一步在各个部分里的那一份；有一份还没有做完的，一行也没有。
STEP_DONE_TOGETHER = sa.text(
    f"""
    SELECT job_id, restart_count, exit_status FROM (
      SELECT s.job_id, s.restart_count, s.exit_status,
        bool_and(s.end_time IS NOT NULL OR j.state NOT IN {ACTIVE}) OVER () AS done
      FROM jobs AS j JOIN job_steps AS s USING (job_id, restart_count)
      WHERE j.het_job_id = :het_job_id AND s.step_id = :step_id
    ) AS parts WHERE done ORDER BY job_id
    """
)
# 记下一个节点上各作业步此刻的用量；别的会话锁着的不等，下一次再写。
RECORD_STEP_SAMPLES = sa.text(
    """
    WITH given AS (
      SELECT * FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:step_id AS integer[]),
        CAST(:usage AS text[])) AS u(job_id, attempt, step_id, usage)
    ),
    free AS MATERIALIZED (
      SELECT s.job_id, s.restart_count, s.step_id, u.usage FROM job_steps AS s JOIN given AS u
        ON s.job_id = u.job_id AND s.restart_count = u.attempt AND s.step_id = u.step_id
      WHERE :node = ANY(s.pending_nodes) FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE job_steps AS s
    SET samples = jsonb_set(s.samples, ARRAY[CAST(:node AS text)], CAST(f.usage AS jsonb))
    FROM free AS f
    WHERE s.job_id = f.job_id AND s.restart_count = f.restart_count AND s.step_id = f.step_id
    """
)
# 作业步的退出码记进作业的 DerivedExitCode：取最大的。
RAISE_DERIVED_EXIT_STATUS = sa.text(
    f"""
    UPDATE jobs AS j SET derived_exit_status = greatest(coalesce(j.derived_exit_status, 0), e.status)
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:status AS integer[]),
      CAST(:launch_id AS bigint[])) AS e(job_id, attempt, status, launch_id)
    WHERE j.job_id = e.job_id AND j.restart_count = e.attempt
      AND (e.launch_id IS NULL OR e.launch_id = {LAUNCH_ID})
    """
)
