"""依赖的判定：纯函数，时刻与状态都由参数给出。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.array_spec import Stride, TaskRange, difference, intersection, merge_ranges, remove_task, union
from scns_conductor.core.dependency import Judgement, Outcome, TargetState, evaluate, parse_dependency
from scns_conductor.core.states import JobState

TaskSets = st.sets(st.integers(0, 40), max_size=20)


def ranges(numbers: set[int]) -> tuple[TaskRange, ...]:
    return merge_ranges((number, number + 1) for number in numbers)


def members(spans: tuple[TaskRange, ...]) -> set[int]:
    return {number for span in spans for number in range(span.lower, span.upper)}


@given(TaskSets, TaskSets)
def test_ranges_behave_as_sets(left: set[int], right: set[int]) -> None:
    assert members(union(ranges(left), ranges(right))) == left | right
    assert members(intersection(ranges(left), ranges(right))) == left & right
    found = difference(ranges(left), ranges(right))
    assert members(found) == left - right
    assert found == ranges(left - right)


@given(TaskSets, st.integers(0, 41))
def test_one_task_is_taken_out_in_place(numbers: set[int], task_id: int) -> None:
    spans = list(ranges(numbers))
    remove_task(spans, task_id)
    assert tuple(spans) == ranges(numbers - {task_id})


def judge(
    text: str,
    known: dict[int, list[TargetState]],
    now: float = 1000.0,
    own: set[int] | None = None,
    busy: bool = False,
) -> Judgement:
    return evaluate(
        parse_dependency(text),
        lambda number: known.get(number, []),
        now=now,
        singleton_busy=busy,
        own_tasks=None if own is None else ranges(own),
    )


def array(**groups: set[int]) -> list[TargetState]:
    return [TargetState(JobState(name), ranges(tasks), 500.0) for name, tasks in groups.items()]


@pytest.mark.parametrize(
    ("text", "state", "outcome"),
    [
        ("afterok:1", JobState.PENDING, Outcome.WAITING),
        ("afterok:1", JobState.RUNNING, Outcome.WAITING),
        ("afterok:1", JobState.COMPLETED, Outcome.SATISFIED),
        ("afterok:1", JobState.FAILED, Outcome.NEVER),
        ("afternotok:1", JobState.COMPLETED, Outcome.NEVER),
        ("afternotok:1", JobState.TIMEOUT, Outcome.SATISFIED),
        ("afterany:1", JobState.CANCELLED, Outcome.SATISFIED),
        ("afterany:1", JobState.SUSPENDED, Outcome.WAITING),
        ("after:1", JobState.PENDING, Outcome.WAITING),
        ("after:1", JobState.RUNNING, Outcome.SATISFIED),
        ("aftercorr:1", JobState.FAILED, Outcome.NEVER),
        ("afterok:2", JobState.COMPLETED, Outcome.NEVER),
        ("afterok:1?afterok:2", JobState.COMPLETED, Outcome.SATISFIED),
        ("afterok:1,afterok:2", JobState.COMPLETED, Outcome.NEVER),
    ],
)
def test_one_job_decides(text: str, state: JobState, outcome: Outcome) -> None:
    started = None if state == JobState.PENDING else 900.0
    assert judge(text, {1: [TargetState(state, None, started)]}).outcome is outcome


def test_after_with_a_delay_names_the_moment_it_is_met() -> None:
    running = {7: [TargetState(JobState.RUNNING, None, 900.0)]}
    early = judge("after:7+5", running, now=1199.9)
    assert (early.outcome, early.wake_at, early.unmet) == (Outcome.WAITING, 1200.0, (7,))
    assert judge("after:7+5", running, now=1200.0).outcome is Outcome.SATISFIED


def test_an_array_is_met_only_as_a_whole_and_one_task_by_its_number() -> None:
    known = {7: array(COMPLETED={0, 1}, RUNNING={2}, PENDING={3, 4})}
    assert judge("afterok:7", known).outcome is Outcome.WAITING
    assert judge("afterok:7_1", known).outcome is Outcome.SATISFIED
    assert judge("afterok:7_2", known).outcome is Outcome.WAITING
    assert judge("afterok:7_9", known).outcome is Outcome.NEVER
    assert judge("after:7_2", known).outcome is Outcome.SATISFIED
    assert judge("after:7_3", known).outcome is Outcome.WAITING


def test_aftercorr_is_met_task_by_task() -> None:
    known = {7: array(COMPLETED={0, 1}, FAILED={2}, RUNNING={3}, PENDING={4})}
    found = judge("aftercorr:7", known, own={0, 1, 2, 3, 4})
    assert found.outcome is Outcome.SATISFIED
    assert members(found.ready or ()) == {0, 1}
    rest = judge("aftercorr:7", known, own={2, 3})
    assert (rest.outcome, rest.ready, rest.unmet) == (Outcome.WAITING, (), (7,))
    assert judge("aftercorr:7", known, own={2, 9}).outcome is Outcome.NEVER
    both = judge("aftercorr:7,afterok:8", {**known, 8: [TargetState(JobState.RUNNING)]}, own={0, 1})
    assert (both.outcome, both.unmet) == (Outcome.WAITING, (7, 8)[1:])


def test_aftercorr_goes_by_the_task_ids_whatever_the_strides() -> None:
    """对方是 0-12:3（序号 0 到 4），自己是 0-12:6 或 0-12：按任务号对应，对方没有的号永远等不到。"""
    done, running = (TaskRange(0, 3),), (TaskRange(3, 5),)
    known = {7: [TargetState(JobState.COMPLETED, done, 1.0, Stride(0, 3)),
                 TargetState(JobState.RUNNING, running, 1.0, Stride(0, 3))]}  # fmt: skip
    dependency = parse_dependency("aftercorr:7")

    def ready(own: list[TaskRange], stride: Stride) -> tuple[Outcome, set[int]]:
        found = evaluate(
            dependency, lambda number: known[number], now=1.0, singleton_busy=False, own_tasks=own, own_stride=stride
        )
        return found.outcome, {stride.task_id(slot) for slot in members(found.ready or ())}

    assert ready([TaskRange(0, 3)], Stride(0, 6)) == (Outcome.SATISFIED, {0, 6})
    assert ready([TaskRange(0, 5)], Stride(0, 3)) == (Outcome.SATISFIED, {0, 3, 6})
    assert ready([TaskRange(0, 13)], Stride()) == (Outcome.SATISFIED, {0, 3, 6})
    assert ready([TaskRange(1, 3)], Stride()) == (Outcome.NEVER, set())
    assert judge("afterok:7_6", known).outcome is Outcome.SATISFIED
    assert judge("afterok:7_9", known).outcome is Outcome.WAITING
    assert judge("afterok:7_5", known).outcome is Outcome.NEVER


def test_singleton_waits_for_the_others() -> None:
    assert judge("singleton", {}, busy=True).outcome is Outcome.WAITING
    assert judge("singleton", {}, busy=False).outcome is Outcome.SATISFIED
    assert judge("singleton", {}, busy=False, own={1, 2}).ready == (TaskRange(1, 3),)
