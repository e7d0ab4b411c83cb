"""作业步的通信端口（srun --resv-ports）：哪些还占着。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE

# 挑端口的一个一个来：两步同时挑，不会挑到同一个。
TAKE_PORTS_TURN = sa.text("SELECT pg_advisory_xact_lock(7236304)")
# :nodes 所在的机器上（几个节点可以是同一台），没有结束的步占着的。
PORTS_IN_USE = sa.text(
    f"""
    SELECT DISTINCT CAST(p.port AS integer) AS port
    FROM jobs AS j JOIN job_steps AS s ON s.job_id = j.job_id AND s.restart_count = j.restart_count
    CROSS JOIN LATERAL jsonb_array_elements_text(s.launch -> 'reserved_ports') AS p(port)
    WHERE j.state IN {ACTIVE} AND s.end_time IS NULL
      AND s.pending_nodes && ARRAY(
        SELECT other.name FROM nodes AS own JOIN nodes AS other ON other.address = own.address
        WHERE own.name = ANY(CAST(:nodes AS text[])))
    """
)
