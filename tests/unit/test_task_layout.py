"""任务怎样摆到节点上。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.task_layout import LayoutError, NodeTasks, StepNode, StepShape, lay_out, repeat_list

FREE = [StepNode("a", 4, 4, 2), StepNode("b", 4, 4, 2)]


def ranks(placed: list[NodeTasks]) -> dict[str, list[int]]:
    return {node.name: list(node.ranks) for node in placed}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (StepShape(), {"a": [0, 1], "b": [2, 3]}),
        (StepShape(tasks=1), {"a": [0]}),
        (StepShape(tasks=3), {"a": [0, 1], "b": [2]}),
        (StepShape(tasks=2, nodes=2), {"a": [0], "b": [1]}),
        (StepShape(tasks=8), {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}),
        (StepShape(tasks=4, nodes=1), {"a": [0, 1, 2, 3]}),
        (StepShape(tasks_per_node=1), {"a": [0], "b": [1]}),
        (StepShape(tasks=4, plane=1), {"a": [0, 2], "b": [1, 3]}),
        (StepShape(tasks=7, plane=2), {"a": [0, 1, 4, 5], "b": [2, 3, 6]}),
        (StepShape(tasks=5, plane=4), {"a": [0, 1, 2, 3], "b": [4]}),
        # 缺省摊匀，写了 pack 才放满一个再放下一个，也只用放得下的节点。
        (StepShape(tasks=6), {"a": [0, 1, 2], "b": [3, 4, 5]}),
        (StepShape(tasks=4, pack=True), {"a": [0, 1, 2, 3]}),
        (StepShape(tasks=5, nodes=2, pack=True), {"a": [0, 1, 2, 3], "b": [4]}),
        (StepShape(tasks=3, hosts=("b", "a", "b")), {"a": [1], "b": [0, 2]}),
        (StepShape(hosts=("b", "b")), {"b": [0, 1]}),
        (StepShape(tasks=1, node_names=("b",)), {"b": [0]}),
        # -w 说的是一定要有的，不是只用它们的。
        (StepShape(tasks=2, node_names=("b",)), {"a": [0], "b": [1]}),
        (StepShape(tasks=2, node_names=("b",), nodes=1), {"b": [0, 1]}),
        (StepShape(tasks=2, excluded=("a",)), {"b": [0, 1]}),
        (StepShape(tasks=2, nodes=1, most_nodes=2), {"a": [0], "b": [1]}),
        (StepShape(tasks=2, cpus_per_task=4), {"a": [0], "b": [1]}),
        (StepShape(tasks=2, relative=1), {"b": [0, 1]}),
        (StepShape(tasks=9, nodes=1, overcommit=True), {"a": list(range(9))}),
        (StepShape(tasks_per_node=6, nodes=1, overcommit=True), {"a": list(range(6))}),
    ],
)
def test_srun_forms(shape: StepShape, expected: dict[str, list[int]]) -> None:
    assert ranks(lay_out(FREE, shape)) == expected


@pytest.mark.parametrize(
    ("shape", "busy"),
    [
        (StepShape(tasks=9), False),
        (StepShape(nodes=3), False),
        (StepShape(tasks=3, cpus_per_task=4), False),
        (StepShape(node_names=("c",)), False),
        (StepShape(tasks=5, tasks_per_node=2), False),
        (StepShape(tasks=1, cpus_per_task=5, whole=False), False),
        (StepShape(tasks=9, overlap=True, whole=False), False),
        (StepShape(hosts=("a",) * 5), False),
        (StepShape(tasks=2, hosts=("a",)), False),
        (StepShape(excluded=("a", "b")), False),
        (StepShape(node_names=("a",), excluded=("a",)), False),
    ],
)
def test_what_never_fits_is_not_called_busy(shape: StepShape, busy: bool) -> None:
    with pytest.raises(LayoutError) as caught:
        lay_out(FREE, shape)
    assert caught.value.busy is busy


def test_whole_steps_wait_for_each_other_and_exact_ones_share() -> None:
    half = [StepNode("a", 4, 2, 2)]
    with pytest.raises(LayoutError) as caught:
        lay_out(half, StepShape(tasks=1))
    assert caught.value.busy
    assert lay_out(half, StepShape(tasks=2, whole=False)) == [NodeTasks("a", (0, 1), 2)]
    with pytest.raises(LayoutError) as caught:
        lay_out(half, StepShape(tasks=3, whole=False))
    assert caught.value.busy
    assert lay_out(half, StepShape(tasks=4, whole=False, overlap=True)) == [NodeTasks("a", tuple(range(4)), 0)]
    with pytest.raises(LayoutError) as caught:
        lay_out(half, StepShape(hosts=("a",), whole=True))
    assert caught.value.busy


def test_a_few_large_nodes_are_taken_when_the_first_ones_do_not_fit() -> None:
    nodes = [StepNode("a", 2, 2, 2), StepNode("b", 4, 4, 4)]
    assert ranks(lay_out(nodes, StepShape(tasks=4, nodes=1))) == {"b": [0, 1, 2, 3]}


def test_an_exact_step_takes_the_node_that_is_free() -> None:
    nodes = [StepNode("a", 4, 0, 2), StepNode("b", 4, 4, 2)]
    assert lay_out(nodes, StepShape(tasks=1, whole=False)) == [NodeTasks("b", (0,), 1)]


NODES = st.lists(st.tuples(st.integers(1, 16), st.integers(0, 16), st.integers(0, 8)), min_size=1, max_size=8).map(
    lambda rows: [StepNode(f"n{index}", cpus, min(free, cpus), tasks) for index, (cpus, free, tasks) in enumerate(rows)]
)
SHAPES = st.builds(
    StepShape,
    tasks=st.none() | st.integers(1, 40),
    nodes=st.none() | st.integers(1, 9),
    tasks_per_node=st.none() | st.integers(1, 6),
    cpus_per_task=st.integers(1, 5),
    plane=st.integers(0, 3),
    pack=st.booleans(),
    whole=st.booleans(),
)


@given(NODES, SHAPES)
def test_every_task_is_somewhere_once_and_no_cpu_is_promised_twice(nodes: list[StepNode], shape: StepShape) -> None:
    try:
        placed = lay_out(nodes, shape)
    except LayoutError:
        return
    found = sorted(rank for node in placed for rank in node.ranks)
    assert found == list(range(len(found)))
    assert found
    assert shape.tasks in (None, len(found))
    by_name = {node.name: node for node in nodes}
    for part in placed:
        node = by_name[part.name]
        assert len(part.ranks) * shape.cpus_per_task <= part.cpus <= node.free_cpus
        if shape.whole:
            assert part.cpus == node.cpus


def test_repeat_list() -> None:
    assert repeat_list([2, 2, 2, 1]) == "2(x3),1"
    assert repeat_list([4]) == "4"
