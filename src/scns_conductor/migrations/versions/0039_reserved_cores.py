"""按核留的预留；预留的版本：启动核对计划时看到的还是不是它

Revision ID: 0039
Revises: 0038
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("reservations", sa.Column("node_cpus", JSONB(), nullable=True))
    op.create_table(
        "reservation_version",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("singleton", name="reservation_version_single"),
        sa.PrimaryKeyConstraint("singleton"),
    )
    op.execute("INSERT INTO reservation_version (singleton) VALUES (true)")


def downgrade() -> None:
    """降级。"""
    op.drop_table("reservation_version")
    op.drop_column("reservations", "node_cpus")
