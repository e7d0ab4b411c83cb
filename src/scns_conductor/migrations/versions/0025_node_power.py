"""节点的电源与重启；预先声明的节点

Revision ID: 0025
Revises: 0024
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_MOMENT = sa.TIMESTAMP(timezone=True)
_CHECKS = {
    "nodes_power_known": "power_state IN ('ON', 'OFF', 'POWERING_UP', 'POWERING_DOWN')",
    "nodes_reboot_known": "reboot IN ('REQUESTED', 'ISSUED')",
    "nodes_leaving_is_empty": "allocated_cpus = 0 OR (power_state <> 'POWERING_DOWN' "
    "AND reboot IS DISTINCT FROM 'ISSUED')",
}


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("cloud", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("power_state", sa.Text(), server_default="ON", nullable=False),
        sa.Column("power_since", _MOMENT, nullable=True),
        sa.Column("power_request", sa.Text(), nullable=True),
        sa.Column("power_called", _MOMENT, nullable=True),
        sa.Column("power_done", _MOMENT, nullable=True),
        sa.Column("unasked_at", _MOMENT, nullable=True),
        sa.Column("power_error", sa.Text(), nullable=True),
        sa.Column("boot_s", sa.Float(), nullable=True),
        sa.Column("boots", sa.Integer(), server_default="0", nullable=False),
        sa.Column("boot_total_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("off_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("idle_since", _MOMENT, nullable=True),
        sa.Column("planned", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("reboot", sa.Text(), nullable=True),
        sa.Column("reboot_asap", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("reboot_next_state", sa.Text(), nullable=True),
        sa.Column("reboot_reason", sa.Text(), nullable=True),
        sa.Column("reboot_since", _MOMENT, nullable=True),
    ]


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("configuring", sa.Boolean(), server_default="false", nullable=False))
    op.create_index("jobs_configuring", "jobs", ["job_id"], postgresql_where=sa.text("configuring"))
    for column in _columns():
        op.add_column("nodes", column)
    for name, condition in _CHECKS.items():
        op.create_check_constraint(name, "nodes", condition)


def downgrade() -> None:
    """降级。"""
    for name in _CHECKS:
        op.drop_constraint(name, "nodes")
    for column in reversed(_columns()):
        op.drop_column("nodes", column.name)
    op.drop_index("jobs_configuring", "jobs")
    op.drop_column("jobs", "configuring")
