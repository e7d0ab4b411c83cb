"""调度器绕开了哪些被别的会话锁住的行

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column(
        "scheduler_leader",
        sa.Column(
            "blocked", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
    )


def downgrade() -> None:
    """降级。"""
    op.drop_column("scheduler_leader", "blocked")
