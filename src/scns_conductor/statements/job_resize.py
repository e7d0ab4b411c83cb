"""运行中的作业变小：交还几个节点，别的不变；只归还一次（不变量 5）。"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.gres import format_gres
from scns_conductor.core.hostlist import compress
from scns_conductor.core.states import JobState
from scns_conductor.statements.allocations import release_allocations
from scns_conductor.statements.conditions import states
from scns_conductor.statements.inbox import INBOX_CHANNEL

# 作业此刻占着的各节点，按在作业里的次序。
NODES_HELD = sa.text(
    "SELECT node_name, cpus, memory, gres FROM resource_allocations WHERE job_id = :job_id "
    "AND restart_count = :restart_count AND released_at IS NULL ORDER BY node_index"
)
# 交还 :gone 这些节点，改作业的合计，记事件，告诉调度器；不在运行的什么也不做。
# lost 的节点不会再报作业步的结局：没有别的节点还在跑的步就此结束。
SHRINK = sa.text(
    f"""
    WITH resized AS (
      UPDATE jobs SET node_list = :node_list, allocated_nodes = :nodes, allocated_cpus = :cpus,
        allocated_memory = :memory, allocated_gres = :gres
      WHERE job_id = :job_id AND restart_count = :restart_count AND state IN {states({JobState.RUNNING})}
      RETURNING job_id, restart_count, state
    ),
    {release_allocations("resized", "AND a.node_name = ANY(CAST(:gone AS text[]))")},
    steps AS (
      UPDATE job_steps AS s SET pending_nodes = left_over.nodes,
        state = CASE WHEN left_over.nodes = '{{}}' THEN 'NODE_FAIL' ELSE s.state END,
        end_time = CASE WHEN left_over.nodes = '{{}}' THEN clock_timestamp() ELSE s.end_time END
      FROM resized AS r, LATERAL (
        SELECT t.step_id, coalesce(array_agg(u.name ORDER BY u.place) FILTER (WHERE u.name <> ALL(
          CAST(:gone AS text[]))), '{{}}') AS nodes
        FROM job_steps AS t CROSS JOIN unnest(t.pending_nodes) WITH ORDINALITY AS u(name, place)
        WHERE t.job_id = r.job_id AND t.restart_count = r.restart_count GROUP BY t.step_id) AS left_over
      WHERE :lost AND s.job_id = r.job_id AND s.restart_count = r.restart_count AND s.step_id = left_over.step_id
    ),
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, state, state, 'resize', :actor, :message FROM resized
    ),
    told AS (
      INSERT INTO scheduler_inbox (kind, job_ids) SELECT 'jobs', ARRAY[job_id] FROM resized
      RETURNING scns_notify('{INBOX_CHANNEL}', '')
    )
    SELECT job_id FROM resized
    """
)


def shrink_values(held: Sequence[Any], gone: Collection[str]) -> dict[str, Any]:
    """SHRINK 里由占着的节点（NODES_HELD）与要交还的算得出的值。"""
    kept = [row for row in held if row.node_name not in gone]
    gres = Counter[str]()
    for row in kept:
        gres.update(row.gres)
    return {
        "gone": sorted(gone),
        "node_list": compress(row.node_name for row in kept),
        "nodes": len(kept),
        "cpus": sum(row.cpus for row in kept),
        "memory": sum(row.memory for row in kept),
        "gres": format_gres(dict(gres)) or None,
    }
