"""增量的计划与从头的计划一样：随机的事件（提交、结束、取消、保留、时间过去），每一步都对照。"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, RunningJob
from scns_conductor.scheduling.plan import Plan, PlannedStart
from scns_conductor.scheduling.planner import Planner, plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape, compound

NOW = 1000.0
SHAPES = [
    Shape(maximum_nodes=1),
    Shape(cpus_per_task=2, memory_per_node=30),
    Shape(cpus_per_task=3),
    Shape(cpus_per_task=4, memory_per_cpu=10),
    Shape(cpus_per_task=2, gres_per_node=(("gpu", 1),)),
    Shape(tasks=4, minimum_nodes=2, maximum_nodes=2),
    Shape(tasks=6),
    Shape(exclusive=True),
    Shape(cpus_per_task=2, pools=(("license:matlab", 1),)),
    Shape(pools=(("qos:jobs", 1),)),
    Shape(cpus_per_task=9),
    Shape(tasks=2, minimum_nodes=2, pools=(("license:matlab", 1),)),
    Shape(cpus_per_task=2, pools=(("license:matlab", 2), ("qos:jobs", 1))),
    Shape(cpus_per_task=2, time_minimum_s=5.0),
    Shape(memory_per_node=0),
    Shape(cpus_per_task=2, gres_per_node=(("gpu", 2),), gres_per_job=(("gpu", 2),)),
    compound([Shape(cpus_per_task=3), Shape(cpus_per_task=2, gres_per_node=(("gpu", 1),))]),
    compound([Shape(tasks=2, minimum_nodes=2), Shape(exclusive=True), Shape(pools=(("license:matlab", 1),))]),
]
SIMPLE = SHAPES[:4]
POOLS = [("qos:jobs", "QOSGrpJobsLimit"), ("license:matlab", "Licenses")]
LIMITS = [10.0, 25.0, 60.0, float("inf")]
POLICIES = [
    Policy(Backfill.EASY, 1),
    Policy(Backfill.EASY, 3),
    Policy(Backfill.CONSERVATIVE, 1000),
    Policy(Backfill.EASY, 1, shortest_first=True),
]
# 预测的运行时间，只对 shortest_first 有意义。
PREDICTED = [2.0, None, 1.0, 7.0, 3.0]
SUBMIT = st.tuples(st.just("submit"), st.integers(0, len(SHAPES) - 1), st.integers(0, 3), st.integers(1, 3))
OTHER = st.tuples(
    st.sampled_from(["end", "end", "end", "cancel", "hold", "release", "wait", "overrun", "ending", "pool"]),
    st.integers(0, 9),
    st.integers(1, 30),
    st.just(0),
)
EVENTS = st.lists(st.one_of(SUBMIT, OTHER), min_size=4, max_size=40)


class World:
    """一个小集群与队列；事件照真的调度器那样改它们，计划的结果照真的那样记下。"""

    def __init__(self, nodes: int, shapes: list[Shape], limits: list[float], *, predicted: bool = False) -> None:
        self.predicted = predicted
        self.cluster, self.queue, self.now = Cluster(), Queue(), NOW
        self.shapes, self.limits = shapes, limits
        for number in range(nodes):
            gres = {"gpu": 2} if number == 0 else {}
            self.cluster.upsert_node(NodeFacts(f"n{number}", 4 + 2 * (number % 2), 100, gres, weight=1 + number // 2))
        for name, reason in POOLS:
            self.cluster.set_pool(name, 2, reason)
        self.next_id = 1

    def apply(self, event: tuple[str, int, int, int]) -> None:
        kind, which, amount, count = event
        running = sorted(self.cluster.running)
        waiting = sorted(self.queue.jobs)
        match kind:
            case "submit":
                tasks = [TaskRange(0, count)] if count > 2 else None
                shape = self.shapes[which % len(self.shapes)]
                if self.predicted:
                    shape = replace(shape, predicted_s=PREDICTED[(which * 3 + amount + count) % len(PREDICTED)])
                self.queue.upsert(
                    PendingJob(
                        self.next_id,
                        shape,
                        self.limits[amount % len(self.limits)],
                        priority=float(count == 2),
                        # 有些能抢占别人：排在最前。
                        precedence=int((which + amount) % 5 == 0),
                        tasks=tasks,
                        available=2 if tasks is not None else 1,
                    )
                )
                self.next_id += 1
            case "end" if running:
                self.cluster.release(running[which % len(running)])
            case "cancel" if waiting:
                self.queue.remove(waiting[which % len(waiting)])
            case "hold" if waiting:
                self.queue.judge(self.queue.jobs[waiting[which % len(waiting)]], "JobHeldUser")
            case "release" if waiting:
                self.queue.judge(self.queue.jobs[waiting[which % len(waiting)]], None)
            case "ending" if running:
                job = self.cluster.running[running[which % len(running)]]
                end = min(job.expected_end, self.now + amount / 2)
                self.cluster.allocate(replace(job, ending=True, expected_end=end))
            case "pool":
                name, reason = POOLS[which % 2]
                self.cluster.set_pool(name, amount % 4, reason)
            case "wait":
                # 时间过去，到了时刻的准时结束。
                self.now += amount
                for number in running:
                    if self.cluster.running[number].expected_end <= self.now:
                        self.cluster.release(number)
            case "overrun":
                self.now += amount

    def commit(self, decided: Plan) -> None:
        for start in decided.starts:
            job = start.job
            number = job.job_id
            if start.task_id is not None:
                self.next_id += 1
                number = 100_000 + self.next_id
                assert job.tasks is not None
                job.tasks = [
                    TaskRange(task, task + 1)
                    for span in job.tasks
                    for task in range(span.lower, span.upper)
                    if task != start.task_id
                ]
                left = len(job.tasks)
                if left:
                    self.queue.set_available(job, min(left, job.available - 1))
                else:
                    self.queue.remove(job.job_id)
            else:
                self.queue.remove(number)
            end = self.now + start.limit_s
            self.cluster.allocate(RunningJob(number, end, start.shares, pools=job.shape.pools))


def summary(decided: Plan) -> dict[str, Any]:
    return {
        "starts": sorted((start.job.job_id, start.task_id or 0) for start in decided.starts),
        "reservations": [(kept.job.job_id, kept.start_time) for kept in decided.reservations],
        # 用到池的，原因（缺上限还是缺资源）要看同一遍里谁先占去，不比。
        "blocked": {key: None if key[0].pools else reason for key, reason in decided.blocked.items()},
        "impossible": set(decided.impossible),
    }


def fits_everywhere(world: World, decided: Plan) -> bool:
    """运行中的、启动的、保留的加在一起，任何时刻都不超过总量。"""
    spans = [(world.now, max(job.expected_end, world.now + 1), job.shares) for job in world.cluster.running.values()]
    spans += [(world.now, world.now + start.limit_s, start.shares) for start in decided.starts]
    spans += [(kept.start_time, kept.start_time + kept.job.time_limit_s, kept.shares) for kept in decided.reservations]
    for moment in {begin for begin, _, _ in spans}:
        left = world.cluster.total[: world.cluster.count].copy()
        for begin, end, shares in spans:
            if begin <= moment < end:
                for share in shares:
                    left[share.node] -= world.cluster.share_vector(share)
        if (left < 0).any():
            return False
    return True


def fate_of_the_head(world: World, decided: Plan) -> tuple[str, float] | None:
    """次序最前的作业：现在启动、将来启动，或说不准；它不受别人放在哪里的影响。"""
    waiting = [job for job in world.queue.jobs.values() if job.startable and key_of(job) not in decided.impossible]
    if not waiting:
        return None
    head = min(waiting, key=lambda job: job.key)
    if any(start.job is head for start in decided.starts):
        return ("start", world.now)
    return next((("later", kept.start_time) for kept in decided.reservations if kept.job is head), ("unknown", 0.0))


def key_of(job: PendingJob) -> tuple[Shape, float]:
    return (job.shape, job.time_limit_s)


def left_behind(world: World, decided: Plan) -> list[int]:
    """裁判：没有启动也没有保留、加上它也处处放得下的单节点作业。"""
    moved = {start.job.job_id for start in decided.starts} | {kept.job.job_id for kept in decided.reservations}
    found = []
    for job in world.queue.jobs.values():
        if not job.startable or job.job_id in moved or replace(job.shape, predicted_s=None) not in SIMPLE:
            continue
        memory = job.shape.memory_per_node or (job.shape.memory_per_cpu or 0) * job.shape.cpus_per_task
        for node in range(world.cluster.count):
            trial = Plan(world.now, reservations=decided.reservations)
            for start in decided.starts:
                trial.starts.add(start)
            trial.starts.add(PlannedStart(job, None, (NodeShare(node, job.shape.cpus_per_task, memory),)))
            if fits_everywhere(world, trial):
                found.append(job.job_id)
    return found


def every_plan_is_as_from_scratch(world, events, policy):
    planner = Planner(policy)
    for event in events:
        world.apply(event)
        fresh = plan(world.cluster, world.queue, world.now, policy)
        resumed = planner.plan(world.cluster, world.queue, world.now)
        assert summary(resumed) == summary(fresh)
        world.commit(resumed)


@pytest.mark.parametrize("policy", POLICIES)
@given(events=EVENTS)
# 每次同样的例子：CI 可重复；更多的随机例子去掉 derandomize 就是。
@settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_on_one_node_the_plan_is_the_same_as_from_scratch(policy, events):
    """一个节点没有放在哪里的选择：都有时限时，启动、保留、受阻都一样。"""
    every_plan_is_as_from_scratch(
        World(1, SHAPES[:5] + SHAPES[7:], LIMITS[:3], predicted=policy.shortest_first), events, policy
    )


@pytest.mark.parametrize("policy", POLICIES)
@given(events=EVENTS, nodes=st.integers(2, 4))
# 每次同样的例子：CI 可重复；更多的随机例子去掉 derandomize 就是。
@settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_exceeded_nothing_is_left_behind_and_the_head_fares_the_same(policy, events, nodes):
    """几个节点上放在哪里可以不同：不超过总量，队首的命运一样，也没有谁本可以启动却没有启动。"""
    world, planner = World(nodes, SHAPES, LIMITS, predicted=policy.shortest_first), Planner(policy)
    for event in events:
        world.apply(event)
        fresh = plan(world.cluster, world.queue, world.now, policy)
        resumed = planner.plan(world.cluster, world.queue, world.now)
        assert fits_everywhere(world, fresh)
        assert fits_everywhere(world, resumed)
        assert fate_of_the_head(world, resumed) == fate_of_the_head(world, fresh)
        assert left_behind(world, fresh) == []
        assert left_behind(world, resumed) == []
        world.commit(resumed)


@given(
    running=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 90)), min_size=6, max_size=12),
    small=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 80), st.integers(0, 40)), min_size=4, max_size=20),
    depth=st.integers(1, 2),
    ends=st.lists(st.integers(0, 11), min_size=1, max_size=8),
)
@settings(derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_few_ended_jobs_leave_goes_to_the_same_small_jobs(running, small, depth, ends):
    """名额给了要整个节点的；许多形状的小作业抢一个个空出来的 CPU：先启动的占了，余下的看过就算。"""
    cluster, queue, policy = Cluster(), Queue(), Policy(Backfill.EASY, depth)
    cluster.upsert_node(NodeFacts("n0", 12, 100))
    for number, (cpus, left_s) in enumerate(running):
        cpus = min(cpus, int(cluster.free[0, 0]))
        if cpus:
            cluster.allocate(RunningJob(1000 + number, NOW + left_s, (NodeShare(0, cpus, 0),)))
    for number in range(depth):
        queue.upsert(PendingJob(number + 1, Shape(cpus_per_task=12), 50.0 + number, priority=9.0))
    for number, (cpus, limit_s, memory) in enumerate(small, 10):
        shape = Shape(cpus_per_task=cpus, memory_per_node=memory or None)
        queue.upsert(PendingJob(number, shape, float(limit_s), priority=float(number % 3)))
    planner = Planner(policy)
    for now, which in enumerate([None, *ends]):
        mine = sorted(cluster.running)
        if which is not None and mine:
            cluster.release(mine[which % len(mine)])
        fresh = plan(cluster, queue, NOW + now, policy)
        resumed = planner.plan(cluster, queue, NOW + now)
        assert summary(resumed) == summary(fresh)
        for start in resumed.starts:
            queue.remove(start.job.job_id)
            cluster.allocate(RunningJob(start.job.job_id, NOW + now + start.limit_s, start.shares))


@pytest.mark.parametrize(
    ("depth", "events"),
    [
        pytest.param(
            3,
            [("submit", 8, 0, 1), ("submit", 12, 2, 2), ("pool", 3, 21, 0)],
            id="许可证的总数少了：保留要重新算",
        ),
        pytest.param(
            3,
            [("submit", 0, 0, 3), ("submit", 11, 2, 1), ("pool", 1, 4, 0), ("submit", 11, 2, 1), ("end", 0, 1, 0)],
            id="永远放不下的，许可证不够时也说放不下",
        ),
        pytest.param(
            2,
            [
                ("submit", 2, 2, 2),
                ("submit", 9, 1, 2),
                ("submit", 1, 0, 3),
                ("submit", 12, 2, 1),
                ("end", 3, 29, 0),
                ("submit", 1, 1, 1),
                ("pool", 7, 4, 0),
                ("submit", 1, 2, 2),
                ("end", 4, 5, 0),
            ],
            id="空出来的名额不给说不准何时的：轮到下一个",
        ),
        pytest.param(
            3,
            [("submit", 2, 2, 1), ("submit", 1, 1, 1), ("ending", 0, 17, 0), ("overrun", 2, 8, 0)],
            id="不到一秒就到的保留与从头一样算",
        ),
    ],
)
def test_found_by_chance_on_one_node(depth: int, events: list[tuple[str, int, int, int]]) -> None:
    every_plan_is_as_from_scratch(World(1, SHAPES, LIMITS[:3]), events, Policy(Backfill.EASY, depth))


def test_a_license_kept_for_a_job_that_left_starts_the_next() -> None:
    """为它留着许可证的作业走了：等这个许可证的别的作业现在就启动，不是又一个保留。"""
    world, planner = World(2, SHAPES, LIMITS), Planner(Policy())
    for event in (("submit", 11, 1, 1), ("submit", 12, 3, 1), ("submit", 8, 3, 1), ("submit", 6, 0, 1)):
        world.apply(event)
        world.commit(planner.plan(world.cluster, world.queue, world.now))
    waiting = sorted(world.queue.jobs)
    assert waiting[:2] == [2, 3]
    world.queue.remove(2)
    decided = planner.plan(world.cluster, world.queue, world.now)
    assert [start.job.job_id for start in decided.starts] == [3]


def test_a_limit_comes_before_the_licenses() -> None:
    """上限与许可证都不够：只是等上限，不占保留。"""
    world = World(1, SHAPES, LIMITS)
    for number in (0, 1):
        world.apply(("pool", number, 4, 0))
    world.apply(("submit", 12, 0, 1))
    decided = plan(world.cluster, world.queue, world.now, Policy())
    assert list(decided.blocked.values()) == ["QOSGrpJobsLimit"]
    assert decided.reservations == []
