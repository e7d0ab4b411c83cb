"""crontab 里的一项提交的作业，记下它的时刻

Revision ID: 0036
Revises: 0035
"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("cron", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("jobs", "cron")
