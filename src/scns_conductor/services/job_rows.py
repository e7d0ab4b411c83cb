"""按作业号的写法找到要动的行，并核对是不是本人的；在调用者的事务里加锁。"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.array_spec import CONSECUTIVE, Stride, TaskRange, intersection, merge_ranges
from scns_conductor.core.errors import ConductorError, Conflict, Forbidden, NotFound
from scns_conductor.core.job_reference import JobReference, parse_job_reference
from scns_conductor.core.tokens import Identity
from scns_conductor.statements.array_tasks import multirange_text
from scns_conductor.statements.job_rows import COMPONENT, EXACT, TASKS, WHOLE, any_of, rows_select
from scns_conductor.statements.retention import IN_HISTORY


@dataclass(frozen=True, slots=True)
class JobRow:
    """要动的一行。tasks 不为 None 时只涉及这一行里还没有启动的这些任务；remaining 与 tasks 是序号。"""

    job_id: int
    user_name: str
    state: str
    hold: str | None
    revision: int
    restart_count: int
    array_job_id: int | None
    array_task_id: int | None
    het_job_id: int | None
    het_job_offset: int
    requeue: bool
    interactive: bool
    requested_end_state: str | None
    batch_host: str | None
    time_limit: int | None
    partition: str
    account: str | None
    start_time: Any
    remaining: tuple[TaskRange, ...] | None
    stride: Stride = CONSECUTIVE
    tasks: tuple[TaskRange, ...] | None = None

    @property
    def partial(self) -> bool:
        """只涉及这一行里还没有启动的一部分任务。"""
        return self.tasks is not None and self.tasks != self.remaining

    @property
    def label(self) -> str:
        """给人看的作业号。"""
        if self.het_job_id is not None:
            return f"{self.het_job_id}+{self.het_job_offset}"
        return str(self.job_id) if self.array_task_id is None else f"{self.array_job_id}_{self.array_task_id}"


def job_reference(text: str) -> JobReference:
    """解析作业号；不合法的当作不存在，抛 NotFound。"""
    found = parse_job_reference(text)
    if found is None:
        raise job_not_found(text)
    return found


def job_not_found(text: str) -> NotFound:
    """没有这个作业。"""
    return NotFound(f"没有作业 {text[:64]}；用 GET /jobs 或 scns jobs 查看现有的作业", code="job_not_found")


async def why_missing(connection: AsyncConnection, text: str) -> ConductorError:
    """没有可动的行，是因为没有这个作业，还是已经移进了历史。"""
    reference = parse_job_reference(text)
    if reference is not None and await connection.scalar(IN_HISTORY, {"job_id": reference.job_id}) is not None:
        return Conflict(
            f"作业 {text[:64]} 早已结束，在历史里，只能看；要再运行请重新提交（脚本还看得到）",
            code="job_archived",
        )
    return job_not_found(text)


async def find_rows(
    connection: AsyncConnection, text: str, *, lock: bool = True, whole_array: bool = True
) -> list[JobRow]:
    """这个写法涉及的全部行：数组、异构作业的号是它的全部任务、全部部分，whole_array 为假时只是叫这个号的那一行。

    一个也没有抛 NotFound。
    """
    reference = job_reference(text)
    values: dict[str, Any] = {"job_id": reference.job_id}
    where = WHOLE if whole_array else EXACT
    if reference.tasks is not None:
        where, values["tasks"] = TASKS, multirange_text(reference.tasks)
    elif reference.component is not None:
        where, values["component"] = COMPONENT, reference.component
    rows = (await connection.execute(rows_select(where, lock=lock), values)).all()
    if not rows:
        raise await why_missing(connection, text)
    return [job_row(row, reference) for row in rows]


@dataclass(slots=True)
class Found:
    """一个写法涉及的行；一个也没有时 rows 是空的。"""

    text: str
    reference: JobReference | None
    rows: list[JobRow]


async def find_each(connection: AsyncConnection, texts: Sequence[str]) -> list[Found]:
    """一批写法各涉及哪些行，一条语句一起加锁；写得不对的、没有的，rows 是空的。"""
    found = [Found(text, parse_job_reference(text), []) for text in dict.fromkeys(texts)]
    whole: dict[int, Found] = {}
    some: dict[int, list[Found]] = {}
    components: dict[tuple[int, int], Found] = {}
    for each in found:
        if each.reference is None:
            continue
        if each.reference.whole:
            # 012 与 12 是同一个。
            each.rows = whole.setdefault(each.reference.job_id, each).rows
        elif each.reference.component is not None:
            each.rows = components.setdefault((each.reference.job_id, each.reference.component), each).rows
        else:
            some.setdefault(each.reference.job_id, []).append(each)
    values: dict[str, Any] = {"job_ids": list(whole)}
    if components:
        values |= {"het_job_ids": [pair[0] for pair in components], "components": [pair[1] for pair in components]}
    for index, (array, parts) in enumerate(some.items()):
        spans = [(span.lower, span.upper) for part in parts for span in _tasks(part)]
        values |= {f"array_{index}": array, f"tasks_{index}": multirange_text(merge_ranges(spans))}
    where = any_of(list(some), components=bool(components))
    rows = (await connection.execute(rows_select(where, lock=True), values)).all()
    # 只要一个任务的（12_3）最多：按任务号查，不逐个求交。
    single = {(array, span.lower): part for array, parts in some.items() for part in parts if (span := _single(part))}
    several = {array: [part for part in parts if _single(part) is None] for array, parts in some.items()}
    for row in rows:
        job_id, array, task = row.job_id, row.array_job_id, row.array_task_id
        if job_id in whole:
            whole[job_id].rows.append(job_row(row))
        if array != job_id and array in whole:
            whole[array].rows.append(job_row(row))
        head, offset = row.het_job_id, row.het_job_offset
        if head != job_id and head in whole:
            whole[head].rows.append(job_row(row))
        if (head, offset) in components:
            components[head, offset].rows.append(job_row(row))
        if array not in some:
            continue
        if task is not None:
            parts = [part for part in several[array] if any(one.lower <= task < one.upper for one in _tasks(part))]
            parts += [single[array, task]] if (array, task) in single else []
        else:
            parts = some[array]
        for part in parts:
            taken = job_row(row, part.reference)
            if task is not None or taken.tasks:
                part.rows.append(taken)
    return found


def _tasks(found: Found) -> tuple[TaskRange, ...]:
    return (found.reference.tasks or ()) if found.reference is not None else ()


def _single(found: Found) -> TaskRange | None:
    tasks = _tasks(found)
    return tasks[0] if len(tasks) == 1 and tasks[0].upper - tasks[0].lower == 1 else None


def job_row(row: Iterable[Any], reference: JobReference | None = None) -> JobRow:
    """rows_select 的一行；reference 里写了任务的，只涉及那几个。"""
    *plain, remaining, base, step, listed = row
    if remaining is None:
        # 多数不是数组；一次两万行，省得下。
        return JobRow(*(*plain, None))
    ranges = tuple(TaskRange(span.lower, span.upper) for span in remaining)
    stride, wanted = Stride(base, step, listed or b""), None
    if reference is not None and reference.tasks is not None:
        wanted = intersection(ranges, stride.slots(reference.tasks))
    return JobRow(*(*plain, ranges, stride, wanted))


def require_whole(text: str, rows: Sequence[JobRow]) -> None:
    """只写了异构作业的一个部分（12+1，或它自己的作业号）而要动的是整个的，抛 Conflict。"""
    for row in rows:
        if row.het_job_id is not None and all(other.job_id != row.het_job_id for other in rows):
            raise Conflict(
                f"作业 {text} 是异构作业 {row.het_job_id} 的一个部分，只能整个地做；请写 {row.het_job_id}",
                code="het_job_component",
            )


def require_owner(rows: Sequence[JobRow], identity: Identity) -> None:
    """只有本人、它的账户的协调人与管理员能动，令牌限了账户的只动那个账户的；否则抛 Forbidden。"""
    for row in rows:
        if identity.manages(row.user_name, row.account):
            continue
        if row.user_name == identity.user_name:
            raise Forbidden(f"这个令牌只管账户 {identity.account} 的作业，{row.label} 不是", code="token_scope")
        raise Forbidden(f"作业 {row.label} 属于 {row.user_name}，你不能改动它", code="not_job_owner")


def require_self(rows: Sequence[JobRow], identity: Identity) -> None:
    """以作业的用户的身份运行东西（建立作业步、接上它的输入）：Operator、协调人管得了作业也不行，抛 Forbidden。"""
    require_owner(rows, identity)
    for row in rows:
        if row.user_name != identity.user_name and not identity.admin:
            raise Forbidden(f"作业 {row.label} 属于 {row.user_name}，只有他能在里面运行东西", code="not_job_owner")
