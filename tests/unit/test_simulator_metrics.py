"""指标与排布：手算的小例子。"""

import pytest

from scns_conductor.core.replay_words import NodeGroup, parse_nodes, parse_span
from scns_conductor.simulator.lanes import assign_lanes
from scns_conductor.simulator.metrics import busy_cpus, measure, queue_length, started_columns
from scns_conductor.simulator.policy_choice import parse_policies
from scns_conductor.simulator.workload import TraceJob

JOBS = [
    TraceJob("1", submit_s=0, run_s=100, limit_s=100, cpus=4, user="ann"),
    TraceJob("2", submit_s=10, run_s=5, limit_s=50, cpus=2, user="bob"),
    TraceJob("3", submit_s=20, run_s=50, limit_s=50, cpus=4, user="ann"),
]
STARTS = [0.0, 100.0, 105.0]


def test_metrics_by_hand():
    metrics = measure(JOBS, STARTS, machine_cpus=4)
    assert metrics.jobs == 3
    assert metrics.avg_wait_s == pytest.approx((0 + 90 + 85) / 3)
    assert metrics.max_wait_s == 90
    # 第二个作业只跑 5 秒，分母取 10 秒的门槛。
    assert metrics.avg_bounded_slowdown == pytest.approx((1 + 95 / 10 + 135 / 50) / 3)
    assert metrics.makespan_s == 155
    assert metrics.utilization == pytest.approx((400 + 10 + 200) / (4 * 155))
    assert metrics.avg_turnaround_s == pytest.approx((100 + 95 + 135) / 3)
    ann, bob = metrics.users
    assert (ann.user, ann.jobs, ann.cpu_hours, ann.max_wait_s) == ("ann", 2, pytest.approx(600 / 3600), 85)
    assert (bob.user, bob.avg_bounded_slowdown) == ("bob", 9.5)


def test_jobs_that_never_started_do_not_count():
    metrics = measure(JOBS, [0.0, None, None], machine_cpus=4)
    assert (metrics.jobs, metrics.avg_wait_s, metrics.makespan_s) == (1, 0, 100)
    assert measure(JOBS, [None] * 3, machine_cpus=4).jobs == 0


def test_step_functions_of_use_and_queue():
    _, columns = started_columns(JOBS, STARTS)
    busy, waiting = busy_cpus(columns), queue_length(columns)
    assert list(zip(busy.times_s, busy.values, strict=True)) == [(0, 4), (100, 2), (105, 4), (155, 0)]
    assert list(zip(waiting.times_s, waiting.values, strict=True)) == [(0, 0), (10, 1), (20, 2), (100, 1), (105, 0)]


def test_lanes_never_share_a_processor_and_split_when_they_must():
    jobs = [
        TraceJob("1", 0, 10, 10, 1),
        TraceJob("2", 0, 30, 30, 1),
        TraceJob("3", 0, 10, 10, 1),
        TraceJob("4", 10, 10, 10, 2),
    ]
    rectangles = assign_lanes(jobs, [0.0, 0.0, 0.0, 10.0], 3, (0, 100))
    assert [(r.job_id, r.first_cpu, r.cpus) for r in rectangles] == [
        ("1", 0, 1),
        ("2", 1, 1),
        ("3", 2, 1),
        ("4", 0, 1),
        ("4", 2, 1),
    ]


def test_what_was_stopped_ends_later_and_uses_its_cpus_more_slowly():
    """两个轮流用四个 CPU：停着的时间算在慢化与总时长里，利用率不会多于一。"""
    jobs = [TraceJob("1", 0, 30, 30, 4), TraceJob("2", 0, 20, 20, 4)]
    walked = {0: [(0.0, 10.0), (20.0, 30.0), (40.0, 50.0)], 1: [(10.0, 20.0), (30.0, 40.0)]}
    ends = {0: 50.0, 1: 40.0}
    metrics = measure(jobs, [0.0, 0.0], 4, ends)
    assert (metrics.makespan_s, metrics.utilization, metrics.avg_turnaround_s) == (50, 1.0, 45)
    assert metrics.avg_bounded_slowdown == pytest.approx((50 / 30 + 40 / 20) / 2)
    busy = busy_cpus(started_columns(jobs, [0.0, 0.0], ends)[1])
    assert busy.values.tolist() == pytest.approx([4.4, 2.4, 0])
    rectangles = assign_lanes(jobs, [0.0, 0.0], 4, (0, 100), walked)
    assert [(each.job_id, each.begin_s, each.cpus) for each in rectangles] == [
        ("1", 0, 4), ("2", 10, 4), ("1", 20, 4), ("2", 30, 4), ("1", 40, 4)
    ]  # fmt: skip


def test_what_really_happened_is_drawn_even_where_its_whole_seconds_overlap():
    rectangles = assign_lanes(JOBS, [0.0, 0.0, 0.0], 6, (0, 100), recorded=True)
    assert [(each.job_id, each.cpus) for each in rectangles] == [("1", 4), ("2", 2)]


def test_lanes_refuse_an_overcommitted_replay():
    with pytest.raises(ValueError, match="只剩 0 个"):
        assign_lanes(JOBS, [0.0, 0.0, 0.0], 4, (0, 100))


def test_node_specifications():
    assert parse_nodes("4:64") == NodeGroup(4, 64)
    assert parse_nodes("4:64:gpu:2:mem:256G") == NodeGroup(4, 64, 256 * 1024, 2)


@pytest.mark.parametrize(
    "text", ["", "4", "4:64:gpu", "0:64", "4:-1", "x:4", "4:64:disk:1", "4:64:mem:0", "999999:1", "4:64:mem:x"]
)
def test_bad_node_specifications_are_refused(text):
    with pytest.raises(ValueError, match=r"[\u4e00-\u9fff]"):
        parse_nodes(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86400), ("2d", 172800), ("90s", 90), ("120", 7200), ("1-00:00:00", 86400)]
)
def test_spans(text, seconds):
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["0h", "-1", "UNLIMITED", "soon", ""])
def test_bad_spans_are_refused(text):
    with pytest.raises(ValueError, match=r"[\u4e00-\u9fff]"):
        parse_span(text)


def test_policy_names():
    choices = parse_policies("fifo, easy,sjf,sjf+none,wfp3+conservative")
    assert [(choice.label, choice.order, choice.backfill) for choice in choices] == [
        ("fifo", "fifo", "none"),
        ("easy", "fifo", "easy"),
        ("sjf", "sjf", "easy"),
        ("sjf+none", "sjf", "none"),
        ("wfp3+conservative", "wfp3", "conservative"),
    ]


@pytest.mark.parametrize("text", ["", "easy,", "best", "easy,easy", "sjf+magic", "easy+none"])
def test_bad_policy_names_are_refused(text):
    with pytest.raises(ValueError, match=r"[\u4e00-\u9fff]"):
        parse_policies(text)
