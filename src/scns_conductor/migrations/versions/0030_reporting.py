"""给 BI 工具看的视图（模式 reporting）：名字与列不变；没有脚本、环境、参数、路径、口令

Revision ID: 0030
Revises: 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_JOB_COLUMNS = (
    "job_id, array_job_id, array_task_id, name, user_name, account, partition, qos, wckey, state, reason, submit_time, "
    "eligible_time, start_time, end_time, suspended_s, exit_status, exit_signal, restart_count, node_list, "
    "allocated_nodes, allocated_cpus, allocated_memory, allocated_gres, cpu_user_s, cpu_system_s, max_rss_kb, time_limit"
)
_EVENT_COLUMNS = "job_id, restart_count, event_time, from_state, to_state, cause, actor"
# 视图 -> (说明, 定义)。
_VIEWS = {
    "jobs": (
        "作业，连同历史里的；时长是秒，内存 MiB",
        f"""
        SELECT job_id, array_job_id, array_task_id, name, user_name, account, partition, qos, wckey, state, reason,
          submit_time, eligible_time, start_time, end_time,
          CAST(extract(epoch FROM start_time - submit_time) AS double precision) AS waited_s,
          CASE WHEN start_time IS NOT NULL THEN greatest(0, CAST(extract(epoch FROM coalesce(end_time, now())
            - start_time) AS double precision) - suspended_s) END AS run_s,
          time_limit AS time_limit_s, exit_status, exit_signal, restart_count, node_list, allocated_nodes,
          allocated_cpus, allocated_memory AS allocated_memory_mb, allocated_gres,
          cpu_user_s + cpu_system_s AS cpu_used_s, max_rss_kb / 1024.0 AS memory_peak_mb
        FROM (SELECT {_JOB_COLUMNS} FROM public.jobs UNION ALL SELECT {_JOB_COLUMNS} FROM history.jobs) AS every
        """,
    ),
    "job_events": (
        "作业状态的变化，连同历史里的",
        f"SELECT {_EVENT_COLUMNS} FROM public.job_events UNION ALL SELECT {_EVENT_COLUMNS} FROM history.job_events",
    ),
    "nodes": (
        "节点；内存 MiB",
        "SELECT name, state, reason, cpus, memory AS memory_mb, gres, features, allocated_cpus, "
        "allocated_memory AS allocated_memory_mb, allocated_gres, last_heartbeat FROM public.nodes",
    ),
    "accounts": ("账户树", "SELECT name, parent, description, organization FROM public.accounts"),
    **{
        f"usage_{word}": (
            f"每{name}（UTC）用掉的；挂起的不算，每次尝试都算；结束之后半分钟之内加进来，运行中的不在内",
            "SELECT start, nullif(account, '') AS account, user_name, partition, nullif(qos, '') AS qos, "
            "nullif(wckey, '') AS wckey, job_cpus, jobs, cpu_s / 3600 AS cpu_hours, "
            "memory_mb_s / 1024 / 3600 AS memory_gib_hours, node_s / 3600 AS node_hours, gpu_s / 3600 AS gpu_hours "
            f"FROM public.usage_rollups WHERE period = '{period}'",
        )
        for word, name, period in (("hourly", "小时", "hour"), ("daily", "天", "day"), ("monthly", "月", "month"))
    },
}


def upgrade() -> None:
    """升级。"""
    op.execute("CREATE SCHEMA IF NOT EXISTS reporting")
    for name, (comment, definition) in _VIEWS.items():
        op.execute(f"CREATE VIEW reporting.{name} AS {definition}")
        op.execute(f"COMMENT ON VIEW reporting.{name} IS '{comment}'")


def downgrade() -> None:
    """降级。"""
    op.execute("DROP SCHEMA reporting CASCADE")
