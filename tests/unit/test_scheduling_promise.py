"""“至迟”是诺言：作业提前结束、计划一变再变，说过的时刻也不会超过。"""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, RunningJob
from scns_conductor.scheduling.explain import Explanation, Gate, Holder, PoolDate, explain
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

LIMITS = [10.0, 25.0, 60.0]
SHAPES = [
    Shape(),
    Shape(cpus_per_task=2),
    Shape(cpus_per_task=3),
    Shape(cpus_per_task=4),
    Shape(cpus_per_task=2, required_nodes=("n1",)),
    Shape(tasks=2, minimum_nodes=2, maximum_nodes=2, cpus_per_task=2),
    Shape(exclusive=True),
    Shape(cpus_per_task=2, pools=(("qos:jobs", 1),)),
    Shape(cpus_per_task=2, pools=(("license:matlab", 1),)),
]
ARRAY_LIMIT = 2


class Life:
    """一个小集群的一生：先提交先排，作业常常提前结束；每一遍都问每个在等的，记下说过的“至迟”。"""

    def __init__(self, seed: int, nodes: int, shapes: list[Shape], depth: int) -> None:
        self.random = random.Random(seed)
        self.cluster, self.queue, self.now = Cluster(), Queue(), 0.0
        for number in range(nodes):
            self.cluster.upsert_node(NodeFacts(f"n{number}", 4 + 2 * (number % 2), 100, {}))
        self.cluster.set_pool("qos:jobs", 2, "QOSGrpJobsLimit")
        self.cluster.set_pool("license:matlab", 1, "Licenses")
        self.planner = Planner(Policy(Backfill.EASY, depth))
        self.shapes = shapes
        self.ends: dict[int, float] = {}
        self.begins: dict[int, float] = {}
        self.arrays: dict[int, int] = {}
        self.promised: dict[int, float] = {}
        self.asked = self.firm = 0

    def submit(self, number: int) -> None:
        shape = self.random.choice(self.shapes)
        if shape.minimum_nodes > self.cluster.count or any(
            name not in self.cluster.index for name in shape.required_nodes
        ):
            return
        job = PendingJob(number, shape, self.random.choice(LIMITS), order=number)
        kind = self.random.random()
        if kind < 0.1:
            job.reason, self.begins[number] = "BeginTime", self.now + self.random.choice(LIMITS)
        elif kind < 0.2 and not shape.pools:
            job.tasks, job.available = [TaskRange(0, 4)], ARRAY_LIMIT
        self.queue.upsert(job)

    def plan(self) -> None:
        for number, begin in list(self.begins.items()):
            if begin <= self.now:
                del self.begins[number]
                self.queue.judge(self.queue.jobs[number], None)
        for start in self.planner.plan(self.cluster, self.queue, self.now).starts:
            job = start.job
            number = job.job_id if start.task_id is None else 1000 * job.job_id + start.task_id
            limit = self.promised.pop(job.job_id, math.inf)
            assert self.now <= limit + 1.5, f"{job.job_id} 说好了至迟 {limit}，{self.now} 才开始"
            if start.task_id is None:
                self.queue.remove(job.job_id)
            else:
                self.arrays[number] = job.job_id
                assert job.tasks is not None
                job.tasks = [TaskRange(job.tasks[0].lower + 1, job.tasks[0].upper)]
                if job.tasks[0].lower == job.tasks[0].upper:
                    self.queue.remove(job.job_id)
                else:
                    self._limit(job.job_id)
            self.cluster.allocate(RunningJob(number, self.now + job.time_limit_s, start.shares, pools=job.shape.pools))
            early = self.random.random() if self.random.random() < 0.6 else 1.0
            self.ends[number] = self.now + job.time_limit_s * early

    def _limit(self, array: int) -> None:
        job = self.queue.jobs.get(array)
        if job is not None and job.tasks is not None:
            room = ARRAY_LIMIT - sum(owner == array for owner in self.arrays.values())
            self.queue.set_available(job, min(room, job.tasks[0].upper - job.tasks[0].lower))

    def why(self, job: PendingJob) -> Explanation:
        gate = None
        if job.reason is not None:
            gate = Gate(job.reason, (), self.begins[job.job_id])
        elif job.available <= 0:
            own = [number for number, owner in self.arrays.items() if owner == job.job_id]
            ends = [self.cluster.running[number].expected_end for number in own]
            gate = Gate("JobArrayTaskLimit", (), min(ends), tuple(Holder(number, None) for number in own))
        outlook = Outlook(self.cluster, self.queue, job, self.now, self.planner.policy)
        return explain(outlook, self.queue, job, gate=gate, pool_dates=self._pool_date)

    def _pool_date(self, name: str, need: int, before: list[tuple[int, float]]) -> PoolDate:
        ends = sorted(job.expected_end for job in self.cluster.running.values() if dict(job.pools).get(name))
        for _, limit in before:
            ends = sorted([*ends[1:], ends[0] + limit])
        return PoolDate(ends[0])

    def ask(self) -> None:
        for job in list(self.queue.jobs.values()):
            found = self.why(job)
            self.asked += 1
            if found.firm and found.expected_start is not None and not found.fits_now:
                self.firm += 1
                self.promised[job.job_id] = min(found.expected_start, self.promised.get(job.job_id, math.inf))

    def live(self, jobs: int) -> None:
        number = 1
        while number <= jobs or self.queue.jobs or self.ends:
            for _ in range(self.random.randint(0, 4)):
                if number <= jobs:
                    self.submit(number)
                    number += 1
            self.plan()
            self.ask()
            moments = [*self.ends.values(), *self.begins.values()]
            if self.random.random() < 0.2 or not moments:
                moments.append(self.now + self.random.random() * 5)
            self.now = max(self.now, min(moments))
            for done in [number for number, end in self.ends.items() if end <= self.now]:
                self.cluster.release(done)
                del self.ends[done]
                array = self.arrays.pop(done, None)
                if array is not None:
                    self._limit(array)


@given(
    st.integers(0, 10**9),
    st.integers(1, 4),
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4),
    st.sampled_from([1, 3, 100]),
)
def test_what_was_said_to_be_the_latest_is_never_exceeded(
    seed: int, nodes: int, shapes: list[Shape], depth: int
) -> None:
    life = Life(seed, nodes, shapes, depth)
    life.live(15)
