"""抢占的选择：与逐个子集试的裁判对照。"""

from collections.abc import Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.accounting import QosFacts
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.preemption import Rules, precedence, preempt
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1000.0
PARTITIONS = (
    PartitionFacts("low", tier=1),
    PartitionFacts("middle", tier=2),
    PartitionFacts("high", tier=3),
    PartitionFacts("safe", tier=1, preempt_mode="off"),
)
TIERS = {partition.name: partition.tier for partition in PARTITIONS}
RUNNING = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(sorted(TIERS)), st.booleans()), max_size=7
)
JOB = st.tuples(st.integers(1, 6), st.integers(1, 2), st.sampled_from(["middle", "high", "low"]))


def build(running: Sequence[tuple[int, int, str, bool]]) -> Cluster:
    cluster = Cluster()
    cluster.set_partitions(PARTITIONS)
    for name in ("a", "b", "c"):
        cluster.upsert_node(NodeFacts(name, 4, 100))
    for number, (node, cpus, partition, ending) in enumerate(running):
        cpus = min(cpus, int(cluster.free[node, 0]))
        if cpus:
            shares = (NodeShare(node, cpus, 0),)
            cluster.allocate(RunningJob(100 + number, NOW + 500, shares, partition, ending=ending))
    return cluster


def fits_without(cluster: Cluster, shape: Shape, victims: Sequence[RunningJob]) -> bool:
    free = cluster.free[: cluster.count].copy()
    for job in victims:
        for share in job.shares:
            free[share.node] += cluster.share_vector(share)
    return place(cluster, shape, free, Placement.BEST_FIT) is not None


@given(RUNNING, JOB, st.sampled_from([Backfill.EASY, Backfill.NONE]))
def test_one_preemptor_against_every_subset(
    running: list[tuple[int, int, str, bool]], wanted: tuple[int, int, str], backfill: Backfill
) -> None:
    cluster, queue, policy = build(running), Queue(), Policy(backfill)
    tasks, nodes, partition = wanted
    shape = Shape(tasks=max(tasks, nodes), minimum_nodes=nodes, maximum_nodes=nodes, partition=partition)
    queue.upsert(PendingJob(1, shape, 50.0, tier=TIERS[partition]))
    decided = plan(cluster, queue, NOW, policy)
    found = preempt(cluster, queue, decided, policy, Rules())
    ending = [job for job in cluster.running.values() if job.ending]
    allowed = [
        job
        for job in cluster.running.values()
        if not job.ending and job.partition != "safe" and TIERS[job.partition] < TIERS[partition]
    ]
    possible = [
        subset
        for size in range(len(allowed) + 1)
        for subset in combinations(allowed, size)
        if fits_without(cluster, shape, [*ending, *subset])
    ]
    if decided.starts or not possible or not possible[0]:
        assert found == []
        return
    (chosen,) = found
    assert set(chosen.victims) <= set(allowed)
    assert fits_without(cluster, shape, [*ending, *chosen.victims])
    for victim in chosen.victims:
        rest = [job for job in chosen.victims if job is not victim]
        assert not fits_without(cluster, shape, [*ending, *rest]), "多抢了一个"


def test_the_youngest_of_the_lowest_tier_goes_first_and_two_preemptors_do_not_share_a_victim() -> None:
    cluster = build([(0, 3, "middle", False), (1, 3, "low", False), (2, 3, "low", False)])
    queue, policy = Queue(), Policy()
    for number in (1, 2):
        queue.upsert(PendingJob(number, Shape(tasks=4, maximum_nodes=1, partition="high"), 50.0 * number, tier=3))
    found = preempt(cluster, queue, plan(cluster, queue, NOW, policy), policy, Rules())
    assert [[victim.job_id for victim in each.victims] for each in found] == [[102], [101]]


def test_nothing_is_preempted_when_the_default_mode_is_off() -> None:
    cluster = build([(node, 3, "low", False) for node in range(3)])
    queue, policy = Queue(), Policy()
    queue.upsert(PendingJob(1, Shape(tasks=4, maximum_nodes=1, partition="high"), 50.0, tier=3))
    assert preempt(cluster, queue, plan(cluster, queue, NOW, policy), policy, Rules(default_mode="off")) == []


def test_who_can_preempt_is_always_ahead_of_whom_it_preempts() -> None:
    """被抢占而重新排队的，提交得再早也不排在抢占者前面：否则空出来的又是它先启动。"""
    relation = {"lent": [], "soft": [], "middle": ["lent", "soft"], "urgent": ["soft", "middle", "gone"], "apart": []}
    heights = precedence({name: QosFacts(name=name, preempt=frozenset(others)) for name, others in relation.items()})
    assert heights == {"lent": 0, "soft": 0, "apart": 0, "middle": 1, "urgent": 2}
    victim = PendingJob(1, Shape(qos="soft"), 50.0, precedence=heights["soft"], tier=9, priority=1e9)
    preemptor = PendingJob(2, Shape(qos="middle"), 50.0, precedence=heights["middle"])
    assert preemptor.key < victim.key


def test_qos_that_preempt_each_other_rank_alike() -> None:
    relation = {"a": "b", "b": "a"}
    heights = precedence({name: QosFacts(name=name, preempt=frozenset(other)) for name, other in relation.items()})
    assert heights["a"] == heights["b"]


def within(mode: str | None = None, *, everywhere: bool = False) -> Rules:
    return Rules(True, within=everywhere, qos={"same": QosFacts(name="same", preempt_mode=mode)})


def test_within_one_qos_only_the_higher_priority_preempts() -> None:
    cluster = build([])
    cluster.allocate(RunningJob(7, NOW + 500, (NodeShare(0, 4, 0),), "low", qos="same", priority=10.0))
    (victim,) = cluster.running.values()

    def may(rules: Rules, priority: float) -> bool:
        job = PendingJob(1, Shape(qos="same", partition="low"), 50.0, priority=priority)
        return rules.outranks(cluster, job, victim)

    for rules in (within("within"), within("suspend,within"), within(everywhere=True)):
        assert may(rules, 11.0)
        # 一样高的不行：不然没完没了。
        assert not may(rules, 10.0)
    assert not may(within("suspend"), 11.0)
    assert within("suspend,within").mode(cluster, victim) == "suspend"
    assert within("within").mode(cluster, victim) == "requeue"


def test_the_exempt_time_of_the_qos_then_the_partition_then_all() -> None:
    cluster = Cluster()
    cluster.set_partitions([PartitionFacts("own", preempt_exempt_time=60), PartitionFacts("none")])
    qos = {"long": QosFacts(name="long", preempt_exempt_time=600), "plain": QosFacts(name="plain")}
    rules = Rules(True, exempt_s=5.0, qos=qos)

    def exempt(partition: str, name: str | None) -> float:
        return rules.exempt_until(cluster, RunningJob(1, NOW, (), partition, qos=name, start_time=NOW)) - NOW

    assert [exempt("own", "long"), exempt("own", "plain"), exempt("none", "plain"), exempt("own", None)] == [
        600, 60, 5, 60,
    ]  # fmt: skip


def together(mode: str | None, *running: tuple[str, int, str | None], alone: bool = True) -> list[int]:
    """一个四核的节点上，high 的用户 b（alone 是要独占的）抢 low 的：(用户, CPU, 独占给谁)；返回让出来的作业号。"""
    cluster, queue, policy = Cluster(), Queue(), Policy(Backfill.EASY)
    cluster.set_partitions([PartitionFacts("low", tier=1, preempt_mode=mode), PartitionFacts("high", tier=3)])
    cluster.upsert_node(NodeFacts("a", 4, 100))
    cluster.scopes |= {"user:b", *(scope for _, _, scope in running if scope)}
    for number, (user, cpus, scope) in enumerate(running):
        shares = (NodeShare(0, cpus, 0),)
        cluster.allocate(
            RunningJob(100 + number, NOW + 500, shares, "low", owners=(f"user:{user}",), exclusive_to=scope)
        )
    shape = Shape(partition="high", owners=("user:b",), exclusive_to="user:b" if alone else None)
    queue.upsert(PendingJob(1, shape, 50.0, tier=3))
    decided = plan(cluster, queue, NOW, policy)
    assert not decided.starts
    found = preempt(cluster, queue, decided, policy, Rules())
    return sorted(victim.job_id for each in found for victim in each.victims)


def test_jobs_that_keep_others_off_are_preempted_though_the_cpus_would_do() -> None:
    # 要独占的：别人都要走，自己人留着。
    assert together(None, ("a", 1, None), ("b", 1, None), ("c", 1, None)) == [100, 102]
    # 被人独占着的：独占的那个走。
    assert together(None, ("a", 1, "user:a"), ("a", 1, "user:a"), alone=False) == [100, 101]
    # 挂起的还在节点上：抢了也没有用，就不抢。
    assert together("suspend", ("a", 1, None)) == []
