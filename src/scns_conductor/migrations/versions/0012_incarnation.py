"""数据库的化身，节点的心跳计数：恢复到从前能被发现

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from scns_conductor.statements.incarnation import new_incarnation

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级；每个数据库得到自己的化身。"""
    table = op.create_table(
        "system_incarnation",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("since", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("singleton"),
        sa.CheckConstraint("singleton", name="system_incarnation_single"),
    )
    op.bulk_insert(table, [{"singleton": True, "incarnation": new_incarnation(), "reason": "created"}])
    op.add_column("nodes", sa.Column("beat", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """降级。"""
    op.drop_column("nodes", "beat")
    op.drop_table("system_incarnation")
