"""列出作业的语句：条件、分支、次序、一页。

每一行由 PostgreSQL 直接拼成 JSON，Python 不逐行造对象：十万行的 squeue 才快得起来。
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.job_reference import JobReference
from scns_conductor.core.models import DEFAULT_PARTITION
from scns_conductor.core.states import ACTIVE_STATES, JobState
from scns_conductor.statements.archive import archived, columns_of
from scns_conductor.statements.array_tasks import tasks_condition, tasks_values
from scns_conductor.statements.conditions import ACTIVE, states
from scns_conductor.statements.job_detail import FIELDS, json_of
from scns_conductor.statements.job_rows import ANY_COMPONENT

# 这么多以内算不多几个。
FEW = 10_000
# 可以按它排序的列 -> 类型。
SORT_KEYS = {
    "job_id": "bigint",
    "submit_time": "timestamptz",
    "start_time": "timestamptz",
    "end_time": "timestamptz",
    "name": "text",
    "user_name": "text",
    "state": "text",
}
_LIVE = frozenset({JobState.PENDING, *ACTIVE_STATES})
# 条件 -> 要等于它的列。
EQUALS = {"user": "user_name", "account": "account", "name": "name", "qos": "qos"}

# 缺省之外的分区的写法只有几种：沿索引一种一种地跳，不走过每个作业。
_WORDS = f"""
    words(word) AS (
      (SELECT partition FROM jobs WHERE partition <> '{DEFAULT_PARTITION}' ORDER BY partition LIMIT 1)
      UNION ALL
      SELECT (SELECT partition FROM jobs WHERE partition <> '{DEFAULT_PARTITION}' AND partition > word
              ORDER BY partition LIMIT 1)
      FROM words WHERE word IS NOT NULL
    )
"""
# 要的这几个分区（:words）在作业里的写法，连同历史里的。
PARTITION_WORDS = sa.text(
    f"""
    WITH RECURSIVE {_WORDS}, {archived(_WORDS.replace("words", "past_words"))}
    SELECT word FROM (SELECT word FROM words UNION SELECT word FROM past_words) AS every
    WHERE string_to_array(word, ',') && CAST(:words AS text[])
    """
)


@dataclass(frozen=True, slots=True)
class JobConditions:
    """状态之外的条件，已经解析；没有写的是 None 或不在其中，写了而是空的一个也不要。

    equals 是 EQUALS 的键 -> 值；partitions 是分区的名字，partition_words 是它们在作业里的写法（见 PARTITION_WORDS）；
    times 是 submit_after 等 -> 时刻。folded 为真时一个数组只有数组行。
    """

    equals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    partitions: Sequence[str] | None = None
    partition_words: Sequence[str] | None = None
    nodes: Sequence[str] | None = None
    references: Sequence[JobReference] | None = None
    times: Mapping[str, datetime] = field(default_factory=dict)
    folded: bool = False

    def sql(self) -> tuple[list[str], dict[str, Any]]:
        """各个条件，与其中的值。"""
        where: list[str] = []
        values: dict[str, Any] = {}
        for key, words in self.equals.items():
            # 只有一个值时写成等号：索引本来就按作业号排好，不必再排。
            one = len(words) == 1
            where.append(f"{EQUALS[key]} = :{key}" if one else f"{EQUALS[key]} = ANY(CAST(:{key} AS text[]))")
            values[key] = words[0] if one else list(words)
        if self.partition_words is not None:
            one = len(self.partition_words) == 1
            where.append(f"partition <> '{DEFAULT_PARTITION}'")
            where.append("partition = :partition" if one else "partition = ANY(CAST(:partition AS text[]))")
            values["partition"] = self.partition_words[0] if one else list(self.partition_words)
        elif self.partitions is not None:
            where.append("string_to_array(partition, ',') && CAST(:partition AS text[])")
            values["partition"] = list(self.partitions)
        if self.nodes is not None:
            where.append(
                "job_id IN (SELECT job_id FROM resource_allocations WHERE node_name = ANY(CAST(:node AS text[])))"
            )
            values["node"] = list(self.nodes)
        if self.references is not None:
            where.append(_reference_condition(self.references, values))
        if self.folded:
            where.append("(array_job_id IS NULL OR array_job_id = job_id)")
        for name, instant in self.times.items():
            key, side = name.split("_")
            where.append(f"{key}_time {'>=' if side == 'after' else '<'} CAST(:{name} AS timestamptz)")
            values[name] = instant
            if name == "start_after":
                # 开始得不比它早的，要么还在运行，要么结束得也不比它早：这样就用得上结束时刻与运行中的索引。
                where.append(f"(state IN {ACTIVE} OR end_time >= CAST(:start_after AS timestamptz))")
        return where, values


def _reference_condition(references: Sequence[JobReference], values: dict[str, Any]) -> str:
    values["ids"] = [reference.job_id for reference in references if reference.whole]
    parts = [f"{name} = ANY(CAST(:ids AS bigint[]))" for name in ("job_id", "array_job_id", "het_job_id")]
    pieces = [reference for reference in references if reference.component is not None]
    if pieces:
        parts.append(ANY_COMPONENT)
        values["het_job_ids"] = [reference.job_id for reference in pieces]
        values["components"] = [reference.component for reference in pieces]
    for index, reference in enumerate(reference for reference in references if reference.tasks is not None):
        names = f"array{index}", f"tasks{index}"
        parts.append(tasks_condition(*names, strided=bool(reference.strided)))
        values |= tasks_values([reference], *names)
    return f"({' OR '.join(parts)})"


# 一页的语句有一万个字符，找出其中的绑定比数据库执行它还久；问法不多，记着。
_text = functools.lru_cache(maxsize=256)(sa.text)


def few_count(where: Sequence[str]) -> sa.TextClause:
    """这些条件挑出几个作业，数到 FEW 之上就停。"""
    found = f"(SELECT FROM jobs WHERE {' AND '.join(where)} LIMIT {FEW + 1})"
    return _text(f"SELECT count(*) FROM ({found} UNION ALL {archived(found)}) AS f")


@dataclass(frozen=True, slots=True)
class JobPage:
    """哪一页：按 key 排（descending 从大到小），fields 里的字段；rows 时每行是一个数组，否则是对象。"""

    key: str
    descending: bool
    limit: int
    fields: Sequence[str]
    rows: bool


def jobs_page(
    page: JobPage,
    chosen_states: Sequence[JobState],
    conditions: JobConditions,
    *,
    few: bool,
    after: tuple[Any, int] | None,
) -> tuple[sa.TextClause, dict[str, Any]]:
    """一页作业（多取一行，看有没有下一页）：每行是 JSON、作业号、排序的值。

    few 是说条件挑出的只有不多几个；after 是上一页最后一行的（排序的值，作业号）。
    """
    key = page.key
    direction, comparison = ("DESC", "<") if page.descending else ("ASC", ">")
    where, values = conditions.sql()
    if key in ("start_time", "end_time"):
        where.append(f"{key} IS NOT NULL")
    # 文字的列上索引是（列从大到小，作业号），倒着走：相同的新的在前，倒过来排时旧的在前，都沿着索引走。
    text_key = SORT_KEYS[key] == "text"
    # 提交、开始得不比它早的，结束得也不比它早：历史按结束的时刻分区，只看得着的几个月。
    later = [name for name in conditions.times if name in ("submit_after", "start_after")]
    bound = "".join(f"end_time >= CAST(:{name} AS timestamptz) AND " for name in later)
    tie = ("ASC" if page.descending else "DESC") if text_key else direction
    parts = [where] if after is None else _following(key, comparison, where, values, after)
    order = f"job_id {direction}" if key == "job_id" else f"{key} {direction}, job_id {tie}"
    cursor_value = "NULL" if key == "job_id" else f"{key}::text"
    one_page = f"ORDER BY {order} LIMIT {page.limit + 1}"
    pages = [
        # OFFSET 0：先挑出来，再排。
        f"(SELECT {columns_of('jobs')} FROM jobs WHERE {' AND '.join([branch, *part])} "
        f"{'OFFSET 0' if few else one_page})"
        for branch in _branches(chosen_states, key == "job_id")
        for part in parts
    ]
    # 没有结束的不会在历史里。
    if not chosen_states or not _LIVE.issuperset(chosen_states):
        pages += [archived(page.replace("WHERE ", f"WHERE {bound}", 1)) for page in pages]
    found = " UNION ALL ".join(pages)
    shown = _array_of(page.fields) if page.rows else json_of({name: FIELDS[name] for name in page.fields})
    # 字符串参数里的冒号不会被当成绑定：条件都经绑定传入，这里只有固定的表达式。
    statement = (
        f"SELECT {shown}, "
        f"cursor_id, cursor_value FROM (SELECT *, job_id AS cursor_id, {cursor_value} AS cursor_value "
        f"FROM ({found}) AS jobs {one_page}) AS j"
    )
    return _text(statement), values


def _following(
    key: str, comparison: str, where: list[str], values: dict[str, Any], after: tuple[Any, int]
) -> list[list[str]]:
    """上一页之后的：各段的条件，合起来不重不漏。"""
    values["last_id"] = after[1]
    last_id = "CAST(:last_id AS bigint)"
    if key == "job_id":
        return [[*where, f"job_id {comparison} {last_id}"]]
    values["last_value"] = after[0]
    last_value = f"CAST(:last_value AS {SORT_KEYS[key]})"
    if SORT_KEYS[key] != "text":
        return [[*where, f"({key}, job_id) {comparison} ({last_value}, {last_id})"]]
    # 方向相反的两列不能写成一个行的比较；分成两段，各沿索引取一页，与翻到多深无关。
    back = "<" if comparison == ">" else ">"
    return [
        [*where, f"{key} = {last_value}", f"job_id {back} {last_id}"],
        [*where, f"{key} {comparison} {last_value}"],
    ]


def _branches(chosen: Sequence[JobState], by_job_id: bool) -> list[str]:
    """状态的条件；不止一个时各查各的再合起来。

    只有几个词，核对过：直接写进语句，规划器才知道这个状态有多少行，也用得上部分索引。几种少见的状态按作业号取一页，合成一个条件时
    规划器以为它们散得均匀，沿主键走过一百万个结束的；各自沿索引取一页则与历史多长无关。
    """
    if not chosen:
        return ["true"]
    if len(chosen) == 1 or (by_job_id and JobState.COMPLETED not in chosen):
        return [f"state IN {states({state})}" for state in chosen]
    return [f"state IN {states(chosen)}"]


def _array_of(names: Sequence[str]) -> str:
    """各个字段的值排成的 JSON 数组。"""
    return f"json_build_array({', '.join(FIELDS[name] for name in names)})::text"
