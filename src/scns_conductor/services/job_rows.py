"""按作业号的写法找到要动的行，并核对是不是本人的；在调用者的事务里加锁。"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from scns_conductor.core.array_spec import (
    CONSECUTIVE,
    MOST_STRIDED,
    Stride,
    TaskRange,
    TooScattered,
    intersection,
    merge_ranges,
)
from scns_conductor.core.errors import ConductorError, Conflict, Forbidden, InvalidRequest, NotFound
from scns_conductor.core.job_reference import JobReference, parse_job_reference
from scns_conductor.core.tokens import Identity
from scns_conductor.statements.array_tasks import REMAINDERS, tasks_values
from scns_conductor.statements.job_rows import (
    COMPONENT,
    EXACT,
    STRIDED_TASKS,
    TASKS,
    WHOLE,
    any_of,
    rows_select,
)
from scns_conductor.statements.retention import IN_HISTORY

# 一批写法至多与行对这么多次。
MOST_COMPARED = 1_000_000


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


async def located(connection: AsyncConnection, references: Sequence[JobReference]) -> list[JobReference]:
    """等步长的大项（12_[0-999999:3]）在哪些还没有启动的行里，填进 held_in；大项一共太多抛 InvalidRequest。

    两边的步长在这里对上，语句不把它们列出来。
    """
    if sum(len(reference.strided) for reference in references) > MOST_STRIDED:
        raise InvalidRequest("job_id", f"一个请求里步长大于 1 的大项至多 {MOST_STRIDED} 个；请分几次")
    found = list(references)
    for index, reference in enumerate(references):
        if reference.strided:
            rows = [
                row
                for statement in REMAINDERS
                for row in await connection.execute(statement, {"array": reference.job_id})
            ]
            held = [row.job_id for row in rows if _has_any(row, reference)]
            found[index] = replace(reference, held_in=tuple(held))
    return found


def _has_any(row: Any, reference: JobReference) -> bool:
    try:
        return bool(_slots(row.array_remaining, Stride(row.array_base, row.array_step, row.listed or b""), reference))
    except TooScattered:
        return True


def _slots(remaining: Iterable[Any], stride: Stride, reference: JobReference) -> tuple[TaskRange, ...]:
    return reference.slots(stride, [TaskRange(span.lower, span.upper) for span in remaining])


def condition_of(reference: JobReference, whole: str) -> tuple[str, dict[str, Any]]:
    """这个写法（located 过的）的条件与值；整个作业的条件是 whole。"""
    if reference.tasks is not None:
        return STRIDED_TASKS if reference.strided else TASKS, tasks_values([reference])
    if reference.component is not None:
        return COMPONENT, {"job_id": reference.job_id, "component": reference.component}
    return whole, {"job_id": reference.job_id}


async def find_rows(
    connection: AsyncConnection, text: str, *, lock: bool = True, whole_array: bool = True
) -> list[JobRow]:
    """这个写法涉及的全部行：数组、异构作业的号是它的全部任务、全部部分，whole_array 为假时只是叫这个号的那一行。

    一个也没有抛 NotFound。
    """
    (reference,) = await located(connection, [job_reference(text)])
    where, values = condition_of(reference, WHOLE if whole_array else EXACT)
    rows = (await connection.execute(rows_select(where, lock=lock), values)).all()
    if not rows:
        raise await why_missing(connection, text)
    try:
        return [job_row(row, reference) for row in rows]
    except TooScattered as error:
        raise too_scattered(text, error) from None


def too_scattered(text: str, error: TooScattered) -> InvalidRequest:
    """要的任务在数组里太零散。"""
    return InvalidRequest(
        "job_id",
        f"{text[:64]} 在数组里是不相连的许多段，一次至多 {error.args[0]} 段；请写连着的任务，或分几次",
        code="tasks_too_scattered",
    )


@dataclass(slots=True)
class Found:
    """一个写法涉及的行；一个也没有时 rows 是空的，error 是这个写法自己的错误。"""

    text: str
    reference: JobReference | None
    rows: list[JobRow]
    error: ConductorError | None = None


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
    every = [each for parts in some.values() for each in parts]
    references = await located(connection, [each.reference for each in every if each.reference is not None])
    for each, reference in zip(every, references, strict=True):
        each.reference = reference
    strided = []
    for index, parts in enumerate(some.values()):
        asked = [each.reference for each in parts if each.reference is not None]
        values |= tasks_values(asked, f"array_{index}", f"tasks_{index}")
        strided.append(any(reference.strided for reference in asked))
    where = any_of(strided, components=bool(components))
    started: dict[int, list[Any]] = {}
    waiting: dict[int, list[JobRow]] = {}
    for row in await connection.execute(rows_select(where, lock=True), values):
        job_id, array, head = row.job_id, row.array_job_id, row.het_job_id
        if job_id in whole:
            whole[job_id].rows.append(job_row(row))
        if array != job_id and array in whole:
            whole[array].rows.append(job_row(row))
        if head != job_id and head in whole:
            whole[head].rows.append(job_row(row))
        if (head, row.het_job_offset) in components:
            components[head, row.het_job_offset].rows.append(job_row(row))
        if array in some and row.array_task_id is not None:
            started.setdefault(array, []).append(row)
        elif array in some:
            waiting.setdefault(array, []).append(job_row(row))
    for array, parts in some.items():
        _add_tasks(array, parts, started.get(array, []), waiting.get(array, []))
    return found


def _add_tasks(array: int, parts: Sequence[Found], started: list[Any], waiting: Sequence[JobRow]) -> None:
    """一个数组的各个写法涉及哪些行：各成一行的任务（started）与还没有启动的（waiting）。

    十万个写法、几千行也不逐个对：单独一个任务的（12_3）最多，照任务号找。
    """
    single: dict[int, Found] = {}
    several: list[tuple[Found, JobReference]] = []
    for part in parts:
        if part.reference is None:
            continue
        if (only := part.reference.single) is None:
            several.append((part, part.reference))
        else:
            part.rows = single.setdefault(only, part).rows
    if len(several) * len(waiting) > MOST_COMPARED:
        raise InvalidRequest("job_ids", f"{array} 的几个任务写在一起（{array}_[1,3-5]），或分几次")
    started.sort(key=lambda row: row.array_task_id)
    tasks = [row.array_task_id for row in started]
    for row in started:
        if row.array_task_id in single:
            single[row.array_task_id].rows.append(job_row(row))
    compared = 0
    for part, reference in several:
        chosen = sorted(reference.places(tasks), key=lambda place: started[place].job_id)
        compared += len(chosen)
        if compared > len(started) + MOST_COMPARED:
            raise InvalidRequest("job_ids", f"{array} 的任务重复写了许多遍；每个任务写一次就够了")
        part.rows += [job_row(started[place]) for place in chosen]
    spans = merge_ranges((task, task + 1) for task in single)
    slots: dict[Stride, tuple[TaskRange, ...]] = {}
    for row in waiting:
        remaining = row.remaining or ()
        wanted = slots[row.stride] if row.stride in slots else slots.setdefault(row.stride, row.stride.slots(spans))
        for span in intersection(remaining, wanted):
            for slot in range(span.lower, span.upper):
                single[row.stride.task_id(slot)].rows.append(replace(row, tasks=(TaskRange(slot, slot + 1),)))
        for part, reference in several:
            try:
                if taken := reference.slots(row.stride, remaining):
                    part.rows.append(replace(row, tasks=taken))
            except TooScattered as error:
                part.error = too_scattered(part.text, error)
    for part, _ in several:
        if part.error is not None:
            part.rows.clear()


def job_row(row: Iterable[Any], reference: JobReference | None = None) -> JobRow:
    """rows_select 的一行；reference 里写了任务的，只涉及那几个。"""
    *plain, remaining, base, step, listed = row
    if remaining is None:
        # 多数不是数组；一次两万行，省得下。
        return JobRow(*(*plain, None))
    ranges = tuple(TaskRange(span.lower, span.upper) for span in remaining)
    stride, wanted = Stride(base, step, listed or b""), None
    if reference is not None and reference.tasks is not None:
        wanted = reference.slots(stride, ranges)
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
