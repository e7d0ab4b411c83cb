"""任务怎样分到各节点。"""

from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.worker.job_steps import spread_tasks


def test_blocks_then_round_robin() -> None:
    assert spread_tasks(4, [2, 2]) == [[0, 1], [2, 3]]
    assert spread_tasks(3, [2, 2]) == [[0, 1], [2]]
    assert spread_tasks(1, [2, 2]) == [[0], []]
    assert spread_tasks(7, [2, 2]) == [[0, 1, 2, 3], [4, 5, 6]]


@given(st.integers(1, 200), st.lists(st.integers(1, 16), min_size=1, max_size=20))
def test_every_task_is_somewhere_exactly_once(tasks: int, per_node: list[int]) -> None:
    ranks = spread_tasks(tasks, per_node)
    assert [rank for node in ranks for rank in node] == list(range(tasks))
    assert len(ranks) == len(per_node)
