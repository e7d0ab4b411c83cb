"""scontrol top：只加 nice；之后的次序正是所要的，其余的之间不变。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.slurm.control.control_top import _niced

JOBS = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 1000)), min_size=1, max_size=8)


def order(jobs: dict[str, tuple[int, int | None]], nices: dict[str, int]) -> list[str]:
    """调度器的次序：优先级（先提交先排时只有 nice）高的先，一样高的作业号小的先。"""

    def value(name: str) -> int:
        nice, priority = jobs[name]
        return -nices[name] if priority is None else priority - (nices[name] - nice)

    return sorted(jobs, key=lambda name: (-value(name), int(name)))


@given(JOBS, st.booleans(), st.data())
def test_the_named_come_first_in_their_order_and_the_rest_keep_theirs(
    rows: list[tuple[int, int | None]], basic: bool, data: st.DataObject
) -> None:
    jobs = {str(number): (nice, None if basic else priority or 0) for number, (nice, priority) in enumerate(rows, 1)}
    wanted = data.draw(st.lists(st.sampled_from(sorted(jobs)), min_size=1, unique=True))
    shown = {name: {"nice": nice, "priority": priority} for name, (nice, priority) in jobs.items()}
    before = {name: nice for name, (nice, _) in jobs.items()}
    changed = _niced(shown, wanted)
    after = before | changed
    assert all(after[name] >= before[name] for name in jobs)
    rest = [name for name in order(jobs, before) if name not in wanted]
    assert order(jobs, after) == [*wanted, *rest]
