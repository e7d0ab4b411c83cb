"""先来先服务 + 首次适应：不超配，不越过队首，放不下的说清原因。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.scheduling.first_fit import Need, NodeSpace, plan_first_fit


def node(name: str, cpus: int, memory: int = 1000, free: int | None = None) -> NodeSpace:
    return NodeSpace(name, cpus, memory, cpus if free is None else free, memory)


def test_jobs_go_to_the_first_node_that_fits_in_submit_order():
    plan = plan_first_fit([node("a", 4, free=1), node("b", 4)], [Need(1, 2, 0), Need(2, 1, 0), Need(3, 2, 0)])
    assert [(p.job_id, p.node_name) for p in plan.placements] == [(1, "b"), (2, "a"), (3, "b")]


def test_a_blocked_head_is_not_overtaken_but_an_impossible_job_is():
    plan = plan_first_fit([node("a", 4, free=2)], [Need(1, 99, 0), Need(2, 4, 0), Need(3, 1, 0)])
    assert plan.placements == ()
    assert [(w.job_id, w.reason) for w in plan.waiting] == [(1, "Resources"), (2, "Resources"), (3, "Priority")]
    assert "99" in (plan.waiting[0].message or "")


def test_an_exclusive_job_takes_a_whole_idle_node():
    plan = plan_first_fit([node("a", 4, free=3), node("b", 8)], [Need(1, 1, 10, exclusive=True)])
    assert [(p.node_name, p.cpus) for p in plan.placements] == [("b", 8)]


SIZES = st.integers(min_value=1, max_value=8)


@given(
    st.lists(st.tuples(SIZES, SIZES, st.integers(0, 8)), max_size=5),
    st.lists(st.tuples(SIZES, st.integers(0, 8), st.booleans()), max_size=20),
)
def test_no_node_is_over_allocated_and_every_job_is_answered(machines, wants):
    nodes = [NodeSpace(f"n{i}", c, m, min(f, c), m) for i, (c, m, f) in enumerate(machines)]
    queue = [Need(i, *want) for i, want in enumerate(wants)]
    plan = plan_first_fit(nodes, queue)
    for space in nodes:
        mine = [p for p in plan.placements if p.node_name == space.name]
        assert sum(p.cpus for p in mine) <= space.free_cpus
        assert sum(p.memory for p in mine) <= space.free_memory
    assert sorted([p.job_id for p in plan.placements] + [w.job_id for w in plan.waiting]) == [n.job_id for n in queue]
