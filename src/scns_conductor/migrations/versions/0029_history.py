"""历史：模式 history 里按结束的月份分区的表，保留期（retention_policy）

Revision ID: 0029
Revises: 0028
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

# 表 -> (分区的列, 主键, 别的索引)。
_TABLES = {
    "jobs": (
        "end_time",
        "job_id, end_time",
        (
            "state, job_id DESC", "user_name, job_id DESC", "name, job_id DESC", "submit_time, job_id",
            "end_time, job_id", "account, job_id DESC", "partition, job_id DESC", "qos, job_id DESC",
            "array_job_id, array_task_id", "het_job_id, het_job_offset",
        ),
    ),
    "resource_allocations": (
        "job_end", "job_id, restart_count, node_name, job_end", ("node_name, job_id DESC",)
    ),
    "job_events": ("job_end", "job_id, event_id, job_end", ()),
    "job_outputs": ("job_end", "job_id, restart_count, stream, job_end", ()),
    "job_samples": ("job_end", "job_id, restart_count, node_name, job_end", ()),
    "job_steps": ("job_end", "job_id, restart_count, step_id, job_end", ()),
}  # fmt: skip
# 没有值的占多数的列：只给有值的建。
_SPARSE = ("account", "qos", "array_job_id", "het_job_id")
_MOVE_AFTER_S = 90 * 86400


def upgrade() -> None:
    """升级；不动已有的行，也不锁它们。"""
    op.execute("CREATE SCHEMA IF NOT EXISTS history")
    for table, (key, primary, indexes) in _TABLES.items():
        # 列照抄，缺省值、自增、外键不要：历史只抄进去，不再改。
        extra = "" if table == "jobs" else ", job_end timestamptz NOT NULL"
        op.execute(f"CREATE TABLE history.{table} (LIKE public.{table}{extra}) PARTITION BY RANGE ({key})")
        op.execute(f"ALTER TABLE history.{table} ADD PRIMARY KEY ({primary})")
        for columns in indexes:
            first = columns.split(",")[0]
            only = f" WHERE {first} IS NOT NULL" if first in _SPARSE else ""
            op.execute(f"CREATE INDEX {table}_by_{first} ON history.{table} ({columns}){only}")
    op.execute(
        "CREATE TABLE history.counts (month timestamptz NOT NULL, state text NOT NULL, jobs bigint NOT NULL, "
        "PRIMARY KEY (month, state))"
    )
    op.create_table(
        "retention_policy",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("move_after_s", sa.BigInteger(), nullable=True),
        sa.Column("drop_after_s", sa.BigInteger(), nullable=True),
        sa.Column(
            "changed_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("singleton"),
        sa.CheckConstraint("singleton", name="retention_policy_single"),
        sa.CheckConstraint("move_after_s > 0 AND drop_after_s > 0", name="retention_policy_positive"),
        sa.CheckConstraint("drop_after_s >= move_after_s", name="retention_policy_order"),
    )
    op.execute(f"INSERT INTO retention_policy (singleton, move_after_s) VALUES (true, {_MOVE_AFTER_S})")


def downgrade() -> None:
    """降级；历史里还有作业就拒绝：旧的版本看不见它们。"""
    moved = op.get_bind().execute(sa.text("SELECT count(*) FROM (SELECT FROM history.jobs LIMIT 1) AS h")).scalar_one()
    if moved:
        raise RuntimeError("历史里还有作业，旧的版本看不见它们；先 scns db retention bring-back 再降级")
    op.drop_table("retention_policy")
    op.execute("DROP SCHEMA history CASCADE")
