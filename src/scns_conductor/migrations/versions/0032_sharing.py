"""轮流用 CPU 的分区，分区自己的抢占豁免，QOS 之内的抢占

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_MODES = "preempt_mode IN ('requeue', 'cancel', 'suspend', 'off')"
_WITHIN = "preempt_mode ~ '^(requeue|cancel|suspend|off|((requeue|cancel|suspend),)?within)$'"


def upgrade() -> None:
    """升级。"""
    op.add_column("partitions", sa.Column("oversubscribe", sa.Text(), server_default="NO", nullable=False))
    op.create_check_constraint(
        "partitions_oversubscribe_known", "partitions", "oversubscribe ~ '^(NO|(YES|FORCE):[1-9][0-9]{0,3})$'"
    )
    op.add_column("partitions", sa.Column("preempt_exempt_time", sa.BigInteger(), nullable=True))
    op.drop_constraint("qos_preempt_mode_known", "qos")
    op.create_check_constraint("qos_preempt_mode_known", "qos", _WITHIN)


def downgrade() -> None:
    """降级。"""
    op.drop_constraint("qos_preempt_mode_known", "qos")
    op.execute("UPDATE qos SET preempt_mode = nullif(rtrim(replace(preempt_mode, 'within', ''), ','), '')")
    op.create_check_constraint("qos_preempt_mode_known", "qos", _MODES)
    op.drop_column("partitions", "preempt_exempt_time")
    op.drop_constraint("partitions_oversubscribe_known", "partitions")
    op.drop_column("partitions", "oversubscribe")
