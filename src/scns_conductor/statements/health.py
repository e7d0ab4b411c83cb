"""健康检查要看的：节点活不活。"""

import sqlalchemy as sa

# 各节点活不活（:timeout 秒之内有心跳而且 UP），约束是否生效。
NODES_ALIVE = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)
