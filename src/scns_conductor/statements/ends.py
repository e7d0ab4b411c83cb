"""结束：把一批作业的结束一次写进数据库。代理报告的退出、节点故障、恢复时的清点都走这里。

一条语句完成：合法转移、真实的结束时刻、退出码、用量、释放分配（只一次）、节点计数、事件、收件箱。
有人要求过的去向（requested_end_state）优先于进程自己的结局；允许重新排队的节点故障回到 PENDING。
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.states import ACTIVE_STATES, HOLD_REASONS, TERMINAL_STATES, JobState
from scns_conductor.statements.allocations import release_allocations
from scns_conductor.statements.conditions import LAUNCH_ID, leaving
from scns_conductor.statements.hot_statement import HotStatement, ids_text, rows_text
from scns_conductor.statements.inbox import INBOX_CHANNEL
from scns_conductor.statements.starts import ASKED_RESERVATION


@dataclass(frozen=True, slots=True)
class OutputTail:
    """一路输出的尾部：stream 是 stdout 或 stderr，total_bytes 是文件总长。"""

    stream: str
    path: str
    content: bytes
    total_bytes: int


@dataclass(frozen=True, slots=True)
class JobEnd:
    """一个作业的一次尝试结束了。

    end_time 是 Unix 秒（节点的时钟），None 表示用数据库的现在；cause 是事件码（exit、timeout、oom、node_fail……）。
    launch_id 是哪一次启动（conditions.LAUNCH_ID）；没有的（旧版启动的）只按作业号与尝试认。
    requeue_if_allowed：作业允许重新排队时回到 PENDING 而不进终态。
    hold：启动失败（cause 是 launch_failed）而回到 PENDING 的就此保留；在别的节点上也启动失败过的总是保留。
    """

    job_id: int
    restart_count: int
    state: JobState
    cause: str
    actor: str
    end_time: float | None = None
    exit_status: int | None = None
    exit_signal: int | None = None
    message: str | None = None
    requeue_if_allowed: bool = False
    hold: bool = False
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    max_rss_kb: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    outputs: tuple[OutputTail, ...] = field(default=())
    launch_id: int | None = None
    # 真的开始的时刻（Unix 秒，节点的时钟）：在接力的链上等过的，比数据库里记的晚；没有等过的是 None。
    true_start: float | None = None


# 占着资源的，能到任何终态，或回到排队。
_ENDABLE = leaving(ACTIVE_STATES, to={JobState.PENDING, *TERMINAL_STATES})
_COLUMNS: dict[str, str] = {
    "job_id": "bigint",
    "restart_count": "integer",
    "launch_id": "bigint",
    "state": "text",
    "cause": "text",
    "actor": "text",
    "end_time": "double precision",
    "exit_status": "integer",
    "exit_signal": "integer",
    "message": "text",
    "requeue_if_allowed": "boolean",
    "hold": "boolean",
    "cpu_user_s": "double precision",
    "cpu_system_s": "double precision",
    "max_rss_kb": "bigint",
    "read_bytes": "bigint",
    "written_bytes": "bigint",
    "true_start": "double precision",
}


def ending(kept: str = "") -> str:
    """CTE 片段：写下 %(rows)s 里的结束（%(job_ids)s 是它们的号），释放份额、记事件、放进收件箱；真正生效的在 ended。

    kept 见 release_allocations。
    """
    return f"""
    reported AS (
      SELECT * FROM json_to_recordset(CAST(%(rows)s AS json))
      AS r({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())})
    ),
    judged AS (
      -- 按作业号的次序加锁，使并发的结束不会死锁；只认当前这次尝试。
      SELECT r.*, j.state AS from_state, j.requested_end_actor, j.requested_end_reason, j.start_time,
        CASE WHEN j.allocated_nodes > 1 THEN j.node_list END AS peers,
        -- 交还的分配（salloc 做完了）：占位进程是被杀的，退出码是做的事的。
        coalesce(j.requested_end_state IN ('COMPLETED', 'FAILED'), false) AS given_back,
        coalesce(j.requested_end_state,
                 CASE WHEN r.requeue_if_allowed AND j.requeue AND NOT j.interactive THEN 'PENDING' ELSE r.state END)
          AS to_state,
        -- 在别的哪些节点上也启动失败过：那多半是作业自己的事，不再一个节点一个节点地试。
        CASE WHEN r.cause = 'launch_failed' THEN
          (SELECT string_agg(DISTINCT replace(e.actor, 'agent@', ''), '、') FROM job_events AS e
           WHERE e.job_id = r.job_id AND e.cause = 'launch_failed' AND e.actor <> r.actor)
        END AS failed_before,
        -- 节点的钟折算过来有误差：不早于开始，也不晚于现在，否则等它结束的看起来先启动了。
        least(clock_timestamp(), greatest(j.start_time, coalesce(to_timestamp(r.end_time), clock_timestamp())))
          AS ended_at
      FROM reported AS r JOIN jobs AS j ON j.job_id = r.job_id
      -- 写出号来，规划器最坏也只按号去找，不从头扫 jobs_active。
      WHERE j.job_id = ANY(CAST(%(job_ids)s AS bigint[])) AND j.restart_count = r.restart_count
        AND j.state IN {_ENDABLE} AND (r.launch_id IS NULL OR r.launch_id = {LAUNCH_ID})
      ORDER BY j.job_id FOR NO KEY UPDATE OF j
    ),
    decided AS (
      SELECT *, to_state = 'PENDING' AND cause = 'launch_failed' AND (hold OR failed_before IS NOT NULL) AS held,
        CASE WHEN to_state = state THEN message ELSE coalesce(requested_end_reason, message) END
          || coalesce('；先前在 ' || failed_before || ' 上也启动失败过', '') AS said,
        CASE WHEN true_start IS NOT NULL
          THEN least(ended_at, greatest(start_time, to_timestamp(true_start))) END AS began
      FROM judged
    ),
    ended AS (
      UPDATE jobs AS j SET
        state = d.to_state,
        reason = CASE WHEN d.held THEN '{HOLD_REASONS["launch_failed"]}'
                      WHEN d.to_state IN ('COMPLETED', 'PENDING') THEN 'None'
                      WHEN d.to_state = 'TIMEOUT' THEN 'TimeLimit'
                      WHEN d.to_state = 'NODE_FAIL' THEN 'NodeDown'
                      WHEN d.to_state = 'OUT_OF_MEMORY' THEN 'OutOfMemory'
                      WHEN d.to_state = 'FAILED' THEN
                        CASE WHEN coalesce(d.exit_signal, 0) <> 0 AND NOT d.given_back THEN 'RaisedSignal'
                             ELSE 'NonZeroExitCode' END
                      ELSE 'None' END,
        hold = CASE WHEN d.held THEN 'launch_failed' ELSE j.hold END,
        error_msg = d.said,
        end_time = CASE WHEN d.to_state = 'PENDING' THEN NULL ELSE d.ended_at END,
        exit_status = CASE WHEN d.to_state = 'PENDING' THEN NULL
                           WHEN d.given_back THEN coalesce(j.derived_exit_status, 0) ELSE d.exit_status END,
        exit_signal = CASE WHEN d.to_state = 'PENDING' THEN NULL WHEN d.given_back THEN 0 ELSE d.exit_signal END,
        suspended_s = CASE WHEN d.to_state = 'PENDING' THEN 0
                           WHEN j.state = 'SUSPENDED' AND j.suspend_time IS NOT NULL
                           THEN j.suspended_s + greatest(0, extract(epoch FROM d.ended_at - j.suspend_time))
                           ELSE j.suspended_s END,
        suspend_time = NULL,
        restart_count = j.restart_count + CASE WHEN d.to_state = 'PENDING' THEN 1 ELSE 0 END,
        start_time = CASE WHEN d.to_state = 'PENDING' THEN NULL ELSE coalesce(d.began, j.start_time) END,
        partition = CASE WHEN d.to_state = 'PENDING' THEN coalesce(j.requested_partitions, j.partition)
                         ELSE j.partition END,
        reservation = CASE WHEN d.to_state = 'PENDING' THEN {ASKED_RESERVATION} ELSE j.reservation END,
        node_list = CASE WHEN d.to_state = 'PENDING' THEN NULL ELSE j.node_list END,
        batch_host = CASE WHEN d.to_state = 'PENDING' THEN NULL ELSE j.batch_host END,
        allocated_nodes = CASE WHEN d.to_state = 'PENDING' THEN 0 ELSE j.allocated_nodes END,
        allocated_cpus = CASE WHEN d.to_state = 'PENDING' THEN 0 ELSE j.allocated_cpus END,
        allocated_memory = CASE WHEN d.to_state = 'PENDING' THEN 0 ELSE j.allocated_memory END,
        allocated_gres = CASE WHEN d.to_state = 'PENDING' THEN NULL ELSE j.allocated_gres END,
        process_id = NULL,
        requested_end_state = NULL, requested_end_reason = NULL, requested_end_actor = NULL,
        requested_end_grace = NULL,
        cpu_user_s = coalesce(d.cpu_user_s, j.cpu_user_s), cpu_system_s = coalesce(d.cpu_system_s, j.cpu_system_s),
        max_rss_kb = coalesce(d.max_rss_kb, j.max_rss_kb), read_bytes = coalesce(d.read_bytes, j.read_bytes),
        written_bytes = coalesce(d.written_bytes, j.written_bytes)
      FROM decided AS d WHERE j.job_id = d.job_id
      RETURNING j.job_id, d.restart_count, d.to_state, d.peers, d.began,
        round(extract(epoch FROM d.ended_at - coalesce(d.began, d.start_time)) * 1000)::bigint AS ran_ms
    ),
    {release_allocations("ended", kept=kept, began="began")},
    recorded AS (
      INSERT INTO job_events (job_id, restart_count, event_time, from_state, to_state, cause, actor, message)
      SELECT job_id, restart_count, ended_at, from_state, to_state,
        CASE WHEN to_state = state OR (to_state = 'PENDING' AND cause = 'launch_failed') THEN cause
             WHEN to_state = 'PENDING' THEN 'requeue' ELSE lower(to_state) END,
        coalesce(requested_end_actor, actor), coalesce(requested_end_reason, said)
      FROM decided
    ),
    told AS (
      -- 各跑了多少毫秒：接力要估计往前交多少（worker/scheduler/relay_offers.py）。
      INSERT INTO scheduler_inbox (kind, job_ids, payload)
      SELECT CASE WHEN to_state = 'PENDING' THEN 'jobs' ELSE 'ended' END, array_agg(job_id),
        jsonb_build_object('ran_ms', array_agg(ran_ms)) FROM ended GROUP BY 1
      RETURNING scns_notify('{INBOX_CHANNEL}', '')
    )"""


_COMMIT = HotStatement(
    f"WITH {ending()}\nSELECT job_id, restart_count, to_state, peers FROM ended ORDER BY job_id",
)

_OUTPUTS = sa.text(
    f"""
    INSERT INTO job_outputs (job_id, restart_count, stream, path, content, total_bytes)
    SELECT o.job_id, o.restart_count, o.stream, o.path, o.content, o.total_bytes FROM unnest(
      CAST(:job_id AS bigint[]), CAST(:restart_count AS integer[]), CAST(:stream AS text[]), CAST(:path AS text[]),
      CAST(:content AS bytea[]), CAST(:total_bytes AS bigint[]), CAST(:launch_id AS bigint[]))
      AS o(job_id, restart_count, stream, path, content, total_bytes, launch_id)
    JOIN jobs AS j ON j.job_id = o.job_id
      AND (o.launch_id IS NULL OR j.restart_count <> o.restart_count OR o.launch_id = {LAUNCH_ID})
    ON CONFLICT (job_id, restart_count, stream) DO UPDATE
      SET path = excluded.path, content = excluded.content, total_bytes = excluded.total_bytes
    """
)


@dataclass(frozen=True, slots=True)
class Ended:
    """写成了的结束；重复或过时的报告不在其中。peers 是多节点作业的节点列表：要请它们来核对。"""

    job_id: int
    restart_count: int
    state: str
    peers: str | None = None


def commit_ends(connection: Connection, ends: Iterable[JobEnd]) -> list[Ended]:
    """写下一批结束，返回真正生效的。重复、过时（别的尝试）的报告什么也不做。

    没有输出的尾部时只有一条语句，自成一个事务；有则要在调用者的事务里执行。同一事务里通知调度器。
    """
    batch = list(ends)
    if not batch:
        return []
    ended = [Ended(*row) for row in _COMMIT.execute(connection, ending_values(batch))]
    record_outputs(connection, batch, ended)
    return ended


def ending_values(batch: Sequence[JobEnd]) -> dict[str, str]:
    """ending 的参数。"""
    described = [{name: getattr(end, name) for name in _COLUMNS} for end in batch]
    return {"rows": rows_text(described), "job_ids": ids_text(end.job_id for end in batch)}


def record_outputs(connection: Connection, batch: Sequence[JobEnd], ended: Sequence[Ended]) -> None:
    """写下输出的尾部；没有的什么也不做。与结束在同一个事务里；ended 是刚刚生效的，不必再核对是哪一次启动。"""
    effective = {(job.job_id, job.restart_count) for job in ended}
    outputs = [(end, tail) for end in batch for tail in end.outputs]
    if outputs:
        connection.execute(
            _OUTPUTS,
            {
                "job_id": [end.job_id for end, _ in outputs],
                "restart_count": [end.restart_count for end, _ in outputs],
                "stream": [tail.stream for _, tail in outputs],
                "path": [tail.path for _, tail in outputs],
                "content": [tail.content for _, tail in outputs],
                "total_bytes": [tail.total_bytes for _, tail in outputs],
                "launch_id": [
                    None if (end.job_id, end.restart_count) in effective else end.launch_id for end, _ in outputs
                ],
            },
        )
