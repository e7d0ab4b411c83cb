"""列表用的索引：按提交时刻排的排队作业，少见的分区与 QOS。

Revision ID: 0008
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """排队的按作业号查有 jobs_by_state，所以 jobs_pending 改按提交时刻；后两个在缺省的分区、没有 QOS 时不占写入。"""
    op.drop_index("jobs_pending", table_name="jobs")
    op.create_index("jobs_pending", "jobs", ["submit_time", "job_id"], postgresql_where=sa.text("state = 'PENDING'"))
    op.create_index(
        "jobs_by_partition",
        "jobs",
        ["partition", sa.text("job_id DESC")],
        postgresql_where=sa.text("partition <> 'main'"),
    )
    op.create_index("jobs_by_qos", "jobs", ["qos", sa.text("job_id DESC")], postgresql_where=sa.text("qos IS NOT NULL"))


def downgrade() -> None:
    """换回按作业号的。"""
    op.drop_index("jobs_by_qos", table_name="jobs")
    op.drop_index("jobs_by_partition", table_name="jobs")
    op.drop_index("jobs_pending", table_name="jobs")
    op.create_index("jobs_pending", "jobs", ["job_id"], postgresql_where=sa.text("state = 'PENDING'"))
