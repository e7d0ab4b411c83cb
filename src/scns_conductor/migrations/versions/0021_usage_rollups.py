"""用量的汇总（usage_rollups）；结束的尝试由触发器记下（usage_due），从前的慢慢补（usage_backfill）

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# 结束由好几处写（代理、调度器、节点故障），由触发器记：哪一处也漏不了，旧版的进程写的也在内。
# 记的是结束那一刻的：重新排队会把分区改回原来列的几个，用户还可以改账户。
_NOTE = """
CREATE FUNCTION scns_note_usage() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage_due (job_id, restart_count, account, user_name, partition, qos, wckey, licenses, final)
  VALUES (OLD.job_id, OLD.restart_count, OLD.account, OLD.user_name, OLD.partition, OLD.qos, OLD.wckey,
    OLD.licenses, NEW.state <> 'PENDING')
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$
"""
_TRIGGER = """
CREATE TRIGGER jobs_note_usage AFTER UPDATE OF state ON jobs FOR EACH ROW
WHEN (OLD.state IN ('RUNNING', 'SUSPENDED') AND NEW.state NOT IN ('RUNNING', 'SUSPENDED'))
EXECUTE FUNCTION scns_note_usage()
"""
_PLUS = """
CREATE FUNCTION scns_usage_plus(base jsonb, delta jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN delta = '{}'::jsonb THEN base WHEN base = '{}'::jsonb THEN delta ELSE (
    SELECT jsonb_object_agg(key, amount) FROM (SELECT key, sum(value::numeric) AS amount FROM (
      SELECT * FROM jsonb_each_text(base) UNION ALL SELECT * FROM jsonb_each_text(delta)) AS parts
      GROUP BY key) AS totals) END
$$
"""
# 建触发器的锁之后的时刻：在它之前放开的归补的，之后的归触发器，不重不漏。
_BACKFILL = """
INSERT INTO usage_backfill (singleton, next_job_id, before)
SELECT true, max(job_id), clock_timestamp() FROM jobs HAVING max(job_id) IS NOT NULL
"""


def upgrade() -> None:
    """升级。"""
    names = ("account", "user_name", "partition", "qos", "wckey")
    sums = ("wall_s", "cpu_s", "memory_mb_s", "node_s", "gpu_s", "wall_moment")
    op.create_table(
        "usage_rollups",
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("start", sa.TIMESTAMP(timezone=True), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in names),
        sa.Column("job_cpus", sa.Integer(), server_default="0", nullable=False),
        sa.Column("jobs", sa.BigInteger(), server_default="0", nullable=False),
        *(sa.Column(name, sa.Numeric(), server_default="0", nullable=False) for name in sums),
        sa.Column("others", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("period", "start", *names, "job_cpus"),
        sa.CheckConstraint("period IN ('hour', 'day', 'month')", name="usage_rollups_period_known"),
    )
    op.create_table(
        "usage_due",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("qos", sa.Text(), nullable=True),
        sa.Column("wckey", sa.Text(), nullable=True),
        sa.Column("licenses", sa.Text(), nullable=True),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "restart_count"),
    )
    op.create_table(
        "usage_backfill",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("next_job_id", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("singleton"),
        sa.CheckConstraint("singleton", name="usage_backfill_single"),
    )
    # 汇总里当前的一格反复地加；来了就走的那张按行数清理。
    op.execute("ALTER TABLE usage_rollups SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)")
    op.execute(
        "ALTER TABLE usage_due SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
        "autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000, vacuum_truncate = off)"
    )
    for statement in (_PLUS, _NOTE, _TRIGGER, _BACKFILL):
        op.execute(statement)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP TRIGGER jobs_note_usage ON jobs")
    op.execute("DROP FUNCTION scns_note_usage()")
    for table in ("usage_backfill", "usage_due", "usage_rollups"):
        op.drop_table(table)
    op.execute("DROP FUNCTION scns_usage_plus(jsonb, jsonb)")
