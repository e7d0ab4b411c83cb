"""节能的「假如」：算得清清楚楚的小例子，与不变的事。"""

from hypothesis import given
from hypothesis import strategies as st
from test_simulator_right_size import row, system

from scns_conductor.core.replay_words import NodeGroup
from scns_conductor.scheduling.cluster_facts import NodeFacts
from scns_conductor.simulator.live_replay import replay_live
from scns_conductor.simulator.machine import Machine
from scns_conductor.simulator.policy_choice import parse_policies, with_power
from scns_conductor.simulator.replay import Replay, replay
from scns_conductor.simulator.workload import TraceJob


def job(number: int, submit_s: int, run_s: int, cpus: int = 1) -> TraceJob:
    return TraceJob(str(number), submit_s, run_s, run_s, cpus, user="u")


def replayed(jobs: list[TraceJob], nodes: int, suspend_s: float, boot_s: float = 10.0) -> tuple[Replay, Replay]:
    """不节能的与节能的。"""
    choices = with_power(parse_policies("easy"), {"x": suspend_s}, boot_s)
    machine = Machine((NodeGroup(nodes, 1),))
    plain, saving = (replay(jobs, machine, choice) for choice in choices)
    return plain, saving


def test_an_idle_node_is_turned_off_and_the_next_job_waits_for_its_boot() -> None:
    # 0–50 在第一个节点上；第二个从 0 起空闲，20 关；第一个 70 关；100 的作业开一个，110 开始，130 结束。
    _, found = replayed([job(1, 0, 50), job(2, 100, 20)], 2, suspend_s=20)
    assert found.starts == [0.0, 110.0]
    use = found.power
    assert use is not None
    assert (use.boots, use.delayed, use.delay_s) == (1, 1, 10.0)
    # 先用权重一样、名次在前的第一个：70–100 关着；第二个 20–130 关着。
    assert use.off_s == (100 - 70) + (130 - 20)
    assert use.total_s == 2 * 130


def test_the_live_system_is_counted_the_same_and_stopped_nodes_are_left_alone() -> None:
    jobs = [job(1, 0, 50), job(2, 100, 20)]
    live = system({each.job_id: row(cpus_per_task=1) for each in jobs})
    live.nodes[:] = [NodeFacts("n1", 1, 1000), NodeFacts("n2", 1, 1000), NodeFacts("n3", 1, 1000, schedulable=False)]
    plain, saving = (
        replay_live(live, jobs, choice) for choice in with_power(parse_policies("live"), {"x": 20.0}, 10.0)
    )
    assert (plain.starts, plain.power) == ([0.0, 100.0], None)
    assert saving.starts == [0.0, 110.0]
    use = saving.power
    assert use is not None
    assert (use.boots, use.off_s, use.total_s) == (1, (100 - 70) + (130 - 20), 3 * 130)


def test_a_running_node_is_used_before_one_that_is_off() -> None:
    # 第一个节点 0–50，第二个在 20 关了；60 的作业用还开着的第一个，不等。
    _, found = replayed([job(1, 0, 50), job(2, 60, 20)], 2, suspend_s=20)
    assert found.starts == [0.0, 60.0]
    assert found.power is not None
    assert found.power.boots == 0


def test_a_job_on_several_nodes_waits_for_the_last_and_boots_only_those_that_are_off() -> None:
    _, found = replayed([job(1, 0, 50), job(2, 60, 20, cpus=3)], 3, suspend_s=20)
    assert found.starts == [0.0, 70.0]
    assert found.power is not None
    assert (found.power.boots, found.power.delayed) == (2, 1)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(1, 4)), min_size=1, max_size=12),
    st.integers(1, 200),
)
def test_never_suspending_changes_nothing_and_the_account_adds_up(
    rows: list[tuple[int, int, int]], suspend_s: int
) -> None:
    jobs = [job(number, *row) for number, row in enumerate(sorted(rows), start=1)]
    plain, never = replayed(jobs, 4, suspend_s=10**9)
    assert never.starts == plain.starts
    assert never.power is not None
    assert (never.power.off_s, never.power.boots) == (0.0, 0)
    _, found = replayed(jobs, 4, suspend_s=suspend_s)
    use = found.power
    assert use is not None
    assert all(start is not None for start in found.starts)
    # 关着的时候没有作业在跑：两者加起来不超过全部。
    busy = sum(each.run_s * each.cpus for each in jobs)
    assert 0 <= use.off_s <= use.total_s - busy + 1e-6
    assert use.delay_s <= use.delayed * 10.0 + 1e-6
