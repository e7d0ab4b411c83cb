"""记下脚本在提交者那里的路径（squeue %o、scontrol 的 Command）。

Revision ID: 0007
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """可以空着：旧的作业没有。"""
    op.add_column("jobs", sa.Column("command", sa.Text(), nullable=True))


def downgrade() -> None:
    """只是记录，丢了不要紧。"""
    op.drop_column("jobs", "command")
