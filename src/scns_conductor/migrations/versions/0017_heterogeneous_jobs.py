"""异构作业（het_job_id 等），--no-kill 与 --contiguous

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("het_job_id", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("het_job_offset", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("het_job_id_set", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("no_kill", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("jobs", sa.Column("contiguous", sa.Boolean(), server_default="false", nullable=False))
    op.create_index(
        "jobs_by_het_job",
        "jobs",
        ["het_job_id", "het_job_offset"],
        postgresql_where=sa.text("het_job_id IS NOT NULL"),
    )


def downgrade() -> None:
    """降级。"""
    op.drop_index("jobs_by_het_job", "jobs")
    for column in ("contiguous", "no_kill", "het_job_id_set", "het_job_offset", "het_job_id"):
        op.drop_column("jobs", column)
