"""作业的容器：OCI 目录与镜像

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("container", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("container_image", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    op.drop_column("jobs", "container_image")
    op.drop_column("jobs", "container")
