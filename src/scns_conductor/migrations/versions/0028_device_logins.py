"""scns login 的设备流程：等着批准的终端

Revision ID: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    now = sa.text("clock_timestamp()")
    op.create_table(
        "device_logins",
        sa.Column("device_digest", sa.LargeBinary(), primary_key=True),
        sa.Column("user_code", sa.Text(), nullable=False, unique=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=now, nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=True),
        sa.Column("denied", sa.Boolean(), server_default=sa.false(), nullable=False),
    )


def downgrade() -> None:
    """降级。"""
    op.drop_table("device_logins")
