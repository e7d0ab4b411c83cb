"""分区自己的 SuspendTime、SuspendTimeout、ResumeTimeout

Revision ID: 0035
Revises: 0034
"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_COLUMNS = ("suspend_time", "suspend_timeout", "resume_timeout")


def upgrade() -> None:
    """升级。"""
    for name in _COLUMNS:
        op.add_column("partitions", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """降级。"""
    for name in reversed(_COLUMNS):
        op.drop_column("partitions", name)
