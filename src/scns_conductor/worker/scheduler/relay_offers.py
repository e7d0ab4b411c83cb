"""接力：满了的节点上短作业一个接一个，许可节点自己接下去（docs/decisions/0011-relay.md）。

单子由计划器的次序推出（scheduling/succession.py），随消息送给节点，短时间就过期；每个周期重算，变了就换掉。
它只是许可：真正的启动仍是节点写结束的那个事务，照启动的条件核对过每一个。
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.succession import Succession, heads_of, slots, succession
from scns_conductor.worker.bus import Message
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.wire.bus_messages import LaunchJobs, SuccessorOffer

# 单子这么久之后作废（秒，数据库的钟），过了一半就续；够这么久的活，至多几个。
EXPIRES_S = 0.3
MOST_JOBS = 128
# 一份份额上接下去的至多够这么久（秒）、至多几个：更急的作业至多等它们做完。整个节点上至多这么多：份额多的节点，
# 一次提交本来就带着许多作业。
CHAIN_S = 0.1
DEEPEST = 32
MOST_CHAINED = 64
# 平均运行得比这还久的（秒）没有单子：多半还没有轮到就过期了。
SHORT_S = 1.0
# 有活的节点再多就不接力：一个周期本来就带着许多作业。
MOST_NODES = 32
# 看最近几次真的运行了多久：少了忽高忽低，链跟着忽长忽短，短的时候接不上；多了，忽然变久时跟不上。
RUNS_KEPT = 32

_Share = tuple[int, int]
_Entry = tuple[int, int | None, int]


@dataclass(slots=True)
class _Sent:
    """送给一个节点的单子，什么时候（单调秒）送的。"""

    share: tuple[int, int, int]
    jobs: tuple[_Entry, ...]
    at: float


@dataclass(slots=True)
class RelayOffers:
    """enabled 来自设置。"""

    enabled: bool
    # 各种份额最近几次运行了多少秒。
    _runs: dict[_Share, deque[float]] = field(default_factory=dict)
    _sent: dict[str, _Sent] = field(default_factory=dict)

    def forget(self) -> None:
        """换了任期或重装了记忆：送过的不作数。"""
        self._sent.clear()

    def ended(self, memory: QueueMemory, job_ids: Sequence[int], ran_ms: Sequence[int | None]) -> None:
        """这些作业结束了，各运行了多少毫秒；要在记忆忘掉它们之前。"""
        for job_id, ran in zip(job_ids, ran_ms, strict=False):
            job = memory.cluster.running.get(job_id)
            shares = memory.chains.wanted(job_id) or (job.shares if job is not None else ())
            if ran is None or len(shares) != 1:
                continue
            if len(self._runs) > 1000:
                self._runs.clear()
            share = (shares[0].cpus, shares[0].memory)
            self._runs.setdefault(share, deque(maxlen=RUNS_KEPT)).append(ran / 1000)

    def messages(self, memory: QueueMemory, epoch: int, now: float, *, quiet: bool) -> dict[str, list[Message]]:
        """变了的单子，节点 -> 消息；now 是数据库的 Unix 秒。quiet 为假（有行锁着）时一律撤回。"""
        found: dict[str, list[Message]] = {}
        if not self.enabled or not (self._runs or self._sent):
            return found
        cluster, at = memory.cluster, time.monotonic()
        busy = [node for node in range(cluster.count) if cluster.node_rows[node]] if quiet else []
        # 借出了 CPU 的（挂起的）在等空出来的：不给别人。
        awaited = memory.preempt_rules is not None or memory.takes_turns or bool(cluster.scopes)
        awaited = awaited or any(job.lent for job in cluster.running.values())
        if len(busy) > MOST_NODES or awaited or not memory.queue.groups:
            busy = []
        wanted: dict[str, Succession] = {}
        heads = heads_of(cluster, memory.queue) if busy else []
        for node in busy:
            heirs = succession(
                cluster,
                heads,
                node,
                most=lambda share, node=node: self._most(memory, node, share),  # type: ignore[misc]
                tasks_left=lambda job: memory.tasks_left(job.job_id),
                barred=lambda job: _barred(memory, job),
            )
            if heirs is not None:
                wanted[cluster.names[node]] = heirs
        for name in [*self._sent, *(name for name in wanted if name not in self._sent)]:
            heirs, sent = wanted.get(name), self._sent.get(name)
            if heirs is None:
                assert sent is not None
                del self._sent[name]
                if at - sent.at < EXPIRES_S:
                    found[name] = [_message(epoch, 0.0, sent.share, ())]
                continue
            jobs = tuple((job.job_id, task_id, job.revision) for job, task_id in heirs.jobs)
            share = (heirs.share[0], heirs.share[1])
            if sent is None or not _still_good(sent, heirs.share, jobs, at):
                self._sent[name] = _Sent(heirs.share, jobs, at)
                depth = self._depth(memory, cluster.index[name], share)
                found[name] = [_message(epoch, now + EXPIRES_S, heirs.share, jobs, depth)]
        return found

    def _most(self, memory: QueueMemory, node: int, share: _Share) -> int:
        """单子有效的那段时间里做得完的，短作业至少每份一个；按这种份额最近几次运行的平均，没有跑过的是 0。"""
        each_s = self._each_s(share)
        if each_s is None or each_s > SHORT_S:
            return 0
        return min(MOST_JOBS, int(slots(memory.cluster, node, share) * max(1.0, EXPIRES_S / each_s)))

    def _depth(self, memory: QueueMemory, node: int, share: _Share) -> int:
        """一份份额上至多接几个。"""
        each_s = self._each_s(share)
        if each_s is None:
            return 1
        return max(1, min(DEEPEST, int(CHAIN_S / each_s), MOST_CHAINED // max(1, slots(memory.cluster, node, share))))

    def _each_s(self, share: _Share) -> float | None:
        """这种份额最近几次平均运行几秒；没有跑过的是 None。"""
        runs = self._runs.get(share)
        return max(sum(runs) / len(runs), 0.001) if runs else None


def _still_good(sent: _Sent, share: tuple[int, int, int], jobs: tuple[_Entry, ...], at: float) -> bool:
    """送过的去掉已经启动的就是现在的开头，还剩一半，也没有快过期：不必再送。"""
    if sent.share != share or at - sent.at > EXPIRES_S / 2:
        return False
    try:
        started = sent.jobs.index(jobs[0])
    except ValueError:
        return False
    left = sent.jobs[started:]
    return left == jobs[: len(left)] and 2 * len(left) >= len(jobs)


def _barred(memory: QueueMemory, job: PendingJob) -> bool:
    """有依赖、期限、数组的 %、列了几个分区的不接力。"""
    waiting = memory.waiting.get(job.job_id)
    return (
        waiting is None
        or waiting.dependency is not None
        or waiting.request.deadline is not None
        or waiting.array_limit != 0
        or len(waiting.request.partitions) != 1
        or waiting.switches_until is not None
    )


def _message(
    epoch: int, expires: float, share: tuple[int, int, int], jobs: Sequence[_Entry], depth: int = 1
) -> Message:
    """没有要启动的，只有接下来的。旧的代理不认得 successors，略过。"""
    cpus, memory, tasks = share
    entries = [list(job) for job in jobs]
    offer = SuccessorOffer(
        epoch=epoch, expires=expires, cpus=cpus, memory=memory, tasks=tasks, jobs=entries, depth=depth
    )
    return Message.of(LaunchJobs(job_ids=[], successors=offer), "launch")
