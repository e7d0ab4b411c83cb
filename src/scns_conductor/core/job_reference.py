"""作业号的写法：12、12_3、12_[1-5,8]（squeue(1) 的 job_id 与 array_job_id_array_task_id），异构作业的部分 12+1。"""

import re
from dataclasses import dataclass

from scns_conductor.core.array_spec import CONSECUTIVE, MAX_SCATTERED, TaskRange, parse_array

MAX_JOB_ID = 2**63 - 1
_FORM = re.compile(r"([0-9]{1,19})(?:_(\[?[0-9,:\-]+\]?)|\+([0-9]{1,6}))?")


@dataclass(frozen=True, slots=True)
class JobReference:
    """一个作业，或数组的若干任务、异构作业的一个部分；都是 None 表示整个作业（全部任务、全部部分）。"""

    job_id: int
    tasks: tuple[TaskRange, ...] | None = None
    component: int | None = None

    @property
    def whole(self) -> bool:
        """整个作业。"""
        return self.tasks is None and self.component is None


def parse_job_reference(text: str) -> JobReference | None:
    """解析；不是合法的作业号（含超出 bigint 的）返回 None。"""
    match = _FORM.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= MAX_JOB_ID:
        return None
    if match[2] is None:
        return JobReference(int(match[1]), component=None if match[3] is None else int(match[3]))
    try:
        spec = parse_array(match[2], most_written=MAX_SCATTERED)
    except ValueError:
        return None
    # 带步长的（等步长的、列出来的）换成任务号，一个任务就是一个区间。
    if spec.stride != CONSECUTIVE and len(spec) > MAX_SCATTERED:
        return None
    return JobReference(int(match[1]), spec.ids)
