"""健康检查要看的：有没有结构，领导者的行锁没锁着，节点活不活。"""

import sqlalchemy as sa

# 数据库里有没有结构。
HAS_SCHEMA = sa.text("SELECT to_regclass('alembic_version') IS NOT NULL")
# 领导者的行没有被别人锁着就有一行。
LEADER_ROW_FREE = sa.text("SELECT 1 FROM scheduler_leader FOR NO KEY UPDATE SKIP LOCKED")
# 各节点活不活（:timeout 秒之内有心跳而且 UP），约束是否生效。
NODES_ALIVE = sa.text(
    "SELECT name, last_heartbeat > clock_timestamp() - make_interval(secs => :timeout) AND state = 'UP' AS alive, "
    "containment FROM nodes ORDER BY name"
)
