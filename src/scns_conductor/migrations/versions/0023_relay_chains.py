"""接力的链：一条链上的分配共用一份资源（resource_allocations.relay_chain）

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("resource_allocations", sa.Column("relay_chain", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("resource_allocations", "relay_chain")
