"""作业步分到的内存与通用资源、运行中的用量，以及作业令牌的摘要

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

EMPTY_OBJECT = sa.text("'{}'::jsonb")


def upgrade() -> None:
    """升级。"""
    for name in ("node_shares", "samples"):
        op.add_column("job_steps", sa.Column(name, postgresql.JSONB(), server_default=EMPTY_OBJECT, nullable=False))
    op.add_column("resource_allocations", sa.Column("token_digest", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("resource_allocations", "token_digest")
    op.drop_column("job_steps", "samples")
    op.drop_column("job_steps", "node_shares")
