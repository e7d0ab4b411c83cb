"""启动：把一个周期里计划好的启动一次写进数据库。

一条语句完成：核对栅栏与版本、改状态、拆出数组任务、写分配、加节点计数、记事件。
要么全部成立，要么（节点计数越界、被接管）一个也不成立；被取消或修改过的作业只是自己落选。
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.states import JobState
from scns_conductor.statements.allocations import GRES_TOTAL, gres_changed, locked_nodes
from scns_conductor.statements.array_tasks import SHARED_COLUMNS, task_of
from scns_conductor.statements.conditions import leaving
from scns_conductor.statements.hot_statement import HotStatement, ids_text, rows_text


def _limit(jobs: str) -> str:
    """给它的时限：计划里的（--time-min）、不然是它自己的；有期限的至多到期限为止。"""
    wanted = f"coalesce(p.time_limit, {jobs}.time_limit)"
    left = f"greatest(1, CAST(floor(extract(epoch FROM {jobs}.deadline - clock_timestamp())) AS bigint))"
    return f"CASE WHEN {jobs}.deadline IS NULL THEN {wanted} ELSE least({wanted}, {left}) END"


# 启动时才定下的预留，与原来写的：没有写的记空的文字，重新排队时照它恢复。
_ASKED_RESERVATION = "CASE WHEN p.reservation IS NOT NULL THEN coalesce({}.reservation, '') END"
# 重新排队的（jobs AS j）恢复成原来写的。
ASKED_RESERVATION = (
    "CASE WHEN j.requested_reservation IS NULL THEN j.reservation ELSE nullif(j.requested_reservation, '') END"
)
_SPLIT_COLUMNS = {
    "time_limit": _limit("m"),
    "partition": "coalesce(p.partition, m.partition)",
    "reservation": "coalesce(p.reservation, m.reservation)",
}
_SPLIT_VALUES = [_SPLIT_COLUMNS.get(column, f"m.{column}") for column in SHARED_COLUMNS]


@dataclass(frozen=True, slots=True)
class Share:
    """一次启动在一个节点上的份额：内存 MiB；gres 如 {'gpu:a100': 2}。"""

    node_name: str
    cpus: int
    memory: int
    gres: dict[str, int]
    tasks: int


@dataclass(frozen=True, slots=True)
class Start:
    """一次启动。

    task_id 是要从数组行拆出来的任务的序号，不是数组行则为 None；
    becomes_task 表示这是最后一个任务，数组行自身成为它。
    """

    job_id: int
    revision: int
    task_id: int | None
    becomes_task: bool
    node_list: str
    shares: tuple[Share, ...]
    gres_text: str | None = None
    # --time-min 的作业得到的时限（秒）；None 是作业自己的。
    time_limit: int | None = None
    # 列了几个分区的作业在哪个里启动；None 是作业自己的。
    partition: str | None = None
    # 所属的异构作业：同一个的各个部分要么都启动，要么都不。
    het_job_id: int | None = None
    # 列了几个预留的在哪个里启动，没有写的被哪个吸进去；None 是照作业自己的。
    reservation: str | None = None
    # 启动时的优先级；None 不记。
    priority: float | None = None


@dataclass(slots=True)
class Started:
    """写成了的启动：index 是在所给列表里的下标，job_id 是（可能新拆出来的）作业号。"""

    index: int
    job_id: int
    restart_count: int


# 与 plan 的连接说的是同一件事，但要写出来：队列一会儿空、一会儿十万个，统计跟不上，规划器以为 jobs_pending 只有
# 几行，就从头扫它；有了这一句，最坏也只按号去找。
_THESE = "j.job_id = ANY(CAST(%(plan_ids)s AS bigint[]))"

STARTABLE = leaving({JobState.PENDING}, to={JobState.RUNNING})


def starting(*carried: str) -> str:
    """CTE 片段：启动 plan 里的（列见 _COMMIT），改状态、拆出数组任务。

    要有 fence 与 plan 两个 CTE，%(plan_ids)s 是 plan 里的号。真正成立的在 started，连同 plan 里叫 carried 的列；
    写分配、加节点计数、记事件是用它的语句的事。
    """
    more = "".join(f", p.{name}" for name in carried)
    own = "".join(f", {name}" for name in carried)
    return f"""
    array_part AS (
      SELECT job_id, min(revision) AS revision, range_agg(int4range(task_id, task_id + 1)) AS tasks,
             bool_or(becomes) AS whole
      FROM plan WHERE task_id IS NOT NULL GROUP BY job_id
    ),
    started_rows AS (
      UPDATE jobs AS j SET
        state = 'RUNNING', reason = 'None', error_msg = NULL, start_time = clock_timestamp(), end_time = NULL,
        eligible_time = coalesce(j.eligible_time, j.submit_time), expected_start_time = NULL,
        node_list = p.node_list, batch_host = p.batch_host, allocated_nodes = p.nodes, allocated_cpus = p.cpus,
        allocated_memory = p.memory, allocated_gres = p.gres, time_limit = {_limit("j")},
        partition = coalesce(p.partition, j.partition),
        requested_partitions = CASE WHEN p.partition IS NOT NULL THEN j.partition END,
        reservation = coalesce(p.reservation, j.reservation),
        requested_reservation = {_ASKED_RESERVATION.format("j")}, start_priority = p.priority,
        array_task_id = CASE WHEN p.task_id IS NULL THEN j.array_task_id ELSE {task_of("j", "p.task_id")} END,
        array_remaining = NULL
      FROM plan AS p LEFT JOIN array_part AS t ON t.job_id = p.job_id
      WHERE j.job_id = p.job_id AND {_THESE} AND (p.task_id IS NULL OR (p.becomes AND j.array_remaining = t.tasks))
        AND j.state IN {STARTABLE} AND j.hold IS NULL AND j.revision = p.revision AND EXISTS (SELECT FROM fence)
      RETURNING p.k, j.job_id, j.restart_count, p.node_list, p.shares, j.start_time{more}
    ),
    taken AS (
      UPDATE jobs AS j SET array_remaining = j.array_remaining - t.tasks
      FROM array_part AS t
      WHERE j.job_id = t.job_id AND {_THESE} AND NOT t.whole AND j.array_remaining @> t.tasks
        AND j.state IN {STARTABLE} AND j.hold IS NULL AND j.revision = t.revision AND EXISTS (SELECT FROM fence)
      RETURNING j.job_id
    ),
    numbered AS MATERIALIZED (
      SELECT q.*, nextval('jobs_job_id_seq') AS new_id, clock_timestamp() AS start_time FROM (
        SELECT p.* FROM plan AS p
        WHERE p.task_id IS NOT NULL AND NOT p.becomes
          AND p.job_id IN (SELECT job_id FROM taken UNION ALL SELECT job_id FROM started_rows)
        ORDER BY p.k) AS q
    ),
    split AS (
      INSERT INTO jobs (job_id, {", ".join(SHARED_COLUMNS)}, requested_partitions, requested_reservation,
        start_priority, array_job_id, array_task_id, array_base, array_step, array_max_tasks, state, submit_time,
        eligible_time, start_time, node_list, batch_host, allocated_nodes, allocated_cpus, allocated_memory,
        allocated_gres, wait_breakdown)
      SELECT p.new_id, {", ".join(_SPLIT_VALUES)},
        CASE WHEN p.partition IS NOT NULL THEN m.partition END, {_ASKED_RESERVATION.format("m")}, p.priority,
        m.job_id, {task_of("m", "p.task_id")}, m.array_base, m.array_step, m.array_max_tasks, 'RUNNING',
        m.submit_time, coalesce(m.eligible_time, m.submit_time), p.start_time, p.node_list, p.batch_host,
        p.nodes, p.cpus, p.memory, p.gres,
        CASE WHEN m.wait_breakdown IS NOT NULL THEN scns_waited(m.wait_breakdown, m.reason, m.reason_since) END
      FROM numbered AS p JOIN jobs AS m ON m.job_id = p.job_id
    ),
    started AS (
      SELECT k, job_id, restart_count, node_list, shares, start_time{own} FROM started_rows
      UNION ALL
      SELECT k, new_id, 0, node_list, shares, start_time{own} FROM numbered
    )"""


_COMMIT = HotStatement(
    f"""
    WITH reserving AS MATERIALIZED (
      -- 改预留的事务锁着这一行：等它提交，再看是不是计划时看到的那些。不核对的不碰它。
      SELECT version FROM reservation_version WHERE CAST(%(reservations)s AS bigint) IS NOT NULL FOR SHARE
    ),
    fence AS MATERIALIZED (
      SELECT epoch FROM scheduler_leader WHERE epoch = %(epoch)s AND (
        CAST(%(reservations)s AS bigint) IS NULL OR EXISTS (SELECT FROM reserving WHERE version = %(reservations)s))
    ),
    plan AS (
      SELECT * FROM json_to_recordset(CAST(%(plan)s AS json))
      AS p(k integer, job_id bigint, task_id integer, becomes boolean, revision integer, node_list text,
        batch_host text, nodes integer, cpus integer, memory bigint, gres text, time_limit bigint, partition text,
        reservation text, priority double precision, shares jsonb)
    ),
    {starting()},
    allocated AS (
      INSERT INTO resource_allocations (job_id, restart_count, node_name, node_index, cpus, memory, gres, tasks)
      SELECT s.job_id, s.restart_count, a.node_name, a.node_index, a.cpus, a.memory, a.gres, a.tasks
      FROM started AS s CROSS JOIN LATERAL jsonb_to_recordset(s.shares)
        AS a(node_name text, node_index integer, cpus integer, memory bigint, gres jsonb, tasks integer)
      RETURNING node_name, cpus, memory, gres
    ),
    added AS (
      SELECT node_name, sum(cpus)::integer AS cpus, sum(memory)::bigint AS memory,
        {GRES_TOTAL} AS gres
      FROM allocated GROUP BY node_name
    ),
    {locked_nodes("added")},
    counted AS (
      UPDATE nodes AS n SET
        allocated_cpus = n.allocated_cpus + locked.cpus,
        allocated_memory = n.allocated_memory + locked.memory,
        allocated_gres = {gres_changed("locked.gres", 1)}
      FROM locked WHERE n.name = locked.node_name
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, 'PENDING', 'RUNNING', 'start', 'scheduler', '分配到 ' || node_list FROM started
    )
    SELECT k, job_id, restart_count FROM started ORDER BY k
    """
)


def commit_starts(
    connection: Connection, epoch: int, starts: Iterable[Start], reservations: int | None = None
) -> list[Started]:
    """写下一批启动，返回真正成立的；被取消、修改或保留的作业不在其中。

    reservations 是计划时预留的版本：此后改过的，一个也不成立；None 不核对。
    一条语句，在调用者的事务里执行，自动提交的连接上自成一个事务。
    节点计数越界时 PostgreSQL 报 CheckViolation，整批作废，调用者应当重新装载再计划。
    """
    plan = [_plan_row(index, start) for index, start in enumerate(starts)]
    if not plan:
        return []
    job_ids = ids_text({row["job_id"] for row in plan})
    values = {"epoch": epoch, "plan": rows_text(plan), "plan_ids": job_ids, "reservations": reservations}
    return [Started(*row) for row in _COMMIT.execute(connection, values)]


def _plan_row(index: int, start: Start) -> dict[str, Any]:
    shares = start.shares
    # 少有的，没有就不送。
    rare = {"reservation": start.reservation, "priority": start.priority}
    return {
        **{name: value for name, value in rare.items() if value is not None},
        "k": index,
        "job_id": start.job_id,
        "task_id": start.task_id,
        "becomes": start.becomes_task,
        "revision": start.revision,
        "node_list": start.node_list,
        "batch_host": shares[0].node_name,
        "nodes": len(shares),
        "cpus": sum(share.cpus for share in shares),
        "memory": sum(share.memory for share in shares),
        "gres": start.gres_text,
        "time_limit": start.time_limit,
        "partition": start.partition,
        "shares": [
            {
                "node_name": share.node_name,
                "node_index": node_index,
                "cpus": share.cpus,
                "memory": share.memory,
                "gres": share.gres,
                "tasks": share.tasks,
            }
            for node_index, share in enumerate(shares)
        ],
    }
