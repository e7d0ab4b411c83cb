"""初始结构

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# 通用资源逐项核对：已分配的不为负，也不超过总数。给 nodes 的 CHECK 用。
GRES_WITHIN = """
CREATE FUNCTION scns_gres_within(used jsonb, total jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT used = '{}'::jsonb OR NOT EXISTS (
    SELECT 1 FROM jsonb_each_text(used) AS item
    WHERE item.value::bigint < 0 OR item.value::bigint > coalesce((total ->> item.key)::bigint, 0))
$$
"""
# 两份通用资源相加（sign 为 1）或相减（-1），结果里去掉 0。
GRES_ADD = """
CREATE FUNCTION scns_gres_add(base jsonb, delta jsonb, sign integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN delta = '{}'::jsonb THEN base ELSE (
    SELECT coalesce(jsonb_object_agg(key, amount) FILTER (WHERE amount <> 0), '{}'::jsonb)
    FROM (SELECT key, sum(amount) AS amount FROM (
      SELECT key, value::bigint AS amount FROM jsonb_each_text(base)
      UNION ALL
      SELECT key, sign * value::bigint FROM jsonb_each_text(delta)) AS parts GROUP BY key) AS totals) END
$$
"""
GRES_PLUS = """
CREATE FUNCTION scns_gres_plus(base jsonb, delta jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT scns_gres_add(base, delta, 1) $$
"""
# 多行分配合成一份通用资源：把每行的 jsonb 按键求和。
GRES_SUM = "CREATE AGGREGATE scns_gres_sum(jsonb) (SFUNC = scns_gres_plus, STYPE = jsonb, INITCOND = '{}')"


def upgrade() -> None:
    """升级。"""
    op.execute(GRES_WITHIN)
    op.execute(GRES_ADD)
    op.execute(GRES_PLUS)
    op.execute(GRES_SUM)
    op.create_table(
        "idempotency_keys",
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("job_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("user_name", "key"),
    )
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("qos", sa.Text(), nullable=True),
        sa.Column("reservation", sa.Text(), nullable=True),
        sa.Column("wckey", sa.Text(), nullable=True),
        sa.Column("argv", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "environment",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("current_working_directory", sa.Text(), nullable=False),
        sa.Column("standard_input", sa.Text(), nullable=True),
        sa.Column("standard_output", sa.Text(), nullable=True),
        sa.Column("standard_error", sa.Text(), nullable=True),
        sa.Column("open_mode", sa.Text(), nullable=True),
        sa.Column("umask", sa.Integer(), nullable=True),
        sa.Column("tasks", sa.Integer(), server_default="1", nullable=False),
        sa.Column("tasks_per_node", sa.Integer(), nullable=True),
        sa.Column("cpus_per_task", sa.Integer(), server_default="1", nullable=False),
        sa.Column("minimum_nodes", sa.Integer(), server_default="1", nullable=False),
        sa.Column("maximum_nodes", sa.Integer(), nullable=True),
        sa.Column("minimum_cpus_per_node", sa.Integer(), nullable=True),
        sa.Column("memory_per_node", sa.Integer(), nullable=True),
        sa.Column("memory_per_cpu", sa.Integer(), nullable=True),
        sa.Column("memory_per_gpu", sa.Integer(), nullable=True),
        sa.Column("temporary_disk_per_node", sa.Integer(), nullable=True),
        sa.Column("tres_per_job", sa.Text(), nullable=True),
        sa.Column("tres_per_node", sa.Text(), nullable=True),
        sa.Column("tres_per_task", sa.Text(), nullable=True),
        sa.Column("constraints", sa.Text(), nullable=True),
        sa.Column("required_nodes", sa.Text(), nullable=True),
        sa.Column("excluded_nodes", sa.Text(), nullable=True),
        sa.Column("exclusive", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("oversubscribe", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("licenses", sa.Text(), nullable=True),
        sa.Column("required_switches", sa.Integer(), nullable=True),
        sa.Column("distribution", sa.Text(), nullable=True),
        sa.Column("time_limit", sa.BigInteger(), nullable=True),
        sa.Column("time_minimum", sa.BigInteger(), nullable=True),
        sa.Column("begin_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deadline", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("dependency", sa.Text(), nullable=True),
        sa.Column("kill_on_invalid_dependency", sa.Boolean(), nullable=True),
        sa.Column("hold", sa.Text(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=True),
        sa.Column("nice", sa.Integer(), server_default="0", nullable=False),
        sa.Column("requeue", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("kill_warning_signal", sa.Text(), nullable=True),
        sa.Column("kill_warning_delay", sa.Integer(), nullable=True),
        sa.Column("kill_warning_batch_only", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("admin_comment", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.Column("mail_type", sa.Text(), nullable=True),
        sa.Column("mail_user", sa.Text(), nullable=True),
        sa.Column("array", sa.Text(), nullable=True),
        sa.Column("interactive", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("data_source", sa.Text(), server_default="API", nullable=False),
        sa.Column("submit_host", sa.Text(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("script", sa.Text(), nullable=True),
        sa.Column("array_job_id", sa.BigInteger(), nullable=True),
        sa.Column("array_task_id", sa.Integer(), nullable=True),
        sa.Column("array_remaining", postgresql.INT4MULTIRANGE(), nullable=True),
        sa.Column("array_max_tasks", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), server_default="PENDING", nullable=False),
        sa.Column("reason", sa.Text(), server_default="None", nullable=False),
        sa.Column("error_msg", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("restart_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "submit_time", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("eligible_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("start_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("end_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("suspend_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("suspended_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("expected_start_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Integer(), nullable=True),
        sa.Column("derived_exit_status", sa.Integer(), nullable=True),
        sa.Column("node_list", sa.Text(), nullable=True),
        sa.Column("batch_host", sa.Text(), nullable=True),
        sa.Column("allocated_nodes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allocated_cpus", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allocated_memory", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("allocated_gres", sa.Text(), nullable=True),
        sa.Column("process_id", sa.Integer(), nullable=True),
        sa.Column("requested_end_state", sa.Text(), nullable=True),
        sa.Column("requested_end_reason", sa.Text(), nullable=True),
        sa.Column("requested_end_actor", sa.Text(), nullable=True),
        sa.Column("cpu_user_s", sa.Float(), nullable=True),
        sa.Column("cpu_system_s", sa.Float(), nullable=True),
        sa.Column("max_rss_kb", sa.BigInteger(), nullable=True),
        sa.Column("read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("written_bytes", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("data_source IN ('API', 'CLI', 'WEB')", name="jobs_data_source_known"),
        sa.CheckConstraint(
            "state IN ('PENDING', 'RUNNING', 'SUSPENDED', 'COMPLETED', 'CANCELLED', 'FAILED', 'TIMEOUT', 'NODE_FAIL', 'PREEMPTED', 'OUT_OF_MEMORY', 'DEADLINE', 'BOOT_FAIL')",
            name="jobs_state_known",
        ),
        sa.CheckConstraint("length(script) > 0", name="jobs_script_not_blank"),
        sa.CheckConstraint("tasks >= 1 AND cpus_per_task >= 1 AND minimum_nodes >= 1", name="jobs_size_positive"),
        sa.CheckConstraint("time_limit IS NULL OR time_limit > 0", name="jobs_time_limit_positive"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index(
        "jobs_active", "jobs", ["job_id"], unique=False, postgresql_where=sa.text("state IN ('RUNNING', 'SUSPENDED')")
    )
    op.create_index(
        "jobs_by_account",
        "jobs",
        ["account", sa.literal_column("job_id DESC")],
        unique=False,
        postgresql_where=sa.text("account IS NOT NULL"),
    )
    op.create_index(
        "jobs_by_array",
        "jobs",
        ["array_job_id", "array_task_id"],
        unique=False,
        postgresql_where=sa.text("array_job_id IS NOT NULL"),
    )
    op.create_index(
        "jobs_by_end_time",
        "jobs",
        ["end_time", "job_id"],
        unique=False,
        postgresql_where=sa.text("end_time IS NOT NULL"),
    )
    op.create_index("jobs_by_name", "jobs", ["name", sa.literal_column("job_id DESC")], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state", sa.literal_column("job_id DESC")], unique=False)
    op.create_index("jobs_by_submit_time", "jobs", ["submit_time", "job_id"], unique=False)
    op.create_index("jobs_by_user", "jobs", ["user_name", sa.literal_column("job_id DESC")], unique=False)
    op.create_index("jobs_pending", "jobs", ["job_id"], unique=False, postgresql_where=sa.text("state = 'PENDING'"))
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("temporary_disk", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "gres", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("features", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("weight", sa.Integer(), server_default="1", nullable=False),
        sa.Column("topology", sa.Text(), nullable=True),
        sa.Column("allocated_cpus", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allocated_memory", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "allocated_gres",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("drain", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("reason_user", sa.Text(), nullable=True),
        sa.Column("reason_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_heartbeat", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("registered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("boot_time", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("agent_version", sa.Text(), nullable=True),
        sa.Column("architecture", sa.Text(), nullable=True),
        sa.Column("operating_system", sa.Text(), nullable=True),
        sa.Column("cpu_load", sa.Float(), nullable=True),
        sa.Column("free_memory", sa.BigInteger(), nullable=True),
        sa.Column(
            "containment",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.CheckConstraint("state IN ('UNKNOWN', 'UP', 'DOWN')", name="nodes_state_known"),
        sa.CheckConstraint("allocated_cpus BETWEEN 0 AND cpus", name="nodes_cpus_within"),
        sa.CheckConstraint("allocated_memory BETWEEN 0 AND memory", name="nodes_memory_within"),
        sa.CheckConstraint("scns_gres_within(allocated_gres, gres)", name="nodes_gres_within"),
        sa.PrimaryKeyConstraint("name"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "partitions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("nodes", sa.Text(), server_default="ALL", nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("state", sa.Text(), server_default="UP", nullable=False),
        sa.Column("max_time", sa.BigInteger(), nullable=True),
        sa.Column("default_time", sa.BigInteger(), nullable=True),
        sa.Column("min_nodes", sa.Integer(), server_default="1", nullable=False),
        sa.Column("max_nodes", sa.Integer(), nullable=True),
        sa.Column("max_cpus_per_node", sa.Integer(), nullable=True),
        sa.Column("max_memory_per_node", sa.BigInteger(), nullable=True),
        sa.Column("default_memory_per_cpu", sa.BigInteger(), nullable=True),
        sa.Column("priority_tier", sa.Integer(), server_default="1", nullable=False),
        sa.Column("priority_job_factor", sa.Integer(), server_default="1", nullable=False),
        sa.Column("preempt_mode", sa.Text(), nullable=True),
        sa.Column("grace_time", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allow_accounts", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("deny_accounts", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("allow_qos", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("exclusive", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint("state IN ('UP', 'DOWN', 'DRAIN', 'INACTIVE')", name="partitions_state_known"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(
        "partitions_one_default", "partitions", ["is_default"], unique=True, postgresql_where=sa.text("is_default")
    )
    op.create_table(
        "request_answers",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "scheduler_inbox",
        sa.Column("inbox_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job_ids", postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("node_names", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("inbox_id"),
    )
    op.create_table(
        "scheduler_leader",
        sa.Column("singleton", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("backend_pid", sa.Integer(), nullable=True),
        sa.Column("acquired_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("renewed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("singleton", name="scheduler_leader_single"),
        sa.PrimaryKeyConstraint("singleton"),
    )
    op.create_table(
        "job_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("restart_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "event_time", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("job_events_by_job", "job_events", ["job_id", "event_id"], unique=False)
    op.create_table(
        "job_outputs",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("stream IN ('stdout', 'stderr')", name="job_outputs_stream_known"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "restart_count", "stream"),
    )
    op.create_table(
        "resource_allocations",
        sa.Column("allocation_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("node_name", sa.Text(), nullable=False),
        sa.Column("node_index", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column(
            "gres", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("cpu_ids", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.Column("gres_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("process_id", sa.Integer(), nullable=True),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("claimed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("released_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("cpus >= 0 AND memory >= 0", name="resource_allocations_not_negative"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("allocation_id"),
        sa.UniqueConstraint("job_id", "restart_count", "node_name", name="resource_allocations_once"),
    )
    op.create_index(
        "resource_allocations_by_node",
        "resource_allocations",
        ["node_name", sa.literal_column("job_id DESC")],
        unique=False,
    )
    op.create_index(
        "resource_allocations_held",
        "resource_allocations",
        ["node_name", "job_id"],
        unique=False,
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.execute("INSERT INTO partitions (name, nodes, is_default, state) VALUES ('main', 'ALL', true, 'UP')")
    op.execute("INSERT INTO scheduler_leader (singleton, epoch) VALUES (true, 0)")


def downgrade() -> None:
    """降级。"""
    op.drop_index(
        "resource_allocations_held", table_name="resource_allocations", postgresql_where=sa.text("released_at IS NULL")
    )
    op.drop_index("resource_allocations_by_node", table_name="resource_allocations")
    op.drop_table("resource_allocations")
    op.drop_table("job_outputs")
    op.drop_index("job_events_by_job", table_name="job_events")
    op.drop_table("job_events")
    op.drop_table("scheduler_leader")
    op.drop_table("scheduler_inbox")
    op.drop_table("request_answers")
    op.drop_index("partitions_one_default", table_name="partitions", postgresql_where=sa.text("is_default"))
    op.drop_table("partitions")
    op.drop_table("nodes")
    op.drop_index("jobs_pending", table_name="jobs", postgresql_where=sa.text("state = 'PENDING'"))
    op.drop_index("jobs_by_user", table_name="jobs")
    op.drop_index("jobs_by_submit_time", table_name="jobs")
    op.drop_index("jobs_by_state", table_name="jobs")
    op.drop_index("jobs_by_name", table_name="jobs")
    op.drop_index("jobs_by_end_time", table_name="jobs", postgresql_where=sa.text("end_time IS NOT NULL"))
    op.drop_index("jobs_by_array", table_name="jobs", postgresql_where=sa.text("array_job_id IS NOT NULL"))
    op.drop_index("jobs_by_account", table_name="jobs", postgresql_where=sa.text("account IS NOT NULL"))
    op.drop_index("jobs_active", table_name="jobs", postgresql_where=sa.text("state IN ('RUNNING', 'SUSPENDED')"))
    op.drop_table("jobs")
    op.drop_table("idempotency_keys")
    op.execute("DROP AGGREGATE scns_gres_sum(jsonb)")
    op.execute("DROP FUNCTION scns_gres_plus(jsonb, jsonb)")
    op.execute("DROP FUNCTION scns_gres_add(jsonb, jsonb, integer)")
    op.execute("DROP FUNCTION scns_gres_within(jsonb, jsonb)")
