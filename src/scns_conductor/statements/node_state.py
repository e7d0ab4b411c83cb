"""节点自己写的：登记、心跳、上线、下线、排空。"""

import sqlalchemy as sa

from scns_conductor.statements.incarnation import SEEN

# 已分配的比新声明的多时（例如带着运行中的作业把 --cpus 调小），先保住已分配的，等释放后再登记成新值。
REGISTER_NODE = sa.text(
    f"""
    INSERT INTO nodes AS n (name, address, cpus, sockets, cores_per_socket, threads_per_core,
      memory, temporary_disk, gres, features, weight, topology, state,
      registered_at, boot_id, boot_time, agent_version, architecture, operating_system, containment, beat)
    VALUES (:name, :address, :cpus, :sockets, :cores_per_socket, :threads_per_core,
      :memory, :temporary_disk, CAST(:gres AS jsonb), CAST(:features AS text[]),
      :weight, :topology, 'UNKNOWN', clock_timestamp(), :boot_id, to_timestamp(:boot_time), :agent_version,
      :architecture, :operating_system, CAST(:containment AS jsonb), :beat + 1)
    ON CONFLICT (name) DO UPDATE SET
      address = excluded.address, cpus = greatest(excluded.cpus, n.allocated_cpus), sockets = excluded.sockets,
      cores_per_socket = excluded.cores_per_socket, threads_per_core = excluded.threads_per_core,
      memory = greatest(excluded.memory, n.allocated_memory), temporary_disk = excluded.temporary_disk,
      gres = CASE WHEN CAST(:keep_gres AS boolean) THEN n.gres ELSE excluded.gres END,
      features = CASE WHEN n.pinned ? 'features' THEN n.features ELSE excluded.features END,
      weight = CASE WHEN n.pinned ? 'weight' THEN n.weight ELSE excluded.weight END,
      topology = CASE WHEN n.pinned ? 'topology' THEN n.topology ELSE excluded.topology END,
      registered_at = excluded.registered_at, boot_id = excluded.boot_id, boot_time = excluded.boot_time,
      agent_version = excluded.agent_version, architecture = excluded.architecture,
      operating_system = excluded.operating_system, containment = excluded.containment, beat = n.beat + 1
    RETURNING n.beat, {SEEN}, extract(epoch FROM clock_timestamp())::double precision AS database_now
    """
)
# 单用户的 API 以自己的身份读输出文件：它旁边不能有多用户的节点（作业写的链接会让它读别人的）。
NODE_OF_OTHER_MODE = sa.text(
    """
    SELECT name FROM nodes
    WHERE name <> :name AND state = 'UP' AND CAST(containment ->> 'single_user' AS boolean) <> :single_user LIMIT 1
    """
)
# 牧守进程换过之后，节点约束得了什么。
RECORD_CONTAINMENT = sa.text("UPDATE nodes SET containment = CAST(:containment AS jsonb) WHERE name = :name")
# 管理员亲手下线的（reason_user 是人）不自动回来；代理与调度器标的，回来了就撤销。
MARK_UP = sa.text(
    """
    UPDATE nodes SET state = 'UP', last_heartbeat = clock_timestamp(),
      reason = CASE WHEN drain THEN reason END, reason_user = CASE WHEN drain THEN reason_user END,
      reason_time = CASE WHEN drain THEN reason_time END
    WHERE name = :name AND (state <> 'DOWN' OR reason_user IS NULL OR reason_user = 'scheduler'
                            OR reason_user LIKE 'agent@%')
    RETURNING name
    """
)
# 节点自己说不再服务。
MARK_DOWN = sa.text(
    """
    UPDATE nodes SET state = 'DOWN', reason = :reason, reason_user = :actor, reason_time = clock_timestamp()
    WHERE name = :name AND state <> 'DOWN'
    """
)
# 正常停下：调度器不再往这里放作业，运行中的照跑。从此刻起算失联的期限。排空、下线的原因不动。
MARK_STOPPED = sa.text(
    """
    UPDATE nodes SET state = 'UNKNOWN', last_heartbeat = clock_timestamp(),
      reason = CASE WHEN drain THEN reason ELSE :reason END,
      reason_user = CASE WHEN drain THEN reason_user ELSE :actor END,
      reason_time = CASE WHEN drain THEN reason_time ELSE clock_timestamp() END
    WHERE name = :name AND state <> 'DOWN'
    """
)
_DRAIN = """
    UPDATE nodes SET drain = true, reason = :reason, reason_user = :actor, reason_time = clock_timestamp()
    WHERE name = :name AND NOT drain
"""
# 节点排空自己；已经在排空的不改原因。
DRAIN = sa.text(_DRAIN)
# 这个作业（数组的任务则连同别的任务）已经在别处启动失败过：多半是它的事，不为它再排空一个节点。
DRAIN_UNLESS_FAILED_ELSEWHERE = sa.text(
    f"""
    {_DRAIN}
      AND NOT EXISTS (SELECT FROM job_events WHERE job_id = :job_id AND cause = 'launch_failed' AND actor <> :actor)
      AND NOT EXISTS (SELECT FROM jobs AS j JOIN jobs AS other ON other.array_job_id = j.array_job_id
                      WHERE j.job_id = :job_id AND other.job_id <> j.job_id AND other.hold = 'launch_failed')
    """
)
# 撤销节点自己为这个原因做的排空；别的排空不动。
UNDRAIN = sa.text(
    """
    UPDATE nodes SET drain = false, reason = NULL, reason_user = NULL, reason_time = NULL
    WHERE name = :name AND drain AND reason = :reason AND reason_user = :actor
    """
)
# 一次心跳：还在，负载，心跳计数加一；顺便看一眼眼前是哪个数据库、几点。
HEARTBEAT = sa.text(
    f"""
    UPDATE nodes SET last_heartbeat = clock_timestamp(), cpu_load = :cpu_load, free_memory = :free_memory,
      beat = beat + 1
    WHERE name = :name
    RETURNING state, beat, {SEEN}, extract(epoch FROM clock_timestamp())::double precision AS database_now
    """
)
