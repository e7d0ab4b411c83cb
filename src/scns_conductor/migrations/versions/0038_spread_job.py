"""摊开到尽量多的节点（--spread-job），与几个节点里取最少（--use-min-nodes）

Revision ID: 0038
Revises: 0037
"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    for column in ("spread_job", "use_min_nodes"):
        op.add_column("jobs", sa.Column(column, sa.Boolean(), server_default="false", nullable=False))


def downgrade() -> None:
    """降级。"""
    for column in ("use_min_nodes", "spread_job"):
        op.drop_column("jobs", column)
