"""历史里按名字、用户等找作业的索引，也是新的作业排在后面（见 0042）

Revision ID: 0043
Revises: 0042
"""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

# 表、列；没有值的占多数的列，只给有值的建。
_INDEXES = (
    ("jobs", "state", None),
    ("jobs", "user_name", None),
    ("jobs", "name", None),
    ("jobs", "account", "account IS NOT NULL"),
    ("jobs", "partition", None),
    ("jobs", "qos", "qos IS NOT NULL"),
    ("resource_allocations", "node_name", None),
)


def upgrade() -> None:
    """升级。"""
    # 移进历史的，结束得早的在先，作业号大致从小到大。
    _rebuild("{} DESC", "job_id")


def downgrade() -> None:
    """降级。"""
    _rebuild("{}", "job_id DESC")


def _rebuild(column: str, job_id: str) -> None:
    for table, key, condition in _INDEXES:
        name = f"{table}_by_{key}"
        op.drop_index(name, table_name=table, schema="history")
        where = None if condition is None else sa.text(condition)
        columns = [sa.text(column.format(key)), sa.text(job_id)]
        op.create_index(name, table, columns, schema="history", postgresql_where=where)
