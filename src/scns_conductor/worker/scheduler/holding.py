"""占着节点的作业在等什么：轮流用 CPU 的何时轮到、何时让出来，借出了 CPU 的何时恢复，分到的节点何时开好。"""

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.jobs import Explained
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import RunningJob
from scns_conductor.scheduling.competitors import MOST_NAMED
from scns_conductor.scheduling.explain import Holder, holder_of
from scns_conductor.scheduling.explain_text import turns_line
from scns_conductor.scheduling.policy import Policy
from scns_conductor.worker.scheduler.explained_answer import Called, iso
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.turn_outlook import resumes_at, turns_of


def holding(connection: Connection, memory: QueueMemory, policy: Policy, job_id: int, now: float) -> Explained:
    """一个不在队列里的作业的；什么也不等的，话是空的。"""
    answer: Explained = {"reason": "None", "text": "", "suggestions": []}
    cluster = memory.cluster
    job = cluster.running.get(job_id)
    if job is None:
        answer["text"] = "调度器的队列里没有它；它刚刚启动或结束了"
        return answer
    turns = turns_of(memory, policy, job, now)
    others = _borrowers(cluster, job) if turns is None and job.lent and job.resuming else []
    holders = others if turns is None else [*turns.active, *turns.parked]
    called = Called.read(connection, {holder.job_id for holder in holders}, holders)
    names = called.names(now)
    lines: list[str] = []
    booting = [share for share in job.shares if share.node in cluster.booting]
    if booting:
        ready = job.start_time + cluster.boot_s(booting)
        lines.append(f"在等节点开机：{'、'.join(cluster.node_names(booting))}，大约 {names.when(ready)}开好")
    elif turns is not None:
        answer["time_slices"] = called.turns(turns)
        lines.append(turns_line(turns, names))
        if turns.start is not None and job.lent:
            answer["resume_time"] = iso(turns.start)
            lines.append(f"它大约 {names.when(turns.start)}接着用")
        elif turns.start is not None:
            lines.append(f"它大约 {names.when(turns.start)}停下，让给在等的")
    elif job.lent and job.resuming:
        resume = resumes_at(cluster, job, now)
        answer["resume_time"] = iso(resume)
        answer["waiting_for"] = [called.shown(holder) for holder in others]
        when = "何时恢复说不准" if resume is None else f"大约 {names.when(resume)}恢复"
        lines.append(f"它的 CPU 借给了别的作业，空出来就恢复，{when}")
        if others:
            lines.append(f"用着的：{names.holders(others)}")
    answer["text"] = "。\n".join(lines)
    return answer


def _borrowers(cluster: Cluster, job: RunningJob) -> list[Holder]:
    """在它的节点上用着 CPU 的，先结束的在前。"""
    nodes = {node for node, _ in job.lent}
    found = [
        holder_of(cluster, other)
        for other in cluster.running.values()
        if other.job_id > 0
        and other.job_id != job.job_id
        and any(share.cpus and share.node in nodes for share in other.shares)
    ]
    found.sort(key=lambda holder: (holder.end is None, holder.end or 0.0, holder.job_id))
    return found[:MOST_NAMED]
