"""分配与节点计数：释放只有一处写法（不变量 3、5）。"""

import sqlalchemy as sa

# 这些作业还占着的节点：节点 -> 作业号。
HOLDING_NODES = sa.text(
    "SELECT node_name, array_agg(job_id) AS job_ids FROM resource_allocations "
    "WHERE job_id = ANY(CAST(:job_ids AS bigint[])) AND released_at IS NULL GROUP BY node_name"
)

# 几份的通用资源合计；空的不必加：加一次是调一遍 SQL 函数，要解析、计划。
GRES_TOTAL = "scns_gres_sum(gres) FILTER (WHERE gres <> '{}')"


def gres_changed(total: str, sign: int) -> str:
    """nodes AS n 的 allocated_gres 加（sign 为 1）或减（-1）total（GRES_TOTAL 给的）之后。"""
    return f"CASE WHEN {total} = '{{}}' THEN n.allocated_gres ELSE scns_gres_add(n.allocated_gres, {total}, {sign}) END"


def locked_nodes(counts: str) -> str:
    """CTE 片段：counts（一个 CTE，有 node_name 列，一个节点一行）的节点加锁，连同它的列在 locked 里。

    按名字的次序，使并发的改动不会死锁；列一起带出来，改计数时不必再与 counts 连接（那是嵌套循环，平方的）。
    """
    return f"""
    locked AS (
      SELECT {counts}.* FROM nodes AS n JOIN {counts} ON {counts}.node_name = n.name
      ORDER BY n.name FOR NO KEY UPDATE OF n
    )"""


def release_allocations(job_ids_sql: str, only: str = "", kept: str = "", began: str = "") -> str:
    """CTE 片段：释放这些作业尚未释放的分配，并从节点计数里减去；只释放一次（不变量 5）。

    job_ids_sql 是一个给出 job_id 列的查询或 CTE 名；only 是另外的条件（分配叫 a），如只释放几个节点上的。
    片段定义 released 与 returned_to_nodes 两个 CTE。
    一条接力的链（relay_chain）只占一份：链上还有没有释放的就不减；减的时候只减一份。
    kept 是一个给出 allocation_id 列的 CTE 名：这些份额在同一条语句里已经由别的作业接过去，计数不变。
    began 是 job_ids_sql 里真的开始的时刻的列名：有的（在链上等过）分配从那时算起。
    """
    kept_out = f"AND r.allocation_id NOT IN (SELECT allocation_id FROM {kept})" if kept else ""
    born = f", created_at = coalesce(ended.{began}, a.created_at)" if began else ""
    return f"""
    released AS (
      UPDATE resource_allocations AS a SET released_at = clock_timestamp(){born}
      FROM (SELECT job_id{f", {began}" if began else ""} FROM {job_ids_sql}) AS ended
      -- 写成这样，规划器就不去用 resource_allocations_held：它按节点排，按作业找要从头扫。
      WHERE a.job_id = ended.job_id AND coalesce(a.released_at, 'infinity') = 'infinity' {only}
      RETURNING a.allocation_id, a.job_id, a.node_name, a.cpus, a.memory, a.gres, a.lent_cpus, a.cpu_ids,
        a.relay_chain
    ),
    -- 链上别的还没有释放的。锁住再看：别的会话也许正在释放它们，两边都以为对方还在，这一份就没有人减。
    mates AS MATERIALIZED (
      SELECT a.relay_chain FROM resource_allocations AS a
      WHERE a.node_name IN (SELECT node_name FROM released WHERE relay_chain IS NOT NULL)
        AND a.relay_chain IN (SELECT relay_chain FROM released) AND a.released_at IS NULL
        AND a.allocation_id NOT IN (SELECT allocation_id FROM released)
      ORDER BY a.allocation_id FOR NO KEY UPDATE OF a
    ),
    given_up AS (
      -- 链一条算一份，不在链上的各算各的。
      SELECT DISTINCT ON (coalesce(r.relay_chain, -r.allocation_id)) r.*
      FROM released AS r
      WHERE (r.relay_chain IS NULL OR r.relay_chain NOT IN (SELECT relay_chain FROM mates)) {kept_out}
      ORDER BY coalesce(r.relay_chain, -r.allocation_id), r.allocation_id DESC
    ),
    freed AS (
      SELECT node_name, sum(cpus)::integer AS cpus, sum(memory)::bigint AS memory,
        {GRES_TOTAL} AS gres
      FROM given_up GROUP BY node_name
    ),
    {locked_nodes("freed")},
    returned_to_nodes AS (
      UPDATE nodes AS n SET
        allocated_cpus = n.allocated_cpus - locked.cpus,
        allocated_memory = n.allocated_memory - locked.memory,
        allocated_gres = {gres_changed("locked.gres", -1)}
      FROM locked WHERE n.name = locked.node_name
      RETURNING n.name
    )"""
