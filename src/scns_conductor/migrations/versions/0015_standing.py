"""crontab（scrontab）与触发（strigger）

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_EMPTY_LIST = sa.text("'{}'")


def upgrade() -> None:
    """升级。"""
    op.create_table(
        "crontabs",
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column(
            "updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("user_name"),
    )
    op.create_table(
        "cron_entries",
        sa.Column("entry_id", sa.BigInteger(), sa.Identity(), primary_key=True, nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("template", JSONB(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["user_name"], ["crontabs.user_name"], ondelete="CASCADE"),
    )
    op.create_index("cron_entries_by_user", "cron_entries", ["user_name", "first_line"])
    op.create_table(
        "triggers",
        sa.Column("trigger_id", sa.BigInteger(), sa.Identity(), primary_key=True, nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("node_names", ARRAY(sa.Text()), nullable=True),
        sa.Column("offset_s", sa.Integer(), server_default="0", nullable=False),
        sa.Column("permanent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("template", JSONB(), nullable=False),
        sa.Column("seen", ARRAY(sa.Text()), server_default=_EMPTY_LIST, nullable=False),
        sa.Column("hits", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
    )
    op.create_index("triggers_by_job", "triggers", ["job_id"], postgresql_where=sa.text("job_id IS NOT NULL"))


def downgrade() -> None:
    """降级。"""
    op.drop_table("triggers")
    op.drop_table("cron_entries")
    op.drop_table("crontabs")
