"""接力的链：一条链上的分配共用一份资源（resource_allocations.relay_chain）

<<<<<<<< HEAD:src/scns_conductor/migrations/versions/0021_relay_chains.py
Revision ID: 0021
Revises: 0020
========
Revision ID: 0019
Revises: 0018
>>>>>>>> 30ae0e3 (refactor: 接力的链的数据库改动是 0019):src/scns_conductor/migrations/versions/0019_relay_chains.py
"""

import sqlalchemy as sa
from alembic import op

<<<<<<<< HEAD:src/scns_conductor/migrations/versions/0021_relay_chains.py
revision = "0021"
down_revision = "0020"
========
revision = "0019"
down_revision = "0018"
>>>>>>>> 30ae0e3 (refactor: 接力的链的数据库改动是 0019):src/scns_conductor/migrations/versions/0019_relay_chains.py
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("resource_allocations", sa.Column("relay_chain", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("resource_allocations", "relay_chain")
