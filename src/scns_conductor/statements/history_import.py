"""别的系统的历史写进来：作业、各次的占用、历史，与要加进用量汇总的。"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from scns_conductor.core.models import Job
from scns_conductor.statements.archive import EVERY_JOB

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_TYPES = {name: column.type.compile(dialect=_DIALECT) for name, column in sa.inspect(Job).columns.items()}
IMPORT_LOCK = 7236312
# 一批一批地写，两个人同时搬也是。
TAKE_IMPORT_TURN = sa.text(f"SELECT pg_advisory_xact_lock({IMPORT_LOCK})")
# 发到了哪个作业号。
LAST_NUMBER = sa.text("SELECT last_value FROM jobs_job_id_seq")
# 锁住取号（与 nextval 的锁冲突），到事务结束；什么也没有改。
HOLD_NUMBERS = sa.text("ALTER SEQUENCE jobs_job_id_seq CACHE 1")
# 下一个号从 :last 之后起；已经更大的不动。
RAISE_NUMBERS = sa.text(
    "SELECT setval('jobs_job_id_seq', greatest(last_value, CAST(:last AS bigint))) FROM jobs_job_id_seq"
)
_IMPORTED = "EXISTS (SELECT FROM {0} AS e WHERE e.job_id = jobs.job_id AND e.cause = 'import')"
# 这些号里已经有的；imported 是从前搬来的。
KNOWN = sa.text(
    f"SELECT job_id, submit_time, {_IMPORTED.format('job_events')} OR {_IMPORTED.format('history.job_events')} "
    f"AS imported FROM {EVERY_JOB} AS jobs WHERE job_id = ANY(CAST(:job_ids AS bigint[]))"
)
# 这里没有的账户：它们的用量不在公平份额的树里。
UNKNOWN_ACCOUNTS = sa.text(
    "SELECT n.name FROM unnest(CAST(:accounts AS text[])) AS n(name) "
    "WHERE NOT EXISTS (SELECT FROM accounts AS a WHERE a.name = n.name) ORDER BY 1"
)
# 照抄的各列，名字与 api.history_request.HistoryJob 的相同。
COPIED = (
    "job_id", "name", "user_name", "account", "partition", "qos", "wckey", "reservation", "constraints", "licenses",
    "comment", "admin_comment", "current_working_directory", "state", "submit_time", "eligible_time", "end_time",
    "exit_status", "exit_signal", "derived_exit_status", "time_limit", "tasks", "minimum_nodes",
    "memory_per_node", "tres_per_node", "tres_per_job", "suspended_s", "cpu_user_s", "cpu_system_s", "max_rss_kb",
    "array_job_id", "array_task_id", "het_job_id", "het_job_offset", "restart_count",
)  # fmt: skip
# 由最后一次尝试算出的也给。
_COLUMNS = (*COPIED, "start_time", "node_list", "batch_host", "allocated_gres")
# 没有写的取表的缺省值。
_DEFAULTED = {"array_base": "0", "array_step": "1", "allocated_nodes": "0", "allocated_cpus": "0",
              "allocated_memory": "0"}  # fmt: skip
_GIVEN = ", ".join(f'"{name}" {_TYPES[name]}' for name in (*_COLUMNS, *_DEFAULTED))
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
# 写进一批：:jobs、:shares（各次在各节点上占的）、:events 都是 JSON 的数组。用量由随后的汇总加进去。
ADD_HISTORY = sa.text(
    f"""
    WITH added AS (
      INSERT INTO jobs ({_NAMES}, array_remaining, {", ".join(_DEFAULTED)}, data_source)
      SELECT {_NAMES}, CAST(array_remaining AS int4multirange),
        {", ".join(f"coalesce({name}, {value})" for name, value in _DEFAULTED.items())}, 'CLI'
      FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS g({_GIVEN}, array_remaining text)
      RETURNING job_id, restart_count, account, user_name, partition, qos, wckey, licenses
    ),
    held AS (
      INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, gres, tasks,
        created_at, claimed_at, released_at)
      SELECT job_id, restart_count, node_name, node_index, cpus, memory, gres, 1, created_at, created_at, released_at
      FROM jsonb_to_recordset(CAST(:shares AS jsonb)) AS s(job_id bigint, restart_count integer, node_name text,
        node_index integer, cpus integer, memory bigint, gres jsonb, created_at timestamptz, released_at timestamptz)
      RETURNING job_id, restart_count
    ),
    told AS (
      INSERT INTO job_events (job_id, restart_count, event_time, from_state, to_state, cause, actor)
      SELECT job_id, restart_count, event_time, from_state, to_state, 'import', actor
      FROM ROWS FROM (jsonb_to_recordset(CAST(:events AS jsonb)) AS (job_id bigint, restart_count integer,
        event_time timestamptz, from_state text, to_state text, actor text)) WITH ORDINALITY
        AS e(job_id, restart_count, event_time, from_state, to_state, actor, place) ORDER BY place
    )
    INSERT INTO usage_due (job_id, restart_count, account, user_name, partition, qos, wckey, licenses, final)
    SELECT a.job_id, h.restart_count, a.account, a.user_name, a.partition, a.qos, a.wckey, a.licenses,
      h.restart_count = a.restart_count
    FROM added AS a JOIN (SELECT DISTINCT job_id, restart_count FROM held) AS h USING (job_id)
    """
)
