"""分配与节点计数：释放只有一处写法（不变量 3、5）。"""

import sqlalchemy as sa

# 这些作业还占着的节点：节点 -> 作业号。
HOLDING_NODES = sa.text(
    "SELECT node_name, array_agg(job_id) AS job_ids FROM resource_allocations "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND released_at IS NULL GROUP BY node_name"
)


def release_allocations(job_ids_sql: str, only: str = "", kept: str = "") -> str:
    """CTE 片段：释放这些作业尚未释放的分配，并从节点计数里减去；只释放一次（不变量 5）。

    job_ids_sql 是一个给出 job_id 列的查询或 CTE 名；only 是另外的条件（分配叫 a），如只释放几个节点上的。
    片段定义 released 与 returned_to_nodes 两个 CTE。
    kept 是一个给出 allocation_id 列的 CTE 名：这些份额在同一条语句里已经由别的作业接过去，计数不变。
    节点行按名字的次序加锁，使并发的释放不会死锁。
    """
    kept_out = f"WHERE allocation_id NOT IN (SELECT allocation_id FROM {kept})" if kept else ""
    return f"""
    released AS (
      UPDATE resource_allocations AS a SET released_at = clock_timestamp()
      FROM (SELECT job_id FROM {job_ids_sql}) AS ended
      -- 写成这样，规划器就不去用 resource_allocations_held：它按节点排，按作业找要从头扫。
      WHERE a.job_id = ended.job_id AND coalesce(a.released_at, 'infinity') = 'infinity' {only}
      RETURNING a.allocation_id, a.job_id, a.node_name, a.cpus, a.memory, a.gres, a.lent_cpus, a.cpu_ids
    ),
    freed AS (
      SELECT node_name, sum(cpus)::integer AS cpus, sum(memory)::bigint AS memory, scns_gres_sum(gres) AS gres
      FROM released {kept_out} GROUP BY node_name
    ),
    locked AS (
      SELECT n.name FROM nodes AS n JOIN freed ON freed.node_name = n.name ORDER BY n.name FOR NO KEY UPDATE OF n
    ),
    returned_to_nodes AS (
      UPDATE nodes AS n SET
        allocated_cpus = n.allocated_cpus - freed.cpus,
        allocated_memory = n.allocated_memory - freed.memory,
        allocated_gres = scns_gres_add(n.allocated_gres, freed.gres, -1)
      FROM freed JOIN locked ON locked.name = freed.node_name
      WHERE n.name = freed.node_name
      RETURNING n.name
    )"""
