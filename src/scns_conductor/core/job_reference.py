"""作业号的写法：12、12_3、12_[1-5,8]（squeue(1) 的 job_id 与 array_job_id_array_task_id），异构作业的部分 12+1。"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from scns_conductor.core.array_spec import Stride, Strided, TaskRange, difference, intersection, parse_task_ids, union

MAX_JOB_ID = 2**63 - 1
_FORM = re.compile(r"([0-9]{1,19})(?:_(\[?[0-9,:\-]+\]?)|\+([0-9]{1,6}))?")


@dataclass(frozen=True, slots=True)
class JobReference:
    """一个作业，或数组的若干任务、异构作业的一个部分；都是 None 表示整个作业（全部任务、全部部分）。

    strided 是 tasks 之外、照写的记的大项（0-999999:3）；held_in 是还没有启动的任务里有这些大项的行，见
    services.job_rows.located。
    """

    job_id: int
    tasks: tuple[TaskRange, ...] | None = None
    component: int | None = None
    strided: tuple[Strided, ...] = ()
    held_in: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """整个作业。"""
        return self.tasks is None and self.component is None

    @property
    def single(self) -> int | None:
        """只写了一个任务的，它的号。"""
        if self.strided or self.tasks is None or len(self.tasks) != 1:
            return None
        return self.tasks[0].lower if self.tasks[0].upper - self.tasks[0].lower == 1 else None

    def places(self, task_ids: Sequence[int]) -> set[int]:
        """升序的任务号里，所写的在第几个。"""
        found = {
            place
            for span in self.tasks or ()
            for place in range(bisect_left(task_ids, span.lower), bisect_left(task_ids, span.upper))
        }
        return found.union(*([place for place, task in enumerate(task_ids) if task in each] for each in self.strided))

    def slots(self, stride: Stride, remaining: Sequence[TaskRange]) -> tuple[TaskRange, ...]:
        """一行没有启动的任务（序号）里所写的；太零散的抛 TooScattered。"""
        found = intersection(remaining, stride.slots(self.tasks or ()))
        for each in self.strided:
            found = union(found, stride.common(each, difference(remaining, found)))
        return found


def parse_job_reference(text: str) -> JobReference | None:
    """解析；不是合法的作业号（含超出 bigint 的）返回 None。"""
    match = _FORM.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= MAX_JOB_ID:
        return None
    if match[2] is None:
        return JobReference(int(match[1]), component=None if match[3] is None else int(match[3]))
    try:
        tasks, strided = parse_task_ids(match[2])
    except ValueError:
        return None
    return JobReference(int(match[1]), tasks, strided=strided)
