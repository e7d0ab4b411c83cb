"""热表的存储参数；通知经 scns_notify

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# 服务器缺省的 20% 才清理：五百万行的 jobs 要攒一百万个死行。这些表自己说了算，不靠 postgresql.conf。
# fillfactor 只给没有动索引列的更新很多的表（原因、认领、进程号、心跳）：空出的地方使它们都是 HOT。
_PARAMETERS: dict[str, dict[str, float | str]] = {
    "jobs": {
        "fillfactor": 85,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_analyze_scale_factor": 0.02,
        "autovacuum_analyze_threshold": 1000,
    },
    "resource_allocations": {
        "fillfactor": 80,
        "autovacuum_vacuum_scale_factor": 0.02,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_analyze_scale_factor": 0.02,
        "autovacuum_analyze_threshold": 1000,
    },
    "job_steps": {
        "fillfactor": 80,
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
    },
    # 只增不改：为的是可见性映射，历史再长也只扫新的。
    "job_events": {"autovacuum_vacuum_insert_scale_factor": 0.05, "autovacuum_analyze_scale_factor": 0.05},
    # 来了就走的两张：按行数清理，不按比例；截断要独占锁，会挡住收件箱，不截。
    "scheduler_inbox": {
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_analyze_scale_factor": 0,
        "autovacuum_analyze_threshold": 10_000,
        "vacuum_truncate": "off",
    },
    "request_answers": {
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 1000,
        "vacuum_truncate": "off",
    },
    "nodes": {
        "autovacuum_vacuum_scale_factor": 0,
        "autovacuum_vacuum_threshold": 500,
        "autovacuum_analyze_scale_factor": 0.1,
    },
    "scheduler_leader": {"fillfactor": 10, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 200},
}
# 通知只是提示，收件箱才是信：队列（全服务器共用，任何一个停在事务里的 LISTEN 都使它只增不减）过半就不再送，
# 绝不让它满了使提交失败；听的一方那时自己隔一会儿看一眼。
_NOTIFY = """
CREATE FUNCTION scns_notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify(channel, payload);
  END IF;
END
$$
"""


def upgrade() -> None:
    """升级。"""
    for table, parameters in _PARAMETERS.items():
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in parameters.items())})")
    op.execute(_NOTIFY)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP FUNCTION scns_notify(text, text)")
    for table, parameters in _PARAMETERS.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(parameters)})")
