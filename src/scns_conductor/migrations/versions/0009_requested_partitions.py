"""提交时列出的分区（重新排队时恢复）；预留的许可证

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
    op.add_column("reservations", sa.Column("licenses", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("reservations", "licenses")
    op.drop_column("jobs", "requested_partitions")
