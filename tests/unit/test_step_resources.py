"""作业步分到的内存与 GPU、任务的绑定。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.step_resources import NodeShare, StepShare, StepWants, share_out
from scns_conductor.core.task_binding import bound_cores, bound_gpus, cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.task_layout import LayoutError

IDS = {"gpu:a100": [0, 1, 2, 3]}


def node(name: str = "n1", taken: tuple[dict[str, object], ...] = (), memory: int = 1000) -> NodeShare:
    return NodeShare(name, memory, {"gpu:a100": 4, "nic": 2}, IDS, taken)


def one(wants: StepWants, *, tasks: int = 2, cpus: int = 2, taken: tuple[dict[str, object], ...] = ()) -> StepShare:
    return share_out([(node(taken=taken), tasks, cpus)], wants)[0]


def test_a_step_gets_what_it_asks_for_and_no_card_that_another_holds() -> None:
    first = one(StepWants(per_node={"gpu": 1}))
    second = one(StepWants(per_task={"gpu:a100": 1}), taken=(first.to_json(),))
    assert (first.ids, second.ids) == ({"gpu:a100": [0]}, {"gpu:a100": [1, 2]})
    assert (first.divided, second.memory) == (True, 0)
    with pytest.raises(LayoutError) as busy:
        one(StepWants(per_node={"gpu": 2}), taken=(first.to_json(), second.to_json()))
    assert busy.value.busy
    shared = one(StepWants(per_node={"gpu": 4}, overlap=True), taken=(first.to_json(), second.to_json()))
    assert shared.ids == IDS
    with pytest.raises(LayoutError) as never:
        one(StepWants(per_node={"gpu": 5}))
    assert (never.value.busy, never.value.field) == (False, "gres")
    assert one(StepWants(nothing=True)) == StepShare(divided=True)
    assert one(StepWants(per_node={"nic": 2})) == StepShare(gres={"nic": 2})


def test_a_total_is_spread_over_the_nodes_each_with_at_least_one() -> None:
    nodes = [(node(name), 1, 1) for name in ("n1", "n2", "n3")]
    assert [share.gres["gpu:a100"] for share in share_out(nodes, StepWants(per_step={"gpu": 5}))] == [3, 1, 1]
    assert [share.gres["gpu:a100"] for share in share_out(nodes, StepWants(per_step={"gpu": 12}))] == [4, 4, 4]
    with pytest.raises(LayoutError, match="只有 12"):
        share_out(nodes, StepWants(per_step={"gpu": 13}))


def test_memory_is_divided_by_node_cpu_or_card() -> None:
    assert one(StepWants(memory_per_node=300)).memory == 300
    assert one(StepWants(memory_per_node=0)).memory == 1000
    assert one(StepWants(memory_per_cpu=100), cpus=4).memory == 400
    assert one(StepWants(memory_per_gpu=200, per_node={"gpu": 2})).memory == 400
    with pytest.raises(LayoutError) as busy:
        one(StepWants(memory_per_node=800), taken=({"memory": 300},))
    assert busy.value.busy
    with pytest.raises(LayoutError) as never:
        one(StepWants(memory_per_node=1001))
    assert (never.value.busy, never.value.field) == (False, "memory")


@given(st.lists(st.integers(1, 5), max_size=8))
def test_cards_are_never_given_twice(asked: list[int]) -> None:
    taken: list[dict[str, object]] = []
    for count in asked:
        try:
            taken.append(one(StepWants(per_node={"gpu": count}), taken=tuple(taken)).to_json())
        except LayoutError:
            continue
    given_out = [index for share in taken for index in share["ids"]["gpu:a100"]]  # type: ignore[index]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= {0, 1, 2, 3}


def test_binding_of_tasks() -> None:
    assert cpu_bind_mode("verbose,cores") == ("cores", True)
    assert [bound_cores("cores", local, [4, 5, 6, 7], 2) for local in range(3)] == [[4, 5], [6, 7], [4, 5]]
    assert [bound_cores("map_cpu:3,1", local, [], 1) for local in range(3)] == [[3], [1], [3]]
    assert bound_cores("mask_cpu:0x5", 0, [], 1) == [0, 2]
    assert bound_cores("none", 0, [0, 1], 1) == []
    assert gpu_bind_mode(None, 2) == "per_task:2"
    assert [bound_gpus("per_task:2", local, [0, 1, 2, 3]) for local in range(2)] == [[0, 1], [2, 3]]
    assert [bound_gpus("single:2", local, [5, 6]) for local in range(4)] == [[5], [5], [6], [6]]
    assert bound_gpus("map_gpu:2,0", 1, [0, 1, 2]) == [0]
    assert bound_gpus("closest", 1, [0, 1]) == [0, 1]
    for wrong in ("map_cpu:x", "mask_cpu:", "cpus", "map_cpu:1*9999999"):
        with pytest.raises(ValueError, match=r"cpu_bind|数"):
            cpu_bind_mode(wrong)
    with pytest.raises(ValueError, match="gpu_bind"):
        gpu_bind_mode("single:0", 0)
