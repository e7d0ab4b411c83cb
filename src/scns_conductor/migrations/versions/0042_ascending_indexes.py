"""按名字、用户等找作业的索引里，新的作业排在后面；没有通用资源的节点不为核对它调一遍 SQL 函数

Revision ID: 0042
Revises: 0041
"""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

# 索引 -> 表、列、条件。
_INDEXES = {
    "jobs_by_state": ("jobs", "state", None),
    "jobs_by_user": ("jobs", "user_name", None),
    "jobs_by_account": ("jobs", "account", "account IS NOT NULL"),
    "jobs_by_name": ("jobs", "name", None),
    "jobs_by_partition": ("jobs", "partition", "partition <> 'main'"),
    "jobs_by_qos": ("jobs", "qos", "qos IS NOT NULL"),
    "resource_allocations_by_node": ("resource_allocations", "node_name", None),
}
_WITHIN = "scns_gres_within(allocated_gres, gres)"


def upgrade() -> None:
    """升级。"""
    # 新的排在前面时，满了的页总是对半分，右边的一半再也没有新的进来：索引是应有的两倍。
    # 两列都反过来，倒着走还是同样的次序（列从小到大，作业号从大到小）。
    _rebuild("{} DESC", "job_id")
    _check(f"allocated_gres = '{{}}' OR {_WITHIN}")


def downgrade() -> None:
    """降级。"""
    _check(_WITHIN)
    _rebuild("{}", "job_id DESC")


def _rebuild(column: str, job_id: str) -> None:
    for name, (table, key, condition) in _INDEXES.items():
        op.drop_index(name, table_name=table)
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, [sa.text(column.format(key)), sa.text(job_id)], postgresql_where=where)


def _check(condition: str) -> None:
    op.drop_constraint("nodes_gres_within", "nodes", type_="check")
    op.create_check_constraint("nodes_gres_within", "nodes", sa.text(condition))
