"""数组与作业号的写法（core/array_spec.py、core/job_reference.py）：解析、合并、写回。"""

import itertools
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.array_spec import (
    ArraySpec,
    Stride,
    TaskRange,
    format_ranges,
    intersection,
    merge_ranges,
    parse_array,
)
from scns_conductor.core.job_reference import MAX_JOB_ID, JobReference, parse_job_reference


def tasks_of(ranges: tuple[TaskRange, ...]) -> list[int]:
    return [task for span in ranges for task in range(span.lower, span.upper)]


@pytest.mark.parametrize(
    ("text", "tasks", "most"),
    [
        ("5", [5], None),
        ("0-3", [0, 1, 2, 3], None),
        ("[0-3]", [0, 1, 2, 3], None),
        ("0-9:3", [0, 3, 6, 9], None),
        ("1,3,5-7", [1, 3, 5, 6, 7], None),
        ("7,1-3,2", [1, 2, 3, 7], None),
        ("0-99%5", list(range(100)), 5),
        ("0-4%0", list(range(5)), None),
        # 只有一个任务：步长再大（超出 int4）也不记。
        ("3-5:9999999999", [3], None),
    ],
)
def test_the_forms_of_sbatch_array(text: str, tasks: list[int], most: int | None) -> None:
    found = parse_array(text, max_tasks=1000)
    assert (tasks_of(found.ids), found.max_running, len(found)) == (tasks, most, len(tasks))


@pytest.mark.parametrize(
    "text",
    ["", "a", "-1", "3-1", "0-5:0", "1,,2", "0-3%", "0-3%x", "0-1000", "2147483647", "9" * 40, "0-3%5%6", "1-2-3"],
)
def test_a_bad_array_is_a_value_error_in_chinese(text: str) -> None:
    with pytest.raises(ValueError, match="数组"):
        parse_array(text, max_tasks=1000)


def test_a_huge_range_costs_nothing() -> None:
    assert parse_array("0-2147483646", max_tasks=2**31) == ArraySpec((TaskRange(0, 2**31 - 1),))
    assert parse_array("3-5:9999999999", max_tasks=9).stride == Stride()
    found = parse_array("1-999999:3%50", max_tasks=2**31)
    assert found == ArraySpec((TaskRange(0, 333_333),), 50, Stride(1, 3))


def test_several_items_of_one_step_stay_ranges() -> None:
    found = parse_array("1-3000000:3,9000001-9900001:3,7%9")
    assert found == ArraySpec((TaskRange(0, 1_000_000), TaskRange(3_000_000, 3_300_001)), 9, Stride(1, 3))
    # 错开的没有公共的步长；连成的区间不多的照区间记，重复的只算一个，连得起来的就是一个。
    assert parse_array("0-8:2,21-25:2").stride == Stride()
    assert parse_array("0-8:2,0-9:3,4").ranges == (TaskRange(0, 1), TaskRange(2, 5), TaskRange(6, 7), TaskRange(8, 10))
    assert parse_array("0-4000000,0-4000000:2", max_tasks=4_000_001) == ArraySpec((TaskRange(0, 4_000_001),))


def test_items_of_unlike_steps_stay_one_range_of_slots() -> None:
    """Slurm 在 MaxArraySize（至多 4,000,001）之内收的都收：任务号列出来，没有启动的是一个区间。"""
    found = parse_array("0-1000000:3,7-2000000:5%9", max_tasks=4_000_001)
    wanted = sorted({*range(0, 1_000_001, 3), *range(7, 2_000_001, 5)})
    assert (found.ranges, found.max_running) == ((TaskRange(0, len(wanted)),), 9)
    assert [found.stride.task_id(slot) for slot in (0, 1, 2, 3, len(wanted) - 1)] == [0, 3, 6, 7, 1_999_997]
    assert found.stride.slots([TaskRange(7, 10), TaskRange(1_000_001, 2**31 - 1)]) == (
        TaskRange(3, 5), TaskRange(wanted.index(1_000_002), len(wanted)))  # fmt: skip
    assert found.stride.slots([TaskRange(8, 9), TaskRange(2_000_000, 2_000_005)]) == ()
    listed = b"".join(task.to_bytes(4, "big") for task in wanted)
    assert found.stride.slots_listed(listed) == found.ranges
    assert found.stride.slots_listed(listed[8:20] + listed[40:44]) == (TaskRange(2, 5), TaskRange(10, 11))
    assert len(parse_array("0-4000000:2,0-4000000:3,0-4000000:5", max_tasks=4_000_001)) == 2_933_335
    # 任务号隔得远的、同一项写了许多遍的也一样；写得太多的不收。
    assert len(parse_array("0-2000000000:1000000,7-2000000000:1000007", max_tasks=4_000_001)) == 4001
    assert len(parse_array(",".join(["0-4000000:2,0-4000000:3"] * 9), max_tasks=4_000_001)) == 2_666_668
    with pytest.raises(ValueError, match="步长不一"):
        parse_array(",".join(["0-4000000:2,0-4000000:3"] * 99), max_tasks=4_000_001)
    with pytest.raises(ValueError, match="步长不一"):
        parse_array("0-2000000000:500,0-2000000000:501,0-2000000000:502", max_tasks=4_000_001)
    with pytest.raises(ValueError, match="超过上限"):
        parse_array("0-5000000:2,0-5000000:3", max_tasks=3_000_000)


ITEM = st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(1, 9))


@given(st.lists(ITEM, min_size=1, max_size=5))
def test_every_item_gives_its_own_tasks(items: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + (count - 1) * step}:{step}" for first, count, step in items)
    wanted = {first + step * index for first, count, step in items for index in range(count)}
    assert tasks_of(parse_array(text, max_tasks=1000).ids) == sorted(wanted)


@given(st.integers(0, 50), st.integers(1, 7), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=6))
def test_a_stride_maps_slots_to_task_ids_and_back(base: int, step: int, spans: list[tuple[int, int]]) -> None:
    stride = Stride(base, step)
    ranges = merge_ranges((lower, lower + size) for lower, size in spans)
    members = {base + step * slot for slot in range(200)}
    assert {stride.task_id(slot) for slot in tasks_of(stride.slots(ranges))} == members & set(tasks_of(ranges))
    assert tasks_of(stride.ids(ranges)) == [stride.task_id(slot) for slot in tasks_of(ranges)]
    assert stride.slots(stride.ids(ranges)) == ranges


STRIDES = st.one_of(
    st.builds(Stride, st.integers(0, 50), st.integers(1, 7)),
    st.sets(st.integers(0, 300), min_size=1).map(
        lambda ids: Stride(0, 0, b"".join(task.to_bytes(4, "big") for task in sorted(ids)))
    ),
)


@given(STRIDES, STRIDES, st.sets(st.integers(0, 99)))
def test_slots_of_one_array_are_found_in_another(own: Stride, other: Stride, chosen: set[int]) -> None:
    """aftercorr：同号的任务，两边怎样写都行。"""
    most = 100 if other.step else len(other.listed) // 4
    slots = merge_ranges((slot, slot + 1) for slot in chosen if slot < most)
    ids = {other.task_id(slot) for slot in tasks_of(slots)}
    # 另一边最大的任务号是 50 + 7 × 99。
    size = 800 if own.step else len(own.listed) // 4
    wanted = [slot for slot in range(size) if own.task_id(slot) in ids]
    assert tasks_of(own.slots_of(other, slots)) == wanted


SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)).map(lambda pair: (pair[0], sum(pair))), max_size=12)


@given(SPANS)
def test_merging_keeps_the_set_and_leaves_gaps(spans: list[tuple[int, int]]) -> None:
    merged = merge_ranges(spans)
    assert tasks_of(merged) == sorted({task for lower, upper in spans for task in range(lower, upper)})
    assert all(left.upper < right.lower for left, right in itertools.pairwise(merged))


@given(SPANS.filter(bool), st.none() | st.integers(1, 99))
def test_what_is_written_is_read_back(spans: list[tuple[int, int]], most: int | None) -> None:
    ranges = merge_ranges(spans)
    found = parse_array(format_ranges(ranges, most), max_tasks=10_000)
    assert (found.ids, found.max_running) == (ranges, most)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", JobReference(12)),
        ("12_3", JobReference(12, (TaskRange(3, 4),))),
        ("12_[1-5,8]", JobReference(12, (TaskRange(1, 6), TaskRange(8, 9)))),
        ("12_1-5", JobReference(12, (TaskRange(1, 6),))),
        (str(MAX_JOB_ID), JobReference(MAX_JOB_ID)),
        *((text, None) for text in (
            "", "0", "-1", "abc", "1_", "1_x", "12_[3", "12_3]", "12_[]", "12_[5-1]", "1.0", " 1", "1\n", "１２",
            str(MAX_JOB_ID + 1), str(2**70), "1" * 400, "1_2147483647", "12_[3]]",
        )),
    ],
)  # fmt: skip
def test_job_references(text: str, expected: JobReference | None) -> None:
    assert parse_job_reference(text) == expected


@given(st.text(max_size=20))
def test_any_text_is_a_reference_or_none(text: str) -> None:
    found = parse_job_reference(text)
    assert found is None or 0 < found.job_id <= MAX_JOB_ID


PIECES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4)


@given(PIECES, PIECES, st.integers(0, 60), st.integers(0, 60), st.integers(0, 12))
def test_tasks_of_a_job_id_are_found_without_listing_them(
    array: list[tuple[int, int, int]], wanted: list[tuple[int, int, int]], low: int, width: int, listed: int
) -> None:
    """作业号里的任务照写的记（strided）也好、列成区间也好，在每种写法的数组里涉及的都是那几个。"""

    def text(pieces: list[tuple[int, int, int]]) -> str:
        return ",".join(f"{first}-{first + more}:{step}" for first, more, step in pieces)

    with mock.patch.multiple("scns_conductor.core.array_spec", MAX_SCATTERED=listed, MAX_RUNS=3):
        spec = parse_array(text(array))
        reference = parse_job_reference(f"12_[{text(wanted)}]")
    assert reference is not None
    remaining = intersection(spec.ranges, [TaskRange(low, low + width)]) if width else ()
    asked = {task for first, more, step in wanted for task in range(first, first + more + 1, step)}
    left = [spec.stride.task_id(slot) for span in remaining for slot in range(*span)]
    found = reference.slots(spec.stride, remaining)
    assert [spec.stride.task_id(slot) for span in found for slot in range(*span)] == [n for n in left if n in asked]
    assert merge_ranges(found) == found
    started = {n for n in range(100) if any(n in span for span in map(range_of, reference.tasks or ()))}
    assert started | {n for n in range(100) if any(n in each for each in reference.strided)} == asked


def range_of(span: TaskRange) -> range:
    return range(span.lower, span.upper)
