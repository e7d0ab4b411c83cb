"""提交时列出的分区（重新排队时恢复）；等步长的数组按序号记；预留的许可证

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("requested_partitions", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("array_base", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("array_step", sa.Integer(), server_default="1", nullable=False))
    op.add_column("reservations", sa.Column("licenses", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级；等步长的数组换回任务号。"""
    op.execute(
        "UPDATE jobs SET array_remaining = (SELECT range_agg(int4range(array_base + array_step * k, "
        "array_base + array_step * k + 1)) FROM unnest(array_remaining) AS r, "
        "generate_series(lower(r), upper(r) - 1) AS k) WHERE array_step > 1 AND array_remaining IS NOT NULL"
    )
    op.drop_column("jobs", "array_step")
    op.drop_column("jobs", "array_base")
    op.drop_column("reservations", "licenses")
    op.drop_column("jobs", "requested_partitions")
