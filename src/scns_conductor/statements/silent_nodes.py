"""失联的节点与其上的作业。"""

import sqlalchemy as sa

# UNKNOWN 的有过心跳：代理正常停下之后，隔了这么久还没有回来。
# 在重启、关着、在开关机的，不在是正常的，各有自己的期限。
_OVERDUE = (
    "state IN ('UP', 'UNKNOWN') AND power_state = 'ON' AND reboot IS DISTINCT FROM 'ISSUED' "
    "AND last_heartbeat < clock_timestamp() - make_interval(secs => :timeout)"
)
# 行被别的会话锁着的，心跳写不进去，不能说它失联；刚放开的（spared）也给它写的工夫。
MARK_SILENT = sa.text(
    "UPDATE nodes SET state = 'DOWN', reason = 'Not responding', reason_user = 'scheduler', "
    f"reason_time = clock_timestamp() WHERE name IN (SELECT name FROM nodes WHERE {_OVERDUE} "
    "AND name <> ALL(CAST(:spared AS text[])) ORDER BY name FOR NO KEY UPDATE SKIP LOCKED) RETURNING name"
)
# 重启了这么久还没有回来的：下线，说明为什么。代理也许还在（没有真的重启），所以要真的重启过才自己回来。
MARK_NOT_REBOOTED = sa.text(
    """
    UPDATE nodes SET state = 'DOWN', reboot = NULL, reboot_asap = false, reason_user = 'scheduler@reboot',
      reason = :reason, reason_time = clock_timestamp()
    WHERE name IN (SELECT name FROM nodes WHERE reboot = 'ISSUED'
      AND reboot_since < clock_timestamp() - make_interval(secs => :timeout)
      ORDER BY name FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING name
    """
)
# 该判失联而行被别的会话锁着的节点。
OVERDUE_BUT_LOCKED = sa.text(f"SELECT name FROM nodes WHERE {_OVERDUE} AND name <> ALL(CAST(:spared AS text[]))")
# 已经下线、而分配还没有归还的：管理员下线的，或判失联时作业的行被锁着。
DOWN_BUT_HOLDING = sa.text(
    "SELECT DISTINCT n.name, coalesce(n.reason_user = 'scheduler', false) AS silent "
    "FROM nodes AS n JOIN resource_allocations AS a ON a.node_name = n.name "
    "WHERE n.state = 'DOWN' AND a.released_at IS NULL"
)
# 代理停下了（失联、下线）的节点上，分配了、还没有认领的：脚本没有启动过。先锁住再看，与回来的代理认领不会都成；
# 别人锁着的（多半正在认领）下次再看。
UNCLAIMED_ON_ABSENT_NODES = sa.text(
    """
    SELECT a.job_id, a.restart_count, absent.node_name
    FROM resource_allocations AS a JOIN jobs AS j USING (job_id) CROSS JOIN LATERAL (
      SELECT o.node_name FROM resource_allocations AS o LEFT JOIN nodes AS n ON n.name = o.node_name
      WHERE o.job_id = a.job_id AND o.restart_count = a.restart_count AND o.released_at IS NULL
        -- 没有这个节点了：放上去的同时它被删掉。关着、在开机的不算不在，等它来。
        AND coalesce(n.state, 'DOWN') <> 'UP'
        AND NOT (coalesce(n.state, 'DOWN') = 'UNKNOWN' AND n.power_state <> 'ON')
      ORDER BY o.node_index LIMIT 1) AS absent
    WHERE a.released_at IS NULL AND a.claimed_at IS NULL AND a.node_index = 0
      AND a.restart_count = j.restart_count AND j.state = 'RUNNING' AND NOT j.interactive
    ORDER BY a.job_id FOR UPDATE OF j, a SKIP LOCKED
    """
)
# 这些节点上的作业，与运行脚本的节点还在不在。
JOBS_ON_NODES = sa.text(
    """
    SELECT DISTINCT ON (a.job_id) a.job_id, a.restart_count, a.node_name, j.batch_host, j.node_list, j.requeue,
      j.no_kill,
      j.allocated_nodes > 1 AND coalesce(b.state = 'UP', false) AS batch_host_lives
    FROM resource_allocations AS a JOIN jobs AS j USING (job_id) LEFT JOIN nodes AS b ON b.name = j.batch_host
    WHERE a.node_name = ANY(:names) AND a.released_at IS NULL AND a.restart_count = j.restart_count
    ORDER BY a.job_id, a.node_index
    """
)
