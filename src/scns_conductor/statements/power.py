"""节点的电源：谁该关、谁该开、开关到哪一步了。只有一个后台进程在做（POWER_SEAT），一条会话：会话断了就不是它了。"""

import sqlalchemy as sa

from scns_conductor.statements.node_state import EMPTY

# 只有占着它的一个后台进程管电源；锁随会话，进程死了就放开。
POWER_SEAT = sa.text("SELECT pg_try_advisory_lock(6520210019)")
# 记下从何时起空闲；又有作业了就从头算。
MARK_IDLE = sa.text(
    f"""
    UPDATE nodes AS n SET idle_since = CASE WHEN {EMPTY} THEN clock_timestamp() END
    WHERE n.power_state = 'ON' AND (n.idle_since IS NULL) = ({EMPTY})
    """
)
# 接手时：前任运行了程序而不知道结果的。
UNFINISHED = sa.text(
    """
    UPDATE nodes SET power_called = clock_timestamp()
    WHERE power_state IN ('POWERING_UP', 'POWERING_DOWN') AND power_done IS NULL RETURNING name, power_state
    """
)
_CALLED = "power_since = clock_timestamp(), power_called = clock_timestamp(), power_done = NULL, power_error = NULL"
# 各节点自己的时间（秒，没有的按全局）；idle 是 -1 的从不自动关。
_TIMES = (
    "unnest(CAST(:timed AS text[]), CAST(:idles AS float8[]), CAST(:offs AS float8[]), CAST(:boots AS float8[])) "
    "AS t(name, idle, off, boot)"
)
# 关：空闲够久的，与有人要的；一分钟至多 :rate 个（0 不限）。自动关的只有好好的节点，有人要的不论。
POWER_DOWN = sa.text(
    f"""
    UPDATE nodes SET power_state = 'POWERING_DOWN', idle_since = NULL, {_CALLED}
    WHERE name IN (
      SELECT n.name FROM nodes AS n LEFT JOIN {_TIMES} USING (name)
      WHERE n.power_state = 'ON' AND n.reboot IS NULL AND {EMPTY}
        AND (n.power_request IN ('DOWN', 'ASAP', 'FORCE') OR (n.state = 'UP' AND NOT n.drain
          AND n.name <> ALL(CAST(:excluded AS text[]))
          AND n.idle_since < clock_timestamp() - make_interval(
            secs => nullif(coalesce(t.idle, CAST(:idle_s AS float8)), -1))))
      ORDER BY n.power_request IS NULL, n.idle_since, n.name
      LIMIT CASE WHEN :rate = 0 THEN NULL ELSE greatest(0, :rate - (SELECT count(*) FROM nodes
        WHERE power_state IN ('POWERING_DOWN', 'OFF') AND power_called > clock_timestamp() - interval '1 minute')) END
      FOR NO KEY UPDATE OF n SKIP LOCKED)
    RETURNING name
    """
)
# 开：有作业在等的，与有人要的；一分钟至多 :rate 个（0 不限）。
POWER_UP = sa.text(
    f"""
    UPDATE nodes SET power_state = 'POWERING_UP', off_s = off_s + {{off}}, {_CALLED}
    WHERE name IN (
      SELECT n.name FROM nodes AS n WHERE n.power_state = 'OFF' AND (n.power_request = 'UP' OR (n.state <> 'DOWN'
        AND EXISTS (SELECT FROM resource_allocations AS a WHERE a.node_name = n.name AND a.released_at IS NULL)))
      ORDER BY n.power_request IS NULL, n.name
      LIMIT CASE WHEN :rate = 0 THEN NULL ELSE greatest(0, :rate - (SELECT count(*) FROM nodes
        WHERE power_state IN ('POWERING_UP', 'ON') AND power_called > clock_timestamp() - interval '1 minute')) END
      FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING name
    """.format(off="coalesce(extract(epoch FROM clock_timestamp() - power_since), 0)")
)
# 程序成了。
CALL_DONE = sa.text(
    "UPDATE nodes SET power_done = clock_timestamp(), power_error = NULL "
    "WHERE name = ANY(CAST(:names AS text[])) AND power_state = :state"
)
# 开机的程序没有成：说出来；有的也许照样会来，等到 resume_timeout_s。
RESUME_TROUBLE = sa.text(
    "UPDATE nodes SET power_done = clock_timestamp(), power_error = :error "
    "WHERE name = ANY(CAST(:names AS text[])) AND power_state = 'POWERING_UP'"
)
# 关机的程序没有成：还当它开着，过一会儿（又空闲了这么久）再试。
SUSPEND_TROUBLE = sa.text(
    """
    UPDATE nodes SET power_state = 'ON', power_since = clock_timestamp(), power_request = NULL,
      idle_since = clock_timestamp(), power_error = :error
    WHERE name = ANY(CAST(:names AS text[])) AND power_state = 'POWERING_DOWN'
    """
)
# 关了还是下线的：人下线的、没有来的；代理停下时自己说的、强行关的不是。
_STAYS_DOWN = (
    "(state = 'DOWN' AND power_request IS DISTINCT FROM 'FORCE' AND coalesce(reason_user, '') NOT LIKE 'agent@%')"
)
# 关好了的：程序成了，又过了 suspend_timeout_s。强行关的从头来过，别的下线照旧下线。
POWERED_OFF = sa.text(
    f"""
    UPDATE nodes SET power_state = 'OFF', power_since = clock_timestamp(), power_request = NULL,
      state = CASE WHEN {_STAYS_DOWN} THEN 'DOWN' ELSE 'UNKNOWN' END,
      reason = CASE WHEN drain OR {_STAYS_DOWN} THEN reason END,
      reason_user = CASE WHEN drain OR {_STAYS_DOWN} THEN reason_user END,
      reason_time = CASE WHEN drain OR {_STAYS_DOWN} THEN reason_time END,
      cpu_load = NULL, free_memory = NULL, spool_free = NULL
    WHERE power_state = 'POWERING_DOWN' AND power_done IS NOT NULL AND power_called < clock_timestamp()
      - make_interval(secs => coalesce((SELECT t.off FROM {_TIMES} WHERE t.name = nodes.name), :timeout))
    RETURNING name
    """
)
# 到时候没有来的。
OVERDUE_RESUMES = sa.text(
    f"SELECT n.name, n.power_error, coalesce(t.boot, :timeout) AS timeout FROM nodes AS n LEFT JOIN {_TIMES} "
    "USING (name) WHERE n.power_state = 'POWERING_UP' AND n.power_since < clock_timestamp() "
    "- make_interval(secs => coalesce(t.boot, :timeout)) ORDER BY n.name FOR NO KEY UPDATE OF n SKIP LOCKED"
)
# 这么久以来没有要、自己来了的：多半是开错了的。
STRANGERS = sa.text(
    "SELECT name FROM nodes WHERE unasked_at > clock_timestamp() - make_interval(secs => :timeout) "
    "ORDER BY name LIMIT 5"
)
# 没有来的标为下线，去别处的作业由领导者收回；它也许开了一半，照样要关。
FAIL_RESUMES = sa.text(
    """
    UPDATE nodes AS n SET state = 'DOWN', power_state = 'ON', power_since = clock_timestamp(),
      power_request = CASE WHEN power_request = 'FORCE' THEN 'FORCE' ELSE 'DOWN' END,
      reason = f.reason, reason_user = 'scheduler', reason_time = clock_timestamp()
    FROM unnest(CAST(:names AS text[]), CAST(:reasons AS text[])) AS f(name, reason)
    WHERE n.name = f.name AND n.power_state = 'POWERING_UP'
    RETURNING n.name
    """
)
_BOOTING = """
    SELECT a.job_id, a.restart_count FROM resource_allocations AS a JOIN nodes AS n ON n.name = a.node_name
    WHERE a.released_at IS NULL AND n.power_state IN ('OFF', 'POWERING_UP')
"""
# 在等节点开机的作业，记下来。
MARK_CONFIGURING = sa.text(
    f"""
    UPDATE jobs AS j SET configuring = true FROM (SELECT DISTINCT * FROM ({_BOOTING}) AS b) AS w
    WHERE j.job_id = w.job_id AND j.restart_count = w.restart_count AND j.state = 'RUNNING' AND NOT j.configuring
    """
)
# 不再等了的。
CLEAR_CONFIGURING = sa.text(
    f"""
    UPDATE jobs AS j SET configuring = false WHERE j.configuring AND (j.state <> 'RUNNING'
      OR NOT EXISTS (SELECT FROM ({_BOOTING} AND a.job_id = j.job_id AND a.restart_count = j.restart_count) AS b))
    """
)
# 指标：各电源状态几个节点，一共关了多久（连此刻的），开了几次、用了多久。
POWER_TOTALS = sa.text(
    """
    SELECT power_state, count(*) AS nodes, sum(boots) AS boots, sum(boot_total_s) AS boot_s, sum(off_s
      + CASE WHEN power_state = 'OFF' THEN coalesce(extract(epoch FROM clock_timestamp() - power_since), 0) ELSE 0 END
      ) AS off_s
    FROM nodes GROUP BY power_state
    """
)
# 全部节点的名字。
ALL_NAMES = sa.text("SELECT name FROM nodes")
# 有自己的时间的分区。
PARTITION_TIMES = sa.text(
    "SELECT nodes, suspend_time, suspend_timeout, resume_timeout FROM partitions "
    "WHERE suspend_time IS NOT NULL OR suspend_timeout IS NOT NULL OR resume_timeout IS NOT NULL"
)
# 不自动关的分区的节点列表。
PARTITION_NODES = sa.text("SELECT nodes FROM partitions WHERE name = ANY(CAST(:names AS text[]))")
# 等的节点都开了、还没有启动的多节点作业：请运行脚本的节点看一眼。
READY_TO_LAUNCH = sa.text(
    """
    SELECT a.node_name, array_agg(a.job_id) AS job_ids FROM resource_allocations AS a JOIN jobs AS j USING (job_id)
    WHERE j.configuring AND a.released_at IS NULL AND a.claimed_at IS NULL AND a.node_index = 0
      AND NOT EXISTS (SELECT FROM resource_allocations AS o JOIN nodes AS n ON n.name = o.node_name
        WHERE o.job_id = a.job_id AND o.restart_count = a.restart_count AND n.power_state <> 'ON')
    GROUP BY a.node_name
    """
)
# 在等它开机的作业，从它登记的这一刻起算（Slurm 也是）。
ARRIVED = sa.text(
    """
    UPDATE jobs AS j SET start_time = clock_timestamp() FROM resource_allocations AS a, nodes AS n
    WHERE n.name = :name AND n.power_state IN ('OFF', 'POWERING_UP') AND a.node_name = n.name
      AND a.released_at IS NULL AND a.claimed_at IS NULL AND j.job_id = a.job_id
      AND j.restart_count = a.restart_count AND j.state = 'RUNNING'
    RETURNING j.job_id
    """
)
