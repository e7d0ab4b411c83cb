"""作业的采样（job_samples）

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.create_table(
        "job_samples",
        sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), autoincrement=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("node_name", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("width_s", sa.Double(), nullable=False),
        sa.Column("elapsed_s", sa.Double(), nullable=False),
        sa.Column("cpu_s", ARRAY(sa.REAL()), nullable=False),
        sa.Column("memory_mb", ARRAY(sa.Integer()), nullable=False),
        sa.Column("gpu_s", ARRAY(sa.REAL()), nullable=True),
        sa.Column("gpu_memory_mb", ARRAY(sa.Integer()), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "restart_count", "node_name"),
        sa.CheckConstraint("cardinality(cpu_s) = cardinality(memory_mb)", name="job_samples_lengths_match"),
    )
    # 运行中的作业整行地改：留出空处，早清理。
    op.execute(
        "ALTER TABLE job_samples SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, "
        "autovacuum_vacuum_threshold = 1000)"
    )


def downgrade() -> None:
    """降级。"""
    op.drop_table("job_samples")
