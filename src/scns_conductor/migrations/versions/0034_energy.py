"""reporting.usage_*：GPU 的能耗（energy_kwh）

Revision ID: 0034
Revises: 0033
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_COLUMNS = (
    "start, nullif(account, '') AS account, user_name, partition, nullif(qos, '') AS qos, nullif(wckey, '') AS wckey, "
    "job_cpus, jobs, cpu_s / 3600 AS cpu_hours, memory_mb_s / 1024 / 3600 AS memory_gib_hours, "
    "node_s / 3600 AS node_hours, gpu_s / 3600 AS gpu_hours"
)
_ENERGY = "CAST(coalesce(others ->> 'energy', '0') AS numeric) / 3600000 AS energy_kwh"
_VIEWS = {
    f"usage_{word}": (
        f"每{name}（UTC）用掉的；挂起的不算，每次尝试都算；结束之后半分钟之内加进来（有 GPU 的三分钟），运行中的不在内",
        f"FROM public.usage_rollups WHERE period = '{period}'",
    )
    for word, name, period in (("hourly", "小时", "hour"), ("daily", "天", "day"), ("monthly", "月", "month"))
}


def upgrade() -> None:
    """升级。"""
    for name, (comment, rest) in _VIEWS.items():
        op.execute(f"CREATE OR REPLACE VIEW reporting.{name} AS SELECT {_COLUMNS}, {_ENERGY} {rest}")
        op.execute(f"COMMENT ON VIEW reporting.{name} IS '{comment}'")


def downgrade() -> None:
    """降级。"""
    for name, (_, rest) in _VIEWS.items():
        op.execute(f"DROP VIEW reporting.{name}")
        op.execute(f"CREATE VIEW reporting.{name} AS SELECT {_COLUMNS} {rest}")
