"""分区自己的节能的时间换到节点上：几个分区都有的以最长的为准。"""

from types import SimpleNamespace

from scns_conductor.worker.background.power_times import NEVER, node_times


def partition(nodes: str, *times: int | None) -> SimpleNamespace:
    return SimpleNamespace(
        nodes=nodes, **dict(zip(("suspend_time", "suspend_timeout", "resume_timeout"), times, strict=True))
    )


def test_the_longest_of_several_partitions_counts() -> None:
    found = node_times(
        [
            partition("n[1-3]", 60, None, 300),
            partition("n[2-3]", 30, 5, 600),
            partition("n3", NEVER, None, None),
            partition("n3", 900, None, None),
        ],
        lambda: (_ for _ in ()),
    )
    assert {name: list(times) for name, times in found.items()} == {
        "n1": [60, None, 300], "n2": [60, 5, 600], "n3": [NEVER, 5, 600],
    }  # fmt: skip


def test_all_is_every_node_and_zero_is_a_time() -> None:
    found = node_times([partition("ALL", 0, None, None)], lambda: ["a", "b"])
    assert {name: list(times) for name, times in found.items()} == {"a": [0, None, None], "b": [0, None, None]}
    assert node_times([], lambda: ["a"]) == {}
