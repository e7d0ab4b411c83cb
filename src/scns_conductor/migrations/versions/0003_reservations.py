"""预留

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

EMPTY = sa.text("'{}'")


def upgrade() -> None:
    """升级。"""
    op.create_table(
        "reservations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("users", postgresql.ARRAY(sa.Text()), server_default=EMPTY, nullable=False),
        sa.Column("accounts", postgresql.ARRAY(sa.Text()), server_default=EMPTY, nullable=False),
        sa.Column("flags", postgresql.ARRAY(sa.Text()), server_default=EMPTY, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sa.CheckConstraint("end_time > start_time", name="reservations_not_empty"),
    )


def downgrade() -> None:
    """降级。"""
    op.drop_table("reservations")
