"""提交：一批作业一个事务；并发的单个提交合成一批（group commit），带幂等键的先占住键。"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.array_spec import format_ranges, merge_ranges
from scns_conductor.core.async_database import DRIVER_ERRORS
from scns_conductor.core.database import UNUSABLE_SESSION
from scns_conductor.core.dependency import parse_dependency
from scns_conductor.core.errors import Conflict, InvalidRequest
from scns_conductor.services.job_admission import reserve_submissions
from scns_conductor.services.job_insert import insert_jobs
from scns_conductor.statements.idempotency import CLAIM_KEYS, DROP_KEYS, FILL_KEYS, READ_KEYS
from scns_conductor.statements.job_insert import BEGIN_NOW, MARK_COMPONENTS
from scns_conductor.statements.job_update import KNOWN_JOBS

logger = logging.getLogger(__name__)

# 一批最多合多少个单独的提交；再多也不会更快，只会让先到的多等。
GROUP_LIMIT = 500


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """幂等键与请求内容的摘要。"""

    user_name: str
    key: str
    request_hash: str


async def _insert(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """在调用者的事务里写下一批作业（new_job 的结果），返回作业号，次序与给的相同。"""
    # 没有幂等键、没有要数的上限时事务里只有这一条语句：SQLAlchemy 不会另发 BEGIN 与 COMMIT，它自成一个事务。
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, asyncpg.Connection)
    try:
        return await insert_jobs(driver, rows)
    except asyncpg.PostgresError as error:
        # 不经 SQLAlchemy 的语句，它看不见：会话不能再用的，这一条与池里同时开的都丢掉。
        if error.sqlstate in UNUSABLE_SESSION:
            await connection.invalidate()
            await connection.engine.dispose()
        raise


async def _insert_all(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """全写下；有一个超过提交数的上限就抛 Conflict。"""
    for conflict in (await reserve_submissions(connection, rows)).values():
        raise conflict
    return await _insert(connection, rows)


async def require_dependencies(engine: AsyncEngine, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """所依赖的作业都要有；rows 是字段的前缀（job. 或 jobs[3].job.）-> 要求。否则抛 InvalidRequest。

    没有写依赖的不查库。
    """
    if any(row.get("dependency") for row in rows.values()):
        async with engine.connect() as connection:
            await _require_dependencies(connection, rows)


async def _require_dependencies(connection: AsyncConnection, rows: Mapping[str, Mapping[str, Any]]) -> None:
    wanted = {
        prefix: parse_dependency(row["dependency"]).job_ids for prefix, row in rows.items() if row.get("dependency")
    }
    job_ids = sorted({job_id for numbers in wanted.values() for job_id in numbers})
    if not job_ids:
        return
    known = set((await connection.execute(KNOWN_JOBS, {"job_ids": job_ids})).scalars())
    for prefix, numbers in wanted.items():
        missing = sorted(numbers - known)
        if missing:
            raise InvalidRequest(
                f"{prefix}dependency", f"没有作业 {missing[0]}；依赖的作业要先提交", code="dependency_unknown"
            )


async def submit_batch(
    engine: AsyncEngine, parts: Iterable[Mapping[str, dict[str, Any]]], claim: IdempotencyClaim | None = None
) -> list[int]:
    """一批作业，全有或全无，一个事务；parts 是一段一段的 字段的前缀（jobs[3].job.）-> 要写的行。

    边取边写：备下一段的时候，数据库在写上一段。claim 的键用过时返回当时的作业号；内容不同抛 Conflict。
    """
    async with engine.begin() as connection:
        claims = [] if claim is None else [claim]
        if (known := await _begin(connection, claims)) is not None:
            return known
        job_ids: list[int] = []
        writing: asyncio.Task[list[int]] | None = None
        try:
            for part in parts:
                if writing is not None:
                    job_ids += await writing
                    writing = None
                await _require_dependencies(connection, part)
                writing = asyncio.create_task(_insert_all(connection, list(part.values())))
                # 让它先把这一段送出去。
                await asyncio.sleep(0)
        finally:
            # 备下一段时出了错，也要等这一段写完：连接还用着。
            if writing is not None:
                job_ids += await writing
        await _fill(connection, dict.fromkeys(claims, job_ids))
        return job_ids


async def submit_components(
    engine: AsyncEngine, rows: Sequence[Mapping[str, Any]], claim: IdempotencyClaim | None = None
) -> list[int]:
    """一个异构作业的各个部分，全有或全无，一个事务；返回各个部分的作业号。claim 同 submit_batch。"""
    async with engine.begin() as connection:
        claims = [] if claim is None else [claim]
        if (known := await _begin(connection, claims)) is not None:
            return known
        await _require_dependencies(connection, {f"jobs[{index}].job.": row for index, row in enumerate(rows)})
        job_ids = await _insert_all(connection, rows)
        spans = format_ranges(merge_ranges([(job_id, job_id + 1) for job_id in job_ids]), None)
        values = {"het_job_id": job_ids[0], "het_job_id_set": spans, "job_ids": job_ids}
        await connection.execute(MARK_COMPONENTS, values)
        await _fill(connection, dict.fromkeys(claims, job_ids))
        return job_ids


async def _begin(connection: AsyncConnection, claims: Sequence[IdempotencyClaim]) -> list[int] | None:
    """开始一次全有或全无的提交：键用过的返回当时的作业号，内容不同抛 Conflict；没有用过、没有键是 None。"""
    # SQLAlchemy 到第一条语句才发 BEGIN，而写作业不经过它。
    await connection.execute(BEGIN_NOW)
    used = await _claim(connection, claims)
    return next((_known_ids(found) for found in used.values()), None)


async def _claim(
    connection: AsyncConnection, claims: Sequence[IdempotencyClaim]
) -> dict[IdempotencyClaim, list[int] | Conflict]:
    """占住幂等键；返回其中用不了的：早已用过的是当时的作业号，内容不同的是 Conflict。"""
    if not claims:
        return {}
    columns = {"user_names": [claim.user_name for claim in claims], "keys": [claim.key for claim in claims]}
    hashes = [claim.request_hash for claim in claims]
    taken = {tuple(row) for row in await connection.execute(CLAIM_KEYS, {**columns, "hashes": hashes})}
    if len(taken) == len(claims):
        return {}
    stored = {(row.user_name, row.key): row for row in await connection.execute(READ_KEYS, columns)}
    used: dict[IdempotencyClaim, list[int] | Conflict] = {}
    for claim in claims:
        row = stored[(claim.user_name, claim.key)]
        if row.request_hash != claim.request_hash:
            used[claim] = Conflict(
                f"幂等键 {claim.key!r} 已用于另一个内容不同的提交；请换一个 Idempotency-Key",
                code="idempotency_conflict",
            )
        elif (claim.user_name, claim.key) not in taken:
            used[claim] = list(row.job_ids)
    return used


def _known_ids(used: list[int] | Conflict) -> list[int]:
    if isinstance(used, Conflict):
        raise used
    return used


async def _fill(connection: AsyncConnection, job_ids: Mapping[IdempotencyClaim, Sequence[int]]) -> None:
    """记下这些键产生的作业号。"""
    if job_ids:
        await connection.execute(
            FILL_KEYS,
            {
                "user_names": [claim.user_name for claim in job_ids],
                "keys": [claim.key for claim in job_ids],
                "job_ids": [f"{{{','.join(map(str, ids))}}}" for ids in job_ids.values()],
            },
        )


async def _give_back(connection: AsyncConnection, claims: Sequence[IdempotencyClaim]) -> None:
    """没有写成的，键还可以再用。"""
    if claims:
        await connection.execute(
            DROP_KEYS,
            {"user_names": [claim.user_name for claim in claims], "keys": [claim.key for claim in claims]},
        )


@dataclass(slots=True)
class _Waiting:
    row: dict[str, Any]
    claim: IdempotencyClaim | None
    done: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SubmitQueue:
    """单个提交的合批：空闲时立即写；正在写的时候到的，合成下一批。

    一批里有人被拒（上限、幂等键），只是他被拒。数据库不收的，不知道是哪一个：对半分开再试，
    与新到的轮流，所以一个坏的只多花对数个事务，一个人的许多坏的也不让别人等。
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: list[_Waiting] = []
        self._suspects: deque[list[_Waiting]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, row: dict[str, Any], claim: IdempotencyClaim | None = None) -> int:
        """提交一个作业，返回作业号；返回时已经落盘。"""
        item = _Waiting(row, claim)
        self._waiting.append(item)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return await item.done

    async def close(self) -> None:
        """等在途的写完。"""
        if self._writer is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    async def _write_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting or self._suspects:
                batch, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
                if batch:
                    await self._attempt(batch)
                if self._suspects:
                    batch = self._suspects.popleft()
                    await self._attempt(batch)
        except BaseException as error:
            # 这个任务死了没有别人知道：等着它的当场就都失败，不会一直等下去；下一个提交另起一个。
            logger.exception("submit_writer_died")
            for item in [*batch, *self._waiting, *(item for part in self._suspects for item in part)]:
                if not item.done.done():
                    item.done.set_exception(RuntimeError(f"写提交的任务意外结束：{error!r}"))
            self._waiting = []
            self._suspects.clear()
            raise
        finally:
            self._writer = None

    async def _attempt(self, batch: list[_Waiting]) -> None:
        """写一批；数据库不在就都失败，不收其中哪一个的对半分开，留到后面再试。"""
        try:
            outcomes = await self._write(batch)
        except Exception as error:
            if len(batch) == 1 or not _blames_a_row(error):
                outcomes = [error] * len(batch)
            else:
                # 同一个人的放在一起：坏的多半是一个人的，别人的很快就整段写完。
                ordered = sorted(batch, key=lambda item: str(item.row["user_name"]))
                middle = len(ordered) // 2
                self._suspects += (ordered[:middle], ordered[middle:])
                return
        for item, outcome in zip(batch, outcomes, strict=True):
            _settle(item, outcome)

    async def _write(self, batch: Sequence[_Waiting]) -> "list[int | Exception]":
        # 同一批里同键同内容的是客户端的重送，只写一个作业。
        unique: dict[IdempotencyClaim | int, _Waiting] = {}
        for index, item in enumerate(batch):
            unique.setdefault(item.claim or index, item)
        async with self._engine.begin() as connection:
            claims = [item.claim for item in unique.values() if item.claim is not None]
            found: dict[IdempotencyClaim | int, int | Exception] = {
                claim: used if isinstance(used, Conflict) else used[0]
                for claim, used in (await _claim(connection, claims)).items()
            }
            fresh = [key for key in unique if key not in found]
            refused = await reserve_submissions(connection, [unique[key].row for key in fresh])
            found.update((fresh[index], conflict) for index, conflict in refused.items())
            dropped = [fresh[index] for index in refused]
            await _give_back(connection, [key for key in dropped if isinstance(key, IdempotencyClaim)])
            written = [key for key in fresh if key not in found]
            if written:
                job_ids = await _insert(connection, [unique[key].row for key in written])
                found.update(zip(written, job_ids, strict=True))
                await _fill(
                    connection,
                    {
                        key: [job_id]
                        for key, job_id in zip(written, job_ids, strict=True)
                        if isinstance(key, IdempotencyClaim)
                    },
                )
        return [found[item.claim or index] for index, item in enumerate(batch)]


def _settle(item: _Waiting, outcome: int | Exception) -> None:
    # 客户端断开时等待者已被取消；作业已经提交，幂等键会找到它。
    if item.done.done():
        return
    if isinstance(outcome, Exception):
        item.done.set_exception(outcome)
    else:
        item.done.set_result(outcome)


def _blames_a_row(error: Exception) -> bool:
    """是其中某一个的内容不对（数据、约束、编码），而不是数据库不在、锁等不到、只读之类：后者再试也一样。"""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return False
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        # 22 数据，23 约束，54 超过程序的上限（一行太大）。
        return str(state)[:2] in ("22", "23", "54")
    # asyncpg 编码不了的也是 InterfaceError，同时是 ValueError。
    return isinstance(cause, ValueError) or not isinstance(
        cause, (OSError, TimeoutError, SQLAlchemyError, *DRIVER_ERRORS)
    )
