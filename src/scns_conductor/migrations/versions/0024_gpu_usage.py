"""GPU 的用量：忙的时间、显存、能耗

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("job_samples", sa.Column("gpu_energy_j", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("gpu_s", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("max_gpu_memory_mb", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("gpu_energy_j", sa.Double(), nullable=True))


def downgrade() -> None:
    """降级。"""
    for name in ("gpu_energy_j", "max_gpu_memory_mb", "gpu_s"):
        op.drop_column("jobs", name)
    op.drop_column("job_samples", "gpu_energy_j")
