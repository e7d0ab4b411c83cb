"""失联的节点：超过期限没有心跳的标为 DOWN，上面的作业按节点故障结束，允许的重新排队。

多节点作业若只失去了别的节点，运行脚本的节点还在：请它先结束自己的进程，由它来写结束，
资源在进程都没了之后才归还；它也失联时，下一轮在这里结束。
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core import hostlist
from scns_conductor.core.states import JobState
from scns_conductor.statements.end_requests import END_WITH_NODE
from scns_conductor.statements.ends import JobEnd, commit_ends
from scns_conductor.statements.job_resize import NODES_HELD, SHRINK, shrink_values
from scns_conductor.statements.row_locks import lock_free_jobs
from scns_conductor.statements.silent_nodes import (
    DOWN_BUT_HOLDING,
    JOBS_ON_NODES,
    MARK_NOT_REBOOTED,
    MARK_SILENT,
    OVERDUE_BUT_LOCKED,
    UNCLAIMED_ON_ABSENT_NODES,
)


def take_back_unclaimed(connection: Connection) -> dict[str, list[int]]:
    """把不在的节点上还没有认领的作业收回队列，不论允不允许重新排队；在调用者的事务里执行。

    返回多节点作业别的节点 -> 作业号：提交之后给它们发 sync。
    """
    ends = [
        JobEnd(
            row.job_id,
            row.restart_count,
            JobState.PENDING,
            "give_back",
            "scheduler",
            message=f"节点 {row.node_name} 不在了，作业还没有启动",
        )
        for row in connection.execute(UNCLAIMED_ON_ABSENT_NODES).all()
    ]
    to_sync: dict[str, list[int]] = {}
    _end_and_tell(connection, ends, to_sync)
    return to_sync


@dataclass(frozen=True, slots=True)
class SilentNodes:
    """上面还有作业要结束的失联节点，以及因此要请来核对的节点：节点名 -> 作业号。

    fallen 是这一次才标成 DOWN 的。locked_jobs、locked_nodes 的行（或分配）被别的会话锁着，这一轮没有动。
    """

    names: list[str] = field(default_factory=list)
    fallen: tuple[str, ...] = ()
    to_sync: dict[str, list[int]] = field(default_factory=dict)
    locked_jobs: list[int] = field(default_factory=list)
    locked_nodes: list[str] = field(default_factory=list)


def fail_silent_nodes(
    connection: Connection, timeout_s: float, spared: Sequence[str] = (), *, boot_timeout_s: float = 60.0
) -> SilentNodes:
    """在调用者的事务里执行；事务提交之后，调用者应给 to_sync 里的节点发 sync。spared 的节点不判失联。

    重启超过 boot_timeout_s 秒没有回来的也标为下线。
    """
    values = {"timeout": timeout_s, "spared": list(spared)}
    names = list(connection.scalars(MARK_SILENT, values))
    names += connection.scalars(
        MARK_NOT_REBOOTED, {"timeout": boot_timeout_s, "reason": f"重启了 {boot_timeout_s:g} 秒没有回来"}
    )
    silent = SilentNodes(names, tuple(names), take_back_unclaimed(connection))
    silent.locked_nodes.extend(connection.scalars(OVERDUE_BUT_LOCKED, values))
    lost = set(silent.names)
    for row in connection.execute(DOWN_BUT_HOLDING).all():
        if row.name not in lost:
            silent.names.append(row.name)
        if row.silent:
            lost.add(row.name)
    if not silent.names:
        return silent
    ends = []
    victims = connection.execute(JOBS_ON_NODES, {"names": silent.names}).all()
    free = lock_free_jobs(connection, {victim.job_id for victim in victims})
    # 收回之后才下线的节点上的，那时被人锁着的：没有启动过，也收回，不算节点故障。
    for node, job_ids in take_back_unclaimed(connection).items():
        silent.to_sync.setdefault(node, []).extend(job_ids)
    for victim in connection.execute(JOBS_ON_NODES, {"names": silent.names}).all():
        if victim.job_id not in free:
            silent.locked_jobs.append(victim.job_id)
            continue
        gone = victim.node_name in lost
        reason = f"节点 {victim.node_name} " + (f"失联超过 {timeout_s:g} 秒" if gone else "被管理员下线")
        if not gone:
            # 代理还在：它核对时会杀掉已不归它的进程。
            silent.to_sync.setdefault(victim.node_name, []).append(victim.job_id)
        if victim.batch_host_lives and victim.no_kill:
            _go_on_without(connection, victim, silent.names, reason)
            continue
        if victim.batch_host_lives:
            connection.execute(
                END_WITH_NODE, {"job_id": victim.job_id, "restart_count": victim.restart_count, "reason": reason}
            )
            silent.to_sync.setdefault(victim.batch_host, []).append(victim.job_id)
            continue
        ends.append(
            JobEnd(
                victim.job_id,
                victim.restart_count,
                JobState.NODE_FAIL,
                "node_fail",
                "scheduler",
                message=reason,
                requeue_if_allowed=True,
            )
        )
    _end_and_tell(connection, ends, silent.to_sync, absent=silent.names)
    return silent


def _go_on_without(connection: Connection, victim: Any, names: Collection[str], reason: str) -> None:
    """--no-kill：作业在别的节点上接着跑，只交还没了的节点。"""
    attempt = {"job_id": victim.job_id, "restart_count": victim.restart_count}
    held = connection.execute(NODES_HELD, attempt).all()
    gone = [row.node_name for row in held if row.node_name in names]
    values = shrink_values(held, gone)
    connection.execute(SHRINK, {**attempt, **values, "lost": True, "actor": "scheduler", "message": reason})


def _end_and_tell(
    connection: Connection, ends: Sequence[JobEnd], to_sync: dict[str, list[int]], absent: Collection[str] = ()
) -> None:
    """写下结束；作业还在的别的节点（absent 之外的）记进 to_sync。"""
    for ended in commit_ends(connection, ends):
        for node in hostlist.expand(ended.peers) if ended.peers else ():
            if node not in absent:
                to_sync.setdefault(node, []).append(ended.job_id)
