"""接力：一批结束与接过它们份额的后继的启动，一条语句、一个事务（docs/decisions/0011-relay.md）。

后继是领导者许可的、按次序的一张单子（Offer）。它只是许可，不是事实：作业在这条语句提交之前就是平常的 PENDING，
取消、保留、修改照常；每一个都在这里照启动的条件再核对一遍（任期、版本、状态、没有保留），不符的略过，取下一个。
份额相同，所以节点的计数不变；分配写下时就是认领了的，提交之后才启动进程（不变量 1）。

短作业一份份额上一次接好几个（depth），成一条链（relay_chain）：份额只算一份，牧守进程按次序一个接一个地启动，
下一批结束再把链补长。链上还没有轮到的已经是 RUNNING，真的开始的时刻随结束写下。
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.statements.claims import CLAIMED_COLUMNS, DESCRIBE_SUCCESSOR, ClaimedJob
from scns_conductor.statements.conditions import among
from scns_conductor.statements.ends import Ended, JobEnd, ending, ending_values, record_outputs
from scns_conductor.statements.hot_statement import HotStatement, ids_text, rows_text
from scns_conductor.statements.node_state import ACCEPTING
from scns_conductor.statements.reservations import RESERVATION_LIVES
from scns_conductor.statements.starts import STARTABLE, starting


@dataclass(frozen=True, slots=True)
class Offer:
    """领导者第 epoch 任许可的后继，到 expires（数据库的 Unix 秒）为止；cpus、memory（MiB）、tasks 是它们都要的份额。

    jobs 是（作业号，数组任务的序号或 None，版本），按次序；depth 是一份份额上至多接几个。
    """

    epoch: int
    expires: float
    cpus: int
    memory: int
    tasks: int
    jobs: tuple[tuple[int, int | None, int], ...]
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Successor:
    """接过 predecessor（作业号，尝试）的份额的，已经认领；cpu_ids 是随份额接过来的核。

    origin 是它在单子里的（作业号，数组任务的序号）；chain 是它在哪条链上。
    """

    predecessor: tuple[int, int]
    origin: tuple[int, int | None]
    cpu_ids: list[int] | None
    chain: int | None
    job: ClaimedJob


# 结束的那几行没有后继的列。
_NOTHING = ", ".join(f"NULL AS {name}" for name in CLAIMED_COLUMNS)

_HAND_OVER = HotStatement(
    f"""
    -- RECURSIVE 只为前面的片段能指着后面的 kept；没有递归。
    -- 规划器当每个 CTE 只有一两行，互相连接就是嵌套循环，一批几百个就是平方的：能不连接的不连接，列一路带下去；
    -- 要核对的用 among（tests/integration/test_statement_growth.py）。
    WITH RECURSIVE {ending(kept="kept")},
    fence AS MATERIALIZED (
      SELECT FROM scheduler_leader AS l, nodes AS n
      WHERE l.epoch = %(epoch)s AND n.name = %(node)s AND n.state = 'UP' AND {ACCEPTING.format(n="n.")}
        AND clock_timestamp() < to_timestamp(%(expires)s)
        -- 许可之后才定的预留：后继也许不该用这个节点，交给领导者。
        AND NOT EXISTS (SELECT FROM reservations WHERE {RESERVATION_LIVES.replace("%", "%%")})
    ),
    spots AS MATERIALIZED (
      -- 空出来的份额，一份一行。
      SELECT coalesce(r.relay_chain, r.allocation_id) AS chain, max(r.relay_chain) IS NOT NULL AS chained,
        (array_agg(r.job_id ORDER BY r.allocation_id DESC))[1] AS job_id, max(r.cpu_ids) AS cpu_ids
      FROM released AS r
      WHERE r.node_name = %(node)s AND r.cpus = %(cpus)s AND r.memory = %(memory)s AND r.gres = '{{}}'
        AND r.lent_cpus = 0
        AND r.job_id NOT IN (SELECT job_id FROM ended WHERE peers IS NOT NULL)
      GROUP BY 1 HAVING bool_and(r.job_id = ANY(CAST(%(vacating)s AS bigint[]))
        AND r.job_id NOT IN (SELECT job_id FROM ended WHERE to_state = 'PENDING'))
    ),
    places AS MATERIALIZED (
      -- 链上还有几个没有做完的，就少接几个；早轮到的位置先挑。
      SELECT s.*, row_number() OVER (ORDER BY q.queued + g.nth, s.chain) AS place
      FROM spots AS s
        CROSS JOIN LATERAL (SELECT count(*) AS queued FROM mates AS m WHERE m.relay_chain = s.chain) AS q
        CROSS JOIN LATERAL generate_series(1, greatest(0, %(depth)s - q.queued)) AS g(nth)
    ),
    offers AS MATERIALIZED (
      SELECT * FROM json_to_recordset(CAST(%(offered)s AS json))
        AS o(k integer, job_id bigint, task_id integer, revision integer)
    ),
    candidates AS MATERIALIZED (
      SELECT o.k FROM offers AS o JOIN jobs AS j ON j.job_id = o.job_id
      WHERE j.job_id = ANY(CAST(%(plan_ids)s AS bigint[])) AND j.state IN {STARTABLE} AND j.hold IS NULL
        AND j.revision = o.revision AND j.deadline IS NULL AND j.het_job_id IS NULL AND EXISTS (SELECT FROM fence)
        AND CASE WHEN o.task_id IS NULL THEN j.array_remaining IS NULL ELSE j.array_remaining @> o.task_id END
      -- 别人正在动的略过，不等：这里在收尾的路上。
      ORDER BY o.k LIMIT (SELECT count(*) FROM places) FOR NO KEY UPDATE OF j SKIP LOCKED
    ),
    plan AS MATERIALIZED (
      SELECT c.k, c.job_id, c.job_id AS origin_job_id, c.task_id, false AS becomes, c.revision,
        CAST(%(node)s AS text) AS node_list, CAST(%(node)s AS text) AS batch_host, 1 AS nodes,
        CAST(%(cpus)s AS integer) AS cpus, CAST(%(memory)s AS bigint) AS memory, CAST(NULL AS text) AS gres,
        CAST(NULL AS bigint) AS time_limit, CAST(NULL AS text) AS partition, CAST(NULL AS text) AS reservation,
        CAST(NULL AS double precision) AS priority, CAST(NULL AS jsonb) AS shares,
        p.chain, p.job_id AS from_job_id, p.cpu_ids, p.chained OR %(depth)s > 1 AS chained
      FROM (SELECT *, row_number() OVER (ORDER BY k) AS place FROM offers
            WHERE {among("k", "SELECT k FROM candidates")}) AS c
        JOIN places AS p USING (place)
    ),
    {starting("origin_job_id", "task_id", "cpus", "memory", "chain", "from_job_id", "cpu_ids", "chained")},
    kept AS MATERIALIZED (
      SELECT r.allocation_id FROM released AS r
      WHERE {among("coalesce(r.relay_chain, r.allocation_id)", "SELECT chain FROM started")}
    ),
    placed AS MATERIALIZED (
      SELECT s.*, CAST('{{}}' AS jsonb) AS gres, CAST(%(tasks)s AS integer) AS tasks,
        nextval('resource_allocations_allocation_id_seq') AS allocation_id
      FROM (SELECT * FROM started ORDER BY k) AS s
    ),
    allocated AS (
      INSERT INTO resource_allocations (allocation_id, job_id, restart_count, node_name, node_index, cpus, memory,
        gres, tasks, cpu_ids, claimed_at, relay_chain)
      SELECT s.allocation_id, s.job_id, s.restart_count, s.node_list, 0, s.cpus, s.memory,
        s.gres, s.tasks, s.cpu_ids, clock_timestamp(), CASE WHEN s.chained THEN s.chain END
      FROM placed AS s
    ),
    start_events AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT s.job_id, s.restart_count, 'PENDING', 'RUNNING', 'start', 'agent@' || s.node_list,
        '接过作业 ' || s.from_job_id || ' 在 ' || s.node_list || ' 上的份额'
      FROM placed AS s
    ),
    relayed AS (
      INSERT INTO scheduler_inbox (kind, job_ids, node_names, payload)
      SELECT 'relayed', array_agg(s.job_id ORDER BY s.k), ARRAY[CAST(%(node)s AS text)],
        jsonb_build_object('from', jsonb_agg(jsonb_build_array(s.origin_job_id, s.task_id) ORDER BY s.k),
          'chains', jsonb_agg(CASE WHEN s.chained THEN s.chain END ORDER BY s.k),
          'share', jsonb_build_array(%(cpus)s::integer, %(memory)s::bigint, %(tasks)s::integer))
      FROM placed AS s HAVING count(*) > 0
    )
    -- 先是结束，再是后继：两边不在这里相配，那也是嵌套循环。
    SELECT job_id AS ended_job_id, restart_count AS ended_attempt, to_state, peers,
      NULL AS origin_job_id, NULL AS task_id, NULL AS cpu_ids, NULL AS chain, {_NOTHING}
    FROM ended
    UNION ALL
    SELECT s.from_job_id, NULL, NULL, NULL,
      s.origin_job_id, s.task_id, s.cpu_ids, CASE WHEN s.chained THEN s.chain END, {DESCRIBE_SUCCESSOR}
    FROM placed AS s JOIN jobs AS j ON j.job_id = s.origin_job_id
      JOIN jobs AS m ON m.job_id = coalesce(j.array_job_id, j.job_id)
    """
)
# 上面的前八列之后是 ClaimedJob 的。
_OWN_COLUMNS = 8


def hand_over(
    connection: Connection, node_name: str, ends: Sequence[JobEnd], vacating: Sequence[int], offer: Offer
) -> tuple[list[Ended], list[Successor]]:
    """写下一批结束，vacating（作业号）里的份额交给单子上的后继；返回生效的结束与已经认领的后继。

    没有输出的尾部时只有一条语句，自成一个事务；有则要在调用者的事务里执行。同一事务里通知调度器。
    """
    batch = list(ends)
    offered = [
        {"k": index, "job_id": job_id, "task_id": task_id, "revision": revision}
        for index, (job_id, task_id, revision) in enumerate(offer.jobs)
    ]
    values: dict[str, Any] = {
        **ending_values(batch),
        "vacating": ids_text(vacating),
        "node": node_name,
        "epoch": offer.epoch,
        "expires": offer.expires,
        "cpus": offer.cpus,
        "memory": offer.memory,
        "tasks": offer.tasks,
        "depth": offer.depth,
        "offered": rows_text(offered),
        "plan_ids": ids_text({job_id for job_id, _, _ in offer.jobs}),
    }
    found = _HAND_OVER.execute(connection, values)
    assert (_HAND_OVER.columns or ())[_OWN_COLUMNS:] == CLAIMED_COLUMNS
    ended: dict[int, Ended] = {}
    successors = []
    for row in found:
        job_id, attempt, state, peers, origin, task_id, cpu_ids, chain, *described = row
        if state is not None:
            ended[job_id] = Ended(job_id, attempt, state, peers)
        else:
            predecessor = (job_id, ended[job_id].restart_count)
            successors.append(Successor(predecessor, (origin, task_id), cpu_ids, chain, ClaimedJob(*described)))
    applied = list(ended.values())
    record_outputs(connection, batch, applied)
    # 链上的次序就是单子的次序。
    return applied, sorted(successors, key=lambda successor: successor.job.allocation_id)
