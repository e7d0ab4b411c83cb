"""作业步

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """升级。"""
    op.create_table(
        "job_steps",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="RUNNING", nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("cpus_per_task", sa.Integer(), nullable=False),
        sa.Column("nodes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("node_tasks", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("node_cpus", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("pending_nodes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("launch", postgresql.JSONB(), nullable=False),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True)),
        sa.Column("exit_status", sa.Integer()),
        sa.Column("exit_signal", sa.Integer()),
        sa.Column("cpu_user_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("cpu_system_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("max_rss_kb", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("job_id", "restart_count", "step_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
        sa.CheckConstraint(
            "state IN ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPLETED', 'CANCELLED', 'FAILED', 'TIMEOUT', "
            "'NODE_FAIL', 'PREEMPTED', 'OUT_OF_MEMORY', 'DEADLINE', 'BOOT_FAIL')",
            name="job_steps_state_known",
        ),
        sa.CheckConstraint(
            "cardinality(nodes) = cardinality(node_tasks) AND cardinality(nodes) = cardinality(node_cpus)",
            name="job_steps_nodes_match",
        ),
    )


def downgrade() -> None:
    """降级。"""
    op.drop_table("job_steps")
