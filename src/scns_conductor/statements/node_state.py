"""节点自己写的：登记、心跳、上线、下线、排空。"""

import sqlalchemy as sa

from scns_conductor.statements.incarnation import SEEN

# 还接新作业：没有排空，没有在等着重启、关机。
ACCEPTING = (
    "NOT {n}drain AND NOT {n}reboot_asap AND {n}reboot IS DISTINCT FROM 'ISSUED' "
    "AND {n}power_request IS DISTINCT FROM 'ASAP' AND {n}power_request IS DISTINCT FROM 'FORCE'"
)
# 登记的这一次是要它重启之后的：换过 boot_id，或代理重启就算。
_BOOTED = "(n.boot_id IS DISTINCT FROM excluded.boot_id OR CAST(:restart_is_reboot AS boolean))"
_REBOOTED = f"n.reboot = 'ISSUED' AND {_BOOTED}"
# 重启太久，已经当作回不来了的：回来了。
_LATE = f"n.state = 'DOWN' AND n.reason_user = 'scheduler@reboot' AND {_BOOTED}"
_REBOOTED_DOWN = f"{_REBOOTED} AND n.reboot_next_state = 'DOWN'"
_UNDRAINED = f"{_REBOOTED} AND n.reboot_next_state = 'RESUME'"

# 已分配的比新声明的多时（例如带着运行中的作业把 --cpus 调小），先保住已分配的，等释放后再登记成新值。
REGISTER_NODE = sa.text(
    f"""
    INSERT INTO nodes AS n (name, address, cpus, sockets, cores_per_socket, threads_per_core,
      memory, temporary_disk, gres, features, weight, topology, state,
      registered_at, boot_id, boot_time, agent_version, architecture, operating_system, containment, beat,
      unasked_at)
    VALUES (:name, :address, :cpus, :sockets, :cores_per_socket, :threads_per_core,
      :memory, :temporary_disk, CAST(:gres AS jsonb), CAST(:features AS text[]),
      :weight, :topology, 'UNKNOWN', clock_timestamp(), :boot_id, to_timestamp(:boot_time), :agent_version,
      :architecture, :operating_system, CAST(:containment AS jsonb), :beat + 1,
      clock_timestamp())
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
      operating_system = excluded.operating_system, containment = excluded.containment, beat = n.beat + 1,
      unasked_at = CASE WHEN n.power_state = 'OFF' THEN clock_timestamp() ELSE n.unasked_at END,
      reboot = CASE WHEN {_REBOOTED} THEN NULL ELSE n.reboot END,
      reboot_asap = n.reboot_asap AND NOT coalesce({_REBOOTED}, false),
      drain = n.drain AND NOT coalesce({_UNDRAINED}, false),
      state = CASE WHEN {_REBOOTED_DOWN} THEN 'DOWN' WHEN {_LATE} THEN 'UNKNOWN' ELSE n.state END,
      reason = CASE WHEN {_REBOOTED_DOWN} THEN coalesce(n.reboot_reason, 'reboot complete')
        WHEN {_UNDRAINED} OR {_LATE} THEN NULL ELSE n.reason END,
      reason_user = CASE WHEN {_REBOOTED_DOWN} THEN 'reboot' WHEN {_UNDRAINED} OR {_LATE} THEN NULL
        ELSE n.reason_user END,
      reason_time = CASE WHEN {_REBOOTED_DOWN} THEN clock_timestamp() WHEN {_UNDRAINED} OR {_LATE} THEN NULL
        ELSE n.reason_time END
    RETURNING n.beat, {SEEN}, extract(epoch FROM clock_timestamp())::double precision AS database_now
    """
)
# 这个名字的节点此刻的心跳；同名的另一个代理在跳，它就在长。
OWN_BEAT = sa.text(
    f"""
    SELECT beat, address, {SEEN}, extract(epoch FROM clock_timestamp() - last_heartbeat)::double precision AS silent_s
    FROM nodes WHERE name = :name
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
_CAME = "power_state IN ('OFF', 'POWERING_UP')"
_ASKED = "power_state = 'POWERING_UP'"
_SINCE = "coalesce(extract(epoch FROM clock_timestamp() - power_since), 0)"
# 来了就是开着：要它开机的、没有要而自己来的都是。
MARK_UP = sa.text(
    f"""
    UPDATE nodes SET state = 'UP', last_heartbeat = clock_timestamp(),
      power_state = CASE WHEN {_CAME} THEN 'ON' ELSE power_state END,
      power_since = CASE WHEN {_CAME} THEN clock_timestamp() ELSE power_since END,
      power_request = CASE WHEN {_CAME} AND power_request = 'UP' THEN NULL ELSE power_request END,
      power_error = CASE WHEN {_CAME} THEN NULL ELSE power_error END,
      boot_s = CASE WHEN {_ASKED} THEN {_SINCE} ELSE boot_s END,
      boots = boots + CASE WHEN {_ASKED} THEN 1 ELSE 0 END,
      boot_total_s = boot_total_s + CASE WHEN {_ASKED} THEN {_SINCE} ELSE 0 END,
      off_s = off_s + CASE WHEN power_state = 'OFF' THEN {_SINCE} ELSE 0 END,
      idle_since = NULL,
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
# 撤销节点自己为这个原因（或以它开头的）做的排空；别的排空不动。
UNDRAIN = sa.text(
    """
    UPDATE nodes SET drain = false, reason = NULL, reason_user = NULL, reason_time = NULL
    WHERE name = :name AND drain AND starts_with(reason, :reason) AND reason_user = :actor
    """
)
# 一次心跳：还在，负载，心跳计数加一；顺便看一眼眼前是哪个数据库、几点。
HEARTBEAT = sa.text(
    f"""
    UPDATE nodes SET last_heartbeat = clock_timestamp(), cpu_load = :cpu_load, free_memory = :free_memory,
      spool_free = :spool_free, beat = beat + 1
    WHERE name = :name
    RETURNING state, beat, reboot, {SEEN}, extract(epoch FROM clock_timestamp())::double precision AS database_now
    """
)
# 健康检查没有通过：排空；自己排空过的换成新的原因。:prefix 是自己写的原因的开头。
DRAIN_UNHEALTHY = sa.text(
    """
    UPDATE nodes SET drain = true, reason = :reason, reason_user = :actor, reason_time = clock_timestamp()
    WHERE name = :name AND (NOT drain
      OR (reason_user = :actor AND starts_with(reason, :prefix) AND reason <> :reason))
    """
)
# 又通过了：撤掉自己的排空，别的不动。
UNDRAIN_HEALTHY = sa.text(
    """
    UPDATE nodes SET drain = false, reason = NULL, reason_user = NULL, reason_time = NULL
    WHERE name = :name AND drain AND reason_user = :actor AND starts_with(reason, :prefix)
    """
)
# 本节点忙不忙，健康检查看它该不该做。
OWN_LOAD = sa.text("SELECT cpus, allocated_cpus, drain FROM nodes WHERE name = :name")
# 空的节点（n）：没有分配，挂起而借出了 CPU 的也没有。
EMPTY = (
    "n.allocated_cpus = 0 AND NOT EXISTS (SELECT FROM resource_allocations AS a "
    "WHERE a.node_name = n.name AND a.released_at IS NULL)"
)
# 等着重启的空下来了：开始。与分配同时发生的，CHECK 让后到的不成。
ISSUE_REBOOT = sa.text(
    f"UPDATE nodes AS n SET reboot = 'ISSUED', reboot_since = clock_timestamp() "
    f"WHERE name = :name AND reboot = 'REQUESTED' AND {EMPTY}"
)
# 重启不成：排空，说明为什么。
FAIL_REBOOT = sa.text(
    """
    UPDATE nodes SET reboot = NULL, reboot_asap = false, drain = true, reason = :reason, reason_user = :actor,
      reason_time = clock_timestamp()
    WHERE name = :name AND reboot IS NOT NULL
    """
)
_MISPLANNED = "planned <> (name = ANY(CAST(:names AS text[])))"
# 计划里留给了谁的空节点；被别的会话锁着的跳过。
MARK_PLANNED = sa.text(
    f"UPDATE nodes SET planned = NOT planned WHERE name IN (SELECT name FROM nodes WHERE {_MISPLANNED} "
    "ORDER BY name FOR NO KEY UPDATE SKIP LOCKED)"
)
# 还有没写成的。
PLANNED_UNWRITTEN = sa.text(f"SELECT EXISTS (SELECT FROM nodes WHERE {_MISPLANNED})")
