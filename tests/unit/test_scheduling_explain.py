"""解释与建议：说得立即开始的改法，真的改了就立即开始；说的数是能立即开始的最大值。"""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scns_conductor.core.models import JobSpec
from scns_conductor.scheduling.cluster import Cluster, NodeFacts, NodeShare, PartitionFacts, RunningJob
from scns_conductor.scheduling.explain import Explanation, explain
from scns_conductor.scheduling.explain_text import render
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import Defaults, shape_of
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.scheduling.suggestions import Suggestion, suggestions

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
        found.suggestions = suggestions(self.rows[job_id], build, [], NOW, current)
        return found


def suggested(found: Explanation, field: str) -> Suggestion:
    return next(item for item in found.suggestions if field in item.changes)


def test_the_longest_limit_that_backfills_is_named() -> None:
    yard = Yard()
    yard.run(1, 0, 3, 600)
    yard.wait(2, cpus_per_task=4)
    yard.wait(3, cpus_per_task=1)
    found = yard.why(3)
    assert (found.reason, found.ahead, found.ahead_count) == ("Priority", [(2, NOW + 600)], 1)
    assert found.expected_start == NOW + 600 + 3600
    assert suggested(found, "time_limit").changes == {"time_limit": "00:10:00"}
    assert suggested(found, "time_limit").start_time == NOW
    head = yard.why(2)
    assert (head.reason, head.expected_start, head.expected_end) == ("Resources", NOW + 600, NOW + 4200)
    assert [holder.job_id for holder in head.holders] == [1]
    assert any("只剩 1 个（差 3 个）" in text for text in head.shortages)
    text = render(head, {1: "1（alice）"}, NOW)
    assert "1（alice）（在 n0，至迟 00:10:00 之后结束）" in text


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


@settings(max_examples=150, deadline=None)
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
            assert any(start.job.job_id == last for start in changed.starts), item
        else:
            assert found.expected_start is None or item.start_time < found.expected_start
            assert [kept.start_time for kept in changed.reservations if kept.job.job_id == last] == [item.start_time]
