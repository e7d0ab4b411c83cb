"""启动时定下的：进了哪个预留、那时的优先级；换了领导者也看得到

Revision ID: 0041
Revises: 0040
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("requested_reservation", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("start_priority", sa.Float(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("jobs", "start_priority")
    op.drop_column("jobs", "requested_reservation")
