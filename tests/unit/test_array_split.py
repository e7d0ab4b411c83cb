"""数组的行写了几次的并成一次（services/array_split.py）。"""

from scns_conductor.core.array_spec import TaskRange
from scns_conductor.services.array_split import merged
from scns_conductor.services.job_rows import JobRow

REMAINING = (TaskRange(0, 100_000),)


def row(job_id: int, *tasks: TaskRange) -> JobRow:
    return JobRow(
        job_id, "ann", "PENDING", None, 1, 0, 9, None, None, 0, True, False, None, None, None, "main", None, None,
        REMAINING, tasks=tasks or None,
    )  # fmt: skip


def test_parts_of_one_row_become_one_and_the_whole_row_wins() -> None:
    parts = [row(9, TaskRange(first, first + 2)) for first in range(0, 100_000, 2)]
    found = merged(
        [row(12, TaskRange(3, 4)), *parts, row(12, TaskRange(5, 6), TaskRange(8, 9)), row(12, TaskRange(4, 5))]
    )
    assert [(each.job_id, each.tasks) for each in found] == [
        (9, (TaskRange(0, 100_000),)),
        (12, (TaskRange(3, 6), TaskRange(8, 9))),
    ]
    assert [each.tasks for each in merged([row(9, TaskRange(1, 2)), row(9), row(9, TaskRange(5, 6))])] == [None]
