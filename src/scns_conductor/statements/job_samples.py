"""作业的采样：代理整行地写，问的人整行地读。"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from scns_conductor.statements.archive import archived

# 数组写成文字送来（unnest 会把数组的数组摊平）。晚到的旧样子不覆盖新的；作业不在了的不写。
WRITE_SAMPLES = sa.text(
    """
    INSERT INTO job_samples AS s
      (job_id, restart_count, node_name, since, width_s, elapsed_s, cpu_s, memory_mb, gpu_s, gpu_memory_mb,
       gpu_energy_j)
    SELECT j.job_id, u.attempt, :node, to_timestamp(u.since), u.width_s, u.elapsed_s, CAST(u.cpu_s AS real[]),
      CAST(u.memory_mb AS integer[]), CAST(u.gpu_s AS real[]), CAST(u.gpu_memory_mb AS integer[]), u.gpu_energy_j
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[]), CAST(:since AS double precision[]),
      CAST(:width_s AS double precision[]), CAST(:elapsed_s AS double precision[]), CAST(:cpu_s AS text[]),
      CAST(:memory_mb AS text[]), CAST(:gpu_s AS text[]), CAST(:gpu_memory_mb AS text[]),
      CAST(:gpu_energy_j AS double precision[]))
      AS u(job_id, attempt, since, width_s, elapsed_s, cpu_s, memory_mb, gpu_s, gpu_memory_mb, gpu_energy_j)
    JOIN jobs AS j ON j.job_id = u.job_id
    ORDER BY j.job_id
    ON CONFLICT (job_id, restart_count, node_name) DO UPDATE SET
      width_s = excluded.width_s, elapsed_s = excluded.elapsed_s, cpu_s = excluded.cpu_s,
      memory_mb = excluded.memory_mb, gpu_s = excluded.gpu_s, gpu_memory_mb = excluded.gpu_memory_mb,
      gpu_energy_j = excluded.gpu_energy_j
    WHERE s.elapsed_s < excluded.elapsed_s
    """
)
_ARRAYS = {
    "cpu_s": ARRAY(sa.REAL),
    "memory_mb": ARRAY(sa.Integer),
    "gpu_s": ARRAY(sa.REAL),
    "gpu_memory_mb": ARRAY(sa.Integer),
}
# 一个节点上这些作业已经写下的：代理重新启动之后接着记。
SAMPLES_ON_NODE = sa.text(
    """
    SELECT s.job_id, s.restart_count, s.width_s, s.elapsed_s, s.cpu_s, s.memory_mb, s.gpu_s, s.gpu_memory_mb,
      s.gpu_energy_j
    FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[])) AS u(job_id, attempt)
    JOIN job_samples AS s ON s.job_id = u.job_id AND s.restart_count = u.attempt AND s.node_name = :node
    """
).columns(**_ARRAYS)
# 这些作业提交时说的（--acctg-freq、--profile）；没有说的不列。数组任务的环境只存在数组行里。
SAMPLING_ASKED = sa.text(
    """
    SELECT j.job_id, j.restart_count, m.environment ->> 'SLURM_ACCTG_FREQ' AS frequency,
      m.environment ->> 'SLURM_PROFILE' AS profile
    FROM jobs AS j JOIN jobs AS m ON m.job_id = coalesce(j.array_job_id, j.job_id)
    WHERE j.job_id = ANY(CAST(:job_id AS bigint[]))
      AND (m.environment ->> 'SLURM_ACCTG_FREQ' IS NOT NULL OR m.environment ->> 'SLURM_PROFILE' IS NOT NULL)
    """
)
# 一次尝试在各节点上的采样。
_SAMPLES = """
    SELECT node_name, since, width_s, elapsed_s, cpu_s, memory_mb, gpu_s, gpu_memory_mb, gpu_energy_j
    FROM job_samples
    WHERE job_id = :job_id AND restart_count = :restart_count
"""
SAMPLES_OF_JOB = sa.text(f"{_SAMPLES} UNION ALL {archived(_SAMPLES)} ORDER BY node_name").columns(**_ARRAYS)
# 各节点的 GPU 合到作业的行里：忙的时间、显存的峰值、能耗。只为有卡的作业；作业结束之后最后一次采样才写，所以不看状态。
SUM_UP_GPUS = sa.text(
    """
    WITH locked AS (
      SELECT j.job_id, j.restart_count
      FROM unnest(CAST(:job_id AS bigint[]), CAST(:attempt AS integer[])) AS u(job_id, attempt)
      JOIN jobs AS j ON j.job_id = u.job_id AND j.restart_count = u.attempt
      ORDER BY j.job_id FOR NO KEY UPDATE OF j
    ),
    total AS (
      SELECT s.job_id, sum((SELECT sum(v) FROM unnest(s.gpu_s) AS v)) AS gpu_s,
        sum((SELECT max(v) FROM unnest(s.gpu_memory_mb) AS v)) AS memory, sum(s.gpu_energy_j) AS energy
      FROM locked JOIN job_samples AS s USING (job_id, restart_count) WHERE s.gpu_s IS NOT NULL GROUP BY s.job_id
    )
    UPDATE jobs AS j SET gpu_s = t.gpu_s, max_gpu_memory_mb = t.memory, gpu_energy_j = t.energy
    FROM total AS t WHERE j.job_id = t.job_id
    """
)
