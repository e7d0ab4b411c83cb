"""历史的导出、归档（导出之后丢掉）与装回：一个月一个目录，一张表一个文件，CSV（pyarrow 在时也可以是 Parquet）。

目录写完才改名，不会留下半份；脚本与环境变量都在里面，只有自己能读。装回重复的不重。
"""

import asyncio
import importlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.answers.history import MonthArchived
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound, SettingsError, first_line
from scns_conductor.core.tokens import Identity
from scns_conductor.services.audit import record
from scns_conductor.statements import retention as statements
from scns_conductor.statements.archive import JOB_END, partition_of
from scns_conductor.statements.table_columns import COLUMNS

FORMATS = ("csv", "parquet")


def columns_in_history(table: str) -> tuple[str, ...]:
    """历史里这张表的列。"""
    return COLUMNS[table] if table == "jobs" else (*COLUMNS[table], JOB_END)


async def export_month(
    engine: AsyncEngine, identity: Identity, month: datetime, folder: Path, form: str = "csv"
) -> Path:
    """把一个月的历史写进 folder/2026-01，返回它。没有这个月抛 NotFound，已经有了抛 Conflict。"""
    if form not in FORMATS:
        raise InvalidRequest("format", f"应是 {'、'.join(FORMATS)} 之一")
    if form == "parquet":
        _require_pyarrow()
    target = folder / f"{month:%Y-%m}"
    if target.exists():
        raise Conflict(f"{target} 已经存在", code="export_exists")
    async with _draft(target) as draft:
        # 一个事务：各张表是同一刻的样子。
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                await _require_month(connection, month)
                kinds = {table: await _kinds(connection, table) for table in COLUMNS}
                jobs = await _write(connection, month, draft)
                told = {"folder": str(target), "jobs": jobs}
                await record(connection, identity, "history.export", f"{month:%Y-%m}", after=told)
        if form == "parquet":
            for table in COLUMNS:
                await asyncio.to_thread(_to_parquet, draft / f"{table}.csv", kinds[table])
        draft.rename(target)
    return target


async def archive_month(engine: AsyncEngine, identity: Identity, month: datetime, folder: Path) -> MonthArchived:
    """把一个月的历史写进 folder/2026-01（有了就写 2026-01.2……），从库里丢掉：一个事务，写好了才丢。

    没有这个月抛 NotFound，别人正在移动历史抛 Conflict（history_busy）。
    """
    async with engine.begin() as connection:
        # 轮到自己才碰文件：另一个正在归档的，写了一半的不许动。
        if not await connection.scalar(statements.TAKE_TURN):
            raise _busy()
        await _require_month(connection, month)
        target = _fresh(folder, f"{month:%Y-%m}")
        async with _draft(target, "archive") as draft:
            # 一个月可以很大；写的时候不许有人再改它。
            await connection.execute(statements.UNHURRIED)
            await connection.exec_driver_sql(statements.hold_partitions(month))
            jobs = await _write(connection, month, draft)
            await asyncio.to_thread(_settle, draft)
            draft.rename(target)
            await asyncio.to_thread(_settle, folder)
        await connection.exec_driver_sql(statements.drop_partitions([month]))
        await connection.execute(statements.FORGET_COUNTS, {"months": [month]})
        told = {"folder": str(target), "jobs": jobs}
        await record(connection, identity, "history.archive", f"{month:%Y-%m}", after=told)
    return {"month": f"{month:%Y-%m}", "folder": str(target), "jobs": jobs}


@asynccontextmanager
async def _draft(target: Path, kind: str = "part") -> AsyncIterator[Path]:
    """还没有写完的目录；没有改名就离开的删掉。"""
    draft = target.with_name(f".{target.name}.{kind}")
    try:
        await asyncio.to_thread(_begin, draft)
        yield draft
    except OSError as error:
        raise SettingsError(f"写不了 {target}：{error.strerror or error}") from error
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


async def _require_month(connection: AsyncConnection, month: datetime) -> None:
    if not await connection.scalar(statements.HAS_MONTH, {"name": partition_of("jobs", month)}):
        raise NotFound(f"历史里没有 {month:%Y-%m}；scns db retention 列出有哪些", code="month_not_found")


async def _write(connection: AsyncConnection, month: datetime, draft: Path) -> int:
    """各张表写成 CSV，返回几个作业。"""
    driver = await _driver(connection)
    counts = {}
    for table in COLUMNS:
        with await asyncio.to_thread(_private, draft / f"{table}.csv") as file:
            told = await driver.copy_from_query(
                statements.month_contents(table, month), output=file, format="csv", header=True, timeout=None
            )
        counts[table] = int(told.rpartition(" ")[2])
    return counts["jobs"]


def _fresh(folder: Path, name: str) -> Path:
    """还没有的名字：从前归档过、装回来又归档的，旧的不覆盖。"""
    found, number = folder / name, 2
    while found.exists():
        found, number = folder / f"{name}.{number}", number + 1
    return found


def _settle(folder: Path) -> None:
    """落到盘上：库里随后就没有了。"""
    for path in [*(each for each in folder.iterdir() if each.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _busy() -> Conflict:
    return Conflict("别的进程正在移动历史；稍后再试", code="history_busy")


def _begin(draft: Path) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)


def _private(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


async def _driver(connection: AsyncConnection) -> Any:
    """asyncpg 自己的连接：COPY 要它。"""
    return (await connection.get_raw_connection()).driver_connection


async def _kinds(connection: AsyncConnection, table: str) -> dict[str, str]:
    rows = await connection.execute(statements.COLUMN_TYPES, {"table": f"history.{table}"})
    return {row.name: row.type for row in rows}


def _require_pyarrow() -> None:
    try:
        importlib.import_module("pyarrow")
    except ImportError as error:
        raise SettingsError("Parquet 要 pyarrow：pip install 'scns-conductor[parquet]'；或用 --format csv") from error


def _to_parquet(path: Path, kinds: dict[str, str]) -> None:
    """CSV -> 同名的 Parquet；数组、JSON、字节是 PostgreSQL 写的文字。"""
    import pyarrow as pa
    from pyarrow import csv, parquet

    types = {
        "bigint": pa.int64(), "integer": pa.int32(), "double precision": pa.float64(), "real": pa.float32(),
        "boolean": pa.bool_(), "timestamp with time zone": pa.timestamp("us", "UTC"),
    }  # fmt: skip
    schema = pa.schema([(name, types.get(kind, pa.string())) for name, kind in kinds.items()])
    reader = csv.open_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=schema,
            true_values=["t"],
            false_values=["f"],
            null_values=[""],
            strings_can_be_null=True,
            # COPY 把空的文字写成 ""，没有的什么也不写。
            quoted_strings_can_be_null=False,
        ),
    )
    target = path.with_suffix(".parquet")
    _private(target).close()
    with parquet.ParquetWriter(target, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
    path.unlink()


async def load_month(engine: AsyncEngine, identity: Identity, folder: Path) -> int:
    """把导出、归档的一个目录（CSV）装回历史，返回多了几个作业；已经在的不重。不成样子抛 InvalidRequest。"""
    try:
        month = datetime.strptime(folder.name.partition(".")[0], "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidRequest("folder", f"{folder} 的名字应是月份，如 2026-01") from error
    missing = [table for table in COLUMNS if not (folder / f"{table}.csv").is_file()]
    if missing:
        raise InvalidRequest("folder", f"{folder} 里没有 {missing[0]}.csv；装回的要是导出的 CSV")
    async with engine.begin() as connection:
        if not await connection.scalar(statements.TAKE_TURN):
            raise _busy()
        await connection.execute(statements.UNHURRIED)
        if not await connection.scalar(statements.HAS_MONTH, {"name": partition_of("jobs", month)}):
            for statement in statements.month_partitions(month):
                await connection.exec_driver_sql(statement)
        driver = await _driver(connection)
        added = 0
        for table in COLUMNS:
            try:
                inserted = await _take_in(connection, driver, table, folder / f"{table}.csv")
            except (UnicodeDecodeError, asyncpg.PostgresError, sa.exc.DBAPIError) as error:
                if (malformed := _malformed(error)) is None:
                    raise
                raise InvalidRequest("folder", f"{table}.csv 不成样子：{malformed}") from error
            added += inserted if table == "jobs" else 0
        await connection.execute(statements.FORGET_COUNTS, {"months": [month]})
        await connection.execute(statements.COUNT_MONTH, {"month": month, "until": statements.following(month)})
        if added:
            told = {"folder": str(folder), "jobs": added}
            await record(connection, identity, "history.load", f"{month:%Y-%m}", after=told)
    return added


async def _take_in(connection: AsyncConnection, driver: Any, table: str, path: Path) -> int:
    """装回一张表，返回多了几行。"""
    chosen = await asyncio.to_thread(_header, path)
    unknown = sorted(set(chosen) - set(columns_in_history(table)))
    if unknown:
        raise InvalidRequest("folder", f"{table}.csv 里有不认识的列 {unknown[0]}：它来自更新的版本")
    await connection.exec_driver_sql(statements.incoming_table(table))
    with path.open("rb") as file:
        await driver.copy_to_table("incoming", source=file, columns=chosen, format="csv", header=True)
    inserted = await connection.exec_driver_sql(statements.keep_incoming(table, chosen))
    await connection.execute(statements.DROP_INCOMING)
    return inserted.rowcount


def _malformed(error: Exception) -> str | None:
    """文件的内容不对（不是 UTF-8，SQLSTATE 22、23 类）的说明；别的错是 None。"""
    found = getattr(error, "orig", None) or error
    state = getattr(found, "sqlstate", None)
    if isinstance(error, UnicodeDecodeError) or (state or "").startswith(("22", "23")):
        return first_line(error)
    return None


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [name.strip('"') for name in file.readline().rstrip("\n").split(",")]
