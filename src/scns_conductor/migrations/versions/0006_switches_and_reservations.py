"""等交换机的时长；预留的分区

Revision ID: 0006
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("maximum_switch_wait_time", sa.BigInteger(), nullable=True))
    op.add_column("reservations", sa.Column("partition", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("reservations", "partition")
    op.drop_column("jobs", "maximum_switch_wait_time")
