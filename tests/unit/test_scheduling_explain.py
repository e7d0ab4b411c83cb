"""解释与建议：说得立即开始的改法，真的改了就立即开始；说的数是能立即开始的最大值。"""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.models import JobSpec
from scns_conductor.scheduling.advance import AdvanceReservation
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.explain import Explanation, explain
from scns_conductor.scheduling.explain_text import Names, render
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import Defaults, shape_of
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.scheduling.suggestions import LEAST_SLACK_S, Situation, Suggestion, suggestions

NOW = 1_000_000.0
POLICY = Policy(Backfill.EASY, depth=100)
_DEFAULTS = {name: field.get_default(call_default_factory=True) for name, field in JobSpec.model_fields.items()}


class Yard:
    """一个小集群和它的队列；作业用 jobs 的列说。"""

    def __init__(self, nodes: int = 1, cpus: int = 4, memory: int = 4096) -> None:
        self.cluster, self.queue = Cluster(), Queue()
        for number in range(nodes):
            self.cluster.upsert_node(NodeFacts(f"n{number}", cpus, memory, features=frozenset({f"f{number}"})))
        self.cluster.set_partitions([PartitionFacts("main")])
        self.rows: dict[int, dict[str, Any]] = {}

    def run(self, job_id: int, node: int, cpus: int, end_s: float, memory: int = 0, **pools: int) -> None:
        shares = (NodeShare(node, cpus, memory),)
        named = tuple((LICENSE + name, count) for name, count in pools.items())
        self.cluster.allocate(RunningJob(job_id, NOW + end_s, shares, "main", named))

    def wait(self, job_id: int, **columns: Any) -> PendingJob:
        row = {**_DEFAULTS, "partition": "main", "time_limit": 3600, **columns}
        if "tasks" not in columns:
            row["tasks"] = row["minimum_nodes"]
        self.rows[job_id] = row
        job = self.job(job_id, row)
        self.queue.upsert(job)
        return job

    def job(self, job_id: int, row: Mapping[str, Any]) -> PendingJob:
        limit = math.inf if row["time_limit"] is None else float(row["time_limit"])
        return PendingJob(job_id, shape_of(row, Defaults()), limit, order=job_id)

    def why(self, job_id: int) -> Explanation:
        job = self.queue.jobs[job_id]
        outlook = Outlook(self.cluster, self.queue, job, NOW, POLICY)

        def build(columns: Mapping[str, Any]) -> tuple[Shape, float, Outlook] | None:
            changed = self.job(job_id, {**self.rows[job_id], **columns})
            return None if impossible(self.cluster, changed.shape) else (changed.shape, changed.time_limit_s, outlook)

        found = explain(outlook, self.queue, job)
        current = math.inf if found.expected_start is None else found.expected_start
        found.suggestions = suggestions(self.rows[job_id], build, [], Situation(NOW, current))
        return found


def suggested(found: Explanation, field: str) -> Suggestion:
    return next(item for item in found.suggestions if field in item.changes)


def test_the_longest_limit_that_backfills_is_named_with_time_left_to_act() -> None:
    yard = Yard()
    yard.run(1, 0, 3, 600)
    yard.wait(2, cpus_per_task=4)
    yard.wait(3, cpus_per_task=1)
    found = yard.why(3)
    assert (found.reason, found.ahead.first, found.ahead.count) == ("Resources", [(2, NOW + 600)], 1)
    assert found.expected_start == NOW + 600 + 3600
    shorter = suggested(found, "time_limit")
    # 离队首开始还有十分钟，留两分钟给人。
    assert (shorter.changes, shorter.start_time) == ({"time_limit": "00:08:00"}, NOW)
    assert shorter.good_until == pytest.approx(NOW + 120, abs=1.5)
    head = yard.why(2)
    assert (head.reason, head.expected_start, head.expected_end) == ("Resources", NOW + 600, NOW + 4200)
    assert [holder.job_id for holder in head.holders] == [1]
    assert any("只剩 1 个（差 3 个）" in text for text in head.shortages)
    assert head.balance == [("cpu", 4, 1)]
    text = render(head, Names({1: "1（alice）"}, {}, NOW))
    assert "1（alice）（在 n0，至迟 00:10:00 之后结束）" in text


def test_a_number_that_nobody_could_type_in_time_is_not_named() -> None:
    """离队首开始只有九十秒：什么时限也来不及改。"""
    yard = Yard()
    yard.run(1, 0, 3, 90)
    yard.wait(2, cpus_per_task=4)
    yard.wait(3, cpus_per_task=1)
    assert not any("time_limit" in item.changes for item in yard.why(3).suggestions)


def test_a_suspended_job_has_no_end_and_holds_back_nobody_else() -> None:
    yard = Yard(nodes=2)
    shares = (NodeShare(0, 4, 0),)
    yard.cluster.allocate(RunningJob(1, NEVER_ENDS, shares, "main", suspended=True))
    yard.wait(2, minimum_nodes=2, maximum_nodes=2, cpus_per_task=4)
    yard.wait(3, time_limit=7200)
    found = yard.why(2)
    assert found.expected_start is None
    assert [(holder.job_id, holder.suspended) for holder in found.endless] == [(1, True)]
    assert "1（alice）（在 n0，被 root 挂起了" in render(found, Names({1: "1（alice）"}, {1: "root"}, NOW))
    assert yard.why(3).fits_now


def test_only_those_that_want_the_same_nodes_are_ahead() -> None:
    yard = Yard(nodes=2)
    yard.cluster.set_partitions(
        [PartitionFacts("main"), PartitionFacts("a", frozenset({"n0"})), PartitionFacts("b", frozenset({"n1"}))]
    )
    yard.run(1, 0, 4, 300)
    yard.run(2, 1, 4, 300)
    for number in (10, 11):
        yard.wait(number, partition="b", cpus_per_task=4)
    yard.wait(12, partition="a", cpus_per_task=4)
    yard.wait(13, partition="a", constraints="f1")
    yard.wait(20, partition="a", cpus_per_task=4)
    found = yard.why(20)
    assert ([job_id for job_id, _ in found.ahead.first], found.ahead.count, found.ahead.others) == ([12], 1, 3)
    assert found.reason == "Resources"


def test_the_resource_that_several_nodes_lack_is_named() -> None:
    yard = Yard(nodes=3)
    yard.run(1, 0, 0, 300, memory=3000)
    yard.run(2, 1, 3, 300)
    yard.wait(3, minimum_nodes=3, maximum_nodes=3, cpus_per_task=2, memory_per_node=2000)
    [text] = yard.why(3).shortages
    assert "要 3 个节点，此刻只有 1 个够（合用的共 3 个：CPU 够的 2 个，内存够的 2 个）" in text
    # 多个节点的是合计的。
    assert yard.why(3).balance == [("cpu", 6, 9), ("memory", 6000, 9288)]
    yard.wait(4, tasks=12, minimum_nodes=1)
    assert "此刻共放得下 9 个（CPU 只够 9 个）" in yard.why(4).shortages[0]


def test_a_busy_named_node_is_a_shortage_not_a_delay() -> None:
    yard = Yard(nodes=2)
    yard.run(1, 1, 3, 300)
    yard.wait(2, required_nodes="n1", cpus_per_task=2)
    found = yard.why(2)
    assert found.shortages == ["指名的 n1：要 2 个 CPU，只剩 1 个（差 1 个）"]
    assert found.balance == [("cpu", 2, 1)]
    assert "推迟" not in render(found, Names({}, {}, NOW))


def test_a_deadline_that_the_plan_misses_is_told_with_the_latest_start() -> None:
    yard = Yard()
    yard.run(1, 0, 4, 150)
    job = yard.wait(2, time_limit=60)
    outlook = Outlook(yard.cluster, yard.queue, job, NOW, POLICY)
    found = explain(outlook, yard.queue, job, latest_start=NOW + 60, deadline=NOW + 120)
    assert (found.expected_start, found.late) == (None, (NOW + 120, NOW + 60, NOW + 150))
    assert "最晚要在 00:01:00 之后开始" in render(found, Names({}, {}, NOW))


def test_a_reservation_after_a_busy_node_is_named() -> None:
    """缺资源也有预留：说在等谁，也说是哪个预留推迟了它。"""
    yard = Yard()
    yard.run(1, 0, 4, 26)
    yard.cluster.set_reservations([AdvanceReservation("maint", NOW + 60, NOW + 176)])
    yard.wait(2, time_limit=600)
    found = yard.why(2)
    assert [name for name, *_ in found.reserved] == ["maint"]
    assert found.expected_start == NOW + 176
    assert found.shortages
    assert [holder.job_id for holder in found.holders] == [1]


def test_a_full_reservation_names_who_is_inside() -> None:
    yard = Yard()
    yard.cluster.set_reservations([AdvanceReservation("class", NOW - 10, NOW + 900, users=frozenset({"alice"}))])
    yard.cluster.allocate(RunningJob(1, NOW + 60, (NodeShare(0, 4, 0),), "main", reservation="class"))
    yard.wait(2, time_limit=300, reservation="class")
    found = yard.why(2)
    assert (found.expected_start, [holder.job_id for holder in found.holders]) == (NOW + 60, [1])
    assert found.shortages


def test_on_a_full_machine_the_least_change_that_starts_it_earlier_is_named() -> None:
    """此刻谁也启动不了：说出塞得进两个保留之间的最长时限，用得上早空出来的节点的最大个数。"""
    yard = Yard(nodes=3)
    for node, end_s in enumerate((1800.0, 3600.0, 5400.0)):
        yard.run(node + 1, node, 4, end_s)
    wide = yard.wait(10, minimum_nodes=3, maximum_nodes=3, tasks=12)
    yard.wait(11, cpus_per_task=2, time_limit=4 * 3600)
    found = suggested(yard.why(wide.job_id), "nodes")
    assert (found.changes, found.start_time) == ({"nodes": "2", "tasks": 8}, NOW + 3600)
    found = suggested(yard.why(11), "time_limit")
    assert (found.changes, found.start_time) == ({"time_limit": "01:00:00"}, NOW + 1800)


@pytest.mark.parametrize(
    ("job", "field", "changes"),
    [
        ({"cpus_per_task": 4}, "cpus_per_task", {"cpus_per_task": 1}),
        ({"tasks": 4, "maximum_nodes": 1}, "tasks", {"tasks": 1}),
        ({"minimum_nodes": 2, "maximum_nodes": 2, "tasks": 2}, "nodes", {"nodes": "1", "tasks": 1}),
        ({"memory_per_node": 4000}, "memory_per_node", {"memory_per_node": "3G"}),
        ({"constraints": "f1"}, "constraints", {"constraints": None}),
        ({"required_nodes": "n1"}, "required_nodes", {"required_nodes": None}),
        ({"exclusive": True}, "exclusive", {"exclusive": False}),
        ({"minimum_nodes": 1, "tasks": 6}, "tasks", {"tasks": 1}),
    ],
)
def test_the_smallest_change_that_starts_it_now_is_named(
    job: dict[str, Any], field: str, changes: dict[str, Any]
) -> None:
    yard = Yard(nodes=2)
    yard.run(1, 0, 3, 5000, memory=1024)
    yard.run(2, 1, 4, 7000, memory=1024)
    yard.wait(3, **job)
    found = suggested(yard.why(3), field)
    assert (found.changes, found.start_time) == (changes, NOW)


def test_a_license_names_who_holds_it_and_when_it_is_free() -> None:
    yard = Yard()
    yard.cluster.set_pool(LICENSE + "matlab", 2, "Licenses")
    yard.run(1, 0, 1, 300, matlab=1)
    yard.run(2, 0, 1, 900, matlab=1)
    yard.wait(3, licenses="matlab:2")
    found = yard.why(3)
    assert (found.reason, found.expected_start) == ("Licenses", NOW + 900)
    [pool] = found.pools
    assert (pool.need, pool.left, pool.total) == (2, 0, 2)
    assert [holder.job_id for holder in pool.holders] == [1, 2]
    assert suggested(found, "licenses").start_time == NOW


def test_what_waits_for_nodes_that_are_away_names_them() -> None:
    yard = Yard(nodes=2)
    yard.cluster.upsert_node(NodeFacts("n1", 4, 4096, features=frozenset({"f1"}), schedulable=False))
    yard.wait(1, required_nodes="n1")
    found = yard.why(1)
    assert found.reason == "ReqNodeNotAvail"
    assert "n1" in found.shortages[0]
    assert suggested(found, "required_nodes").start_time == NOW


Jobs = st.lists(
    st.fixed_dictionaries(
        {
            "tasks": st.integers(1, 4),
            "cpus_per_task": st.integers(1, 4),
            "memory_per_node": st.sampled_from([None, 500, 3000]),
            "time_limit": st.sampled_from([60, 600, 3600, 7200]),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(Jobs, st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(30, 5000)), max_size=2))
def test_what_is_said_to_start_now_does_start_now(
    jobs: list[dict[str, Any]], running: list[tuple[int, int, int]]
) -> None:
    yard = Yard(nodes=2)
    free = [4, 4]
    for number, (node, cpus, end_s) in enumerate(running, 1):
        if free[node] >= cpus:
            free[node] -= cpus
            yard.run(number, node, cpus, float(end_s))
    for number, columns in enumerate(jobs, 10):
        yard.wait(number, **columns)
    last = 9 + len(jobs)
    if impossible(yard.cluster, yard.queue.jobs[last].shape) is not None:
        return
    found = yard.why(last)
    decided = plan(yard.cluster, yard.queue, NOW, POLICY)
    assert found.fits_now == any(start.job.job_id == last for start in decided.starts)
    for item in found.suggestions:
        columns = dict(item.changes)
        if "time_limit" in columns:
            hours, minutes, seconds = map(int, columns["time_limit"].split(":"))
            columns["time_limit"] = hours * 3600 + minutes * 60 + seconds
        if "memory_per_node" in columns:
            number, unit = columns["memory_per_node"][:-1], columns["memory_per_node"][-1]
            columns["memory_per_node"] = int(number) * (1024 if unit == "G" else 1)
        yard.queue.upsert(yard.job(last, {**yard.rows[last], **columns}))
        changed = plan(yard.cluster, yard.queue, NOW, POLICY)
        if item.start_time == NOW:
            # 过一会儿（说好的时间之内）再改也一样。
            late = plan(yard.cluster, yard.queue, NOW + min(29.0, LEAST_SLACK_S), POLICY)
            assert any(start.job.job_id == last for start in late.starts), item
            assert any(start.job.job_id == last for start in changed.starts), item
        else:
            assert found.expected_start is None or item.start_time < found.expected_start
            assert [kept.start_time for kept in changed.reservations if kept.job.job_id == last] == [item.start_time]
