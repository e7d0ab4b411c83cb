"""账户、用户、关联与 QOS；抢占时的宽限与借出的 CPU

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

EMPTY_LIST = sa.text("'{}'")
EMPTY_OBJECT = sa.text("'{}'::jsonb")


def _tres(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(), server_default=EMPTY_OBJECT, nullable=False)


def _words(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else EMPTY_LIST
    return sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=default, nullable=nullable)


def _limits() -> list[sa.Column[object]]:
    return [
        _tres("grp_tres"),
        _tres("grp_tres_mins"),
        _tres("grp_tres_run_mins"),
        sa.Column("grp_jobs", sa.Integer()),
        sa.Column("grp_submit_jobs", sa.Integer()),
        sa.Column("grp_wall", sa.BigInteger()),
        _tres("max_tres_per_job"),
        _tres("max_tres_per_node"),
        _tres("max_tres_mins_per_job"),
        sa.Column("max_wall", sa.BigInteger()),
    ]


def upgrade() -> None:
    """升级；root 账户与 normal QOS 是本来就有的（与 slurmdbd 相同）。"""
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("parent", sa.Text(), sa.ForeignKey("accounts.name")),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("organization", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(name = 'root') = (parent IS NULL)", name="accounts_one_root"),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("admin_level", sa.Text(), server_default="None", nullable=False),
        sa.Column("default_account", sa.Text(), sa.ForeignKey("accounts.name", ondelete="SET NULL")),
        sa.CheckConstraint("admin_level IN ('None', 'Operator', 'Administrator')", name="users_admin_level_known"),
    )
    op.create_table(
        "qos",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False),
        _words("flags"),
        _words("preempt"),
        sa.Column("preempt_mode", sa.Text()),
        sa.Column("preempt_exempt_time", sa.BigInteger()),
        sa.Column("grace_time", sa.Integer(), server_default="0", nullable=False),
        sa.Column("usage_factor", sa.Float(), server_default="1", nullable=False),
        *_limits(),
        _tres("max_tres_per_user"),
        sa.Column("max_jobs_per_user", sa.Integer()),
        sa.Column("max_submit_jobs_per_user", sa.Integer()),
        _tres("max_tres_per_account"),
        sa.Column("max_jobs_per_account", sa.Integer()),
        sa.Column("max_submit_jobs_per_account", sa.Integer()),
        _tres("min_tres_per_job"),
        sa.CheckConstraint("usage_factor >= 0", name="qos_usage_factor_not_negative"),
        sa.CheckConstraint("preempt_mode IN ('requeue', 'cancel', 'suspend', 'off')", name="qos_preempt_mode_known"),
    )
    op.create_table(
        "associations",
        sa.Column("association_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("account", sa.Text(), sa.ForeignKey("accounts.name", ondelete="CASCADE"), nullable=False),
        sa.Column("user_name", sa.Text(), server_default="", nullable=False),
        sa.Column("partition", sa.Text(), server_default="", nullable=False),
        sa.Column("shares", sa.Integer(), server_default="1", nullable=False),
        sa.Column("priority", sa.BigInteger()),
        sa.Column("default_qos", sa.Text(), sa.ForeignKey("qos.name", ondelete="SET NULL")),
        _words("qos", nullable=True),
        sa.Column("max_jobs", sa.Integer()),
        sa.Column("max_submit_jobs", sa.Integer()),
        sa.Column("comment", sa.Text()),
        *_limits(),
        sa.UniqueConstraint("account", "user_name", "partition", name="associations_once"),
        sa.CheckConstraint("shares >= 0", name="associations_shares_not_negative"),
        sa.CheckConstraint("user_name <> '' OR partition = ''", name="associations_partition_of_user"),
    )
    op.create_index("associations_by_user", "associations", ["user_name"], postgresql_where=sa.text("user_name <> ''"))
    op.execute("INSERT INTO accounts (name, description, organization) VALUES ('root', 'default root account', 'root')")
    op.execute("INSERT INTO qos (name, description) VALUES ('normal', 'Normal QOS default')")
    op.execute("INSERT INTO associations (account, qos) VALUES ('root', '{normal}')")
    op.add_column("jobs", sa.Column("requested_end_grace", sa.Integer()))
    op.add_column("resource_allocations", sa.Column("lent_cpus", sa.Integer(), server_default="0", nullable=False))
    op.create_check_constraint("resource_allocations_lent", "resource_allocations", "lent_cpus >= 0")


def downgrade() -> None:
    """降级；借出的 CPU 先归回作业的名下，否则计数会对不上——有借出的时候拒绝降级。"""
    lent = sa.text("SELECT count(*) FROM resource_allocations WHERE lent_cpus > 0 AND released_at IS NULL")
    if op.get_bind().scalar(lent):
        raise RuntimeError("还有被抢占而挂起的作业；请等它们恢复之后再降级")
    op.drop_constraint("resource_allocations_lent", "resource_allocations")
    op.drop_column("resource_allocations", "lent_cpus")
    op.drop_column("jobs", "requested_end_grace")
    for name in ("associations", "qos", "users", "accounts"):
        op.drop_table(name)
