"""时间片的预告：照此刻的样子一片一片地换下去，一个作业何时上、何时让。纯函数，只动副本。"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scns_conductor.core.array_spec import count_tasks, remove_task
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeShare, RunningJob
from scns_conductor.scheduling.plan import PlannedStart
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.preemption import Rules, holds, resumable
from scns_conductor.scheduling.queue import Queue
from scns_conductor.scheduling.started import started
from scns_conductor.scheduling.time_slices import next_turn, waiting_heads

# 至多往后看这么多片；排队的多于这么多不预告。
MOST_TURNS = 100
MOST_JOBS = 2000
# 数组的任务暂用的号从这里起：真的作业号不会这么大。
_FIRST_TASK = 2**60


@dataclass(frozen=True, slots=True)
class Schedule:
    """现在（Unix 秒）、下一次何时换、每片多久（秒）、各作业从何时起在走、在停、在等（见 next_turn）。"""

    now: float
    next_at: float
    slice_s: float
    since: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Change:
    """换到它：何时（Unix 秒），第几次换（0 是下一次），上来的用哪些份额。"""

    moment: float
    turn: int
    shares: tuple[NodeShare, ...]


def forecast(
    cluster: Cluster, queue: Queue, policy: Policy, rules: Rules | None, at: Schedule, job_id: int
) -> Change | None:
    """在等的、停着的何时上来，在走的何时停下；看不到那么远是 None。"""
    if len(queue) > MOST_JOBS:
        return None
    waiting = Queue()
    for job in queue.jobs.values():
        waiting.upsert(replace(job, tasks=None if job.tasks is None else list(job.tasks)))
    play = _Play(copy.deepcopy(cluster), waiting, policy, rules, dict(at.since))
    for held in play.cluster.running.values():
        if held.lent:
            play.left[held.job_id] = max(0.0, held.expected_end - at.since.get(held.job_id, at.now))
    for turn in range(MOST_TURNS):
        moment = at.next_at + turn * at.slice_s
        play.advance(moment)
        if job_id in play.changed:
            return Change(moment, turn, play.changed[job_id])
        if job_id not in play.cluster.running and job_id not in play.queue.jobs:
            # 照时限那时已经完了。
            return None
    return None


@dataclass(slots=True)
class _Play:
    """一片一片地走；left 是停着的还要走多少秒，changed 是最近一次里停下、上来的 -> 份额。"""

    cluster: Cluster
    queue: Queue
    policy: Policy
    rules: Rules | None
    since: dict[int, float]
    left: dict[int, float] = field(default_factory=dict)
    changed: dict[int, tuple[NodeShare, ...]] = field(default_factory=dict)
    _tasks: int = _FIRST_TASK

    def advance(self, moment: float) -> None:
        """到 moment：到了时限的走了，空出来的先给借出去的与排在前面的，再换。"""
        self.changed.clear()
        for job in list(self.cluster.running.values()):
            if job.job_id < 0 or (not job.lent and job.expected_end <= moment):
                self.cluster.release(job.job_id)
        for hold in holds(self.cluster, self.queue, self.rules):
            self.cluster.allocate(hold)
        decided = plan(self.cluster, self.queue, moment, self.policy)
        back = resumable(self.cluster, decided, self.rules)
        for job in back:
            self._resume(job, moment)
        if back:
            decided = plan(self.cluster, self.queue, moment, self.policy)
        for head in waiting_heads(self.cluster, self.queue, decided):
            self.since.setdefault(head, moment)
        turn = next_turn(self.cluster, self.queue, decided, self.policy, self.since)
        for job in turn.suspend:
            self._suspend(job, moment)
        for job in turn.resume:
            self._resume(job, moment)
        for start in (*decided.starts, *turn.starts):
            self._start(start, moment)

    def _suspend(self, job: RunningJob, moment: float) -> None:
        lent = tuple((share.node, share.cpus) for share in job.shares)
        shares = tuple(replace(share, cpus=0) for share in job.shares)
        self.left[job.job_id] = max(0.0, job.expected_end - moment)
        self.cluster.allocate(replace(job, shares=shares, lent=lent, suspended=True, resuming=True))
        self._moved(job.job_id, shares, moment)

    def _resume(self, job: RunningJob, moment: float) -> None:
        self.cluster.release(-job.job_id)
        cpus = dict(job.lent)
        shares = tuple(replace(share, cpus=cpus.get(share.node, 0)) for share in job.shares)
        end = moment + self.left.pop(job.job_id, 0.0)
        self.cluster.release(job.job_id)
        self.cluster.allocate(replace(job, shares=shares, lent=(), suspended=False, expected_end=end))
        self._moved(job.job_id, shares, moment)

    def _start(self, start: PlannedStart, moment: float) -> None:
        job_id, task_id = start.job.job_id, start.task_id
        job = self.queue.jobs[job_id]
        number = job_id
        if task_id is not None and job.tasks is not None:
            number = self._tasks = self._tasks + 1
            remove_task(job.tasks, task_id)
            self.queue.set_available(job, min(job.available - 1, count_tasks(job.tasks)))
        if task_id is None or not job.tasks:
            self.queue.remove(job_id)
        self.cluster.allocate(started(self.cluster, start, number, moment))
        self._moved(job_id, start.shares, moment)
        self.since[number] = moment

    def _moved(self, job_id: int, shares: tuple[NodeShare, ...], moment: float) -> None:
        self.changed[job_id] = shares
        self.since[job_id] = moment
