"""健康检查、scns up 就绪之前要看的：节点活不活，有没有领导者。"""

import sqlalchemy as sa

# 各节点活不活（:timeout 秒之内有心跳而且 UP），约束是否生效。
NODES_ALIVE = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)
# 其中（:names）活着的有几个；管理员亲手下线的重启也不回来（MARK_UP），算上。
NODES_UP = sa.text(
    "SELECT count(*) FROM nodes WHERE name = ANY(:names) "
    "AND (state = 'UP' OR state = 'DOWN' AND reason_user <> 'scheduler' AND reason_user NOT LIKE 'agent@%') "
    "AND last_heartbeat > clock_timestamp() - interval '1 minute'"
)
# 会话还在、租期（:lease 秒）之内续过的领导者，有是 1。
LEADER_ELECTED = sa.text(
    "SELECT count(*) FROM scheduler_leader AS l JOIN pg_stat_activity AS a ON a.pid = l.backend_pid "
    "WHERE l.renewed_at > clock_timestamp() - make_interval(secs => :lease)"
)
