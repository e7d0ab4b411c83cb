"""CPU 拓扑：节点的插槽、核、线程，作业对它们的要求，--prefer 与 --core-spec

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_OF_JOB = (
    "sockets_per_node",
    "cores_per_socket",
    "threads_per_core",
    "tasks_per_core",
    "tasks_per_socket",
    "core_specification",
    "thread_specification",
)


def upgrade() -> None:
    """升级。"""
    for name in ("sockets", "cores_per_socket", "threads_per_core"):
        op.add_column("nodes", sa.Column(name, sa.Integer(), server_default="1", nullable=False))
    # 节点下次登记时照实写；在那之前一个插槽、CPU 数个核。
    op.execute("UPDATE nodes SET cores_per_socket = cpus")
    for name in _OF_JOB:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("prefer", sa.Text(), nullable=True))


def downgrade() -> None:
    """降级。"""
    for name in ("prefer", *_OF_JOB):
        op.drop_column("jobs", name)
    for name in ("threads_per_core", "cores_per_socket", "sockets"):
        op.drop_column("nodes", name)
