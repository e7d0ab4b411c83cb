"""只与自己人（同一个用户、同一个标签）共用节点的作业

Revision ID: 0033
Revises: 0032
"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("exclusive_to", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("mcs_label", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("jobs", "mcs_label")
    op.drop_column("jobs", "exclusive_to")
