"""节点的工作目录所在的盘还有多少；一个节点出过的事按它找得到

Revision ID: 0031
Revises: 0030
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("nodes", sa.Column("spool_free", sa.BigInteger()))
    op.create_index("cluster_events_of", "cluster_events", ["subject", "event_id"])


def downgrade() -> None:
    """降级。"""
    op.drop_index("cluster_events_of", "cluster_events")
    op.drop_column("nodes", "spool_free")
