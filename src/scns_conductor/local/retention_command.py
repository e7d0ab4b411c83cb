"""scns db retention：保留期是多久，什么在哪里，当场做一遍，导出与装回。"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import click
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.api.database_problem import database_error
from scns_conductor.cli.say import say
from scns_conductor.cli.table import show_table
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.errors import ServiceUnavailable
from scns_conductor.core.settings import current_user_name, load_settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services import history_files, retention

T = TypeVar("T")
_UNITS = {"d": 86400, "h": 3600, "w": 7 * 86400}


class Age(click.ParamType[int]):
    """多久：90d、12w、36h、never。"""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """秒；never 是 0。"""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        if text == "never":
            return 0
        unit = _UNITS.get(text[-1:], 86400)
        digits = text.rstrip("dhw")
        if not digits.isdecimal() or not 0 < int(digits) <= 100_000:
            self.fail("应如 90d、12w、36h 或 never", param, ctx)
        return int(digits) * unit


class Month(click.ParamType[datetime]):
    """月份：2026-01。"""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """那个月的开头（UTC）。"""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.strptime(str(value), "%Y-%m").replace(tzinfo=UTC)
        except ValueError:
            self.fail("应如 2026-01", param, ctx)


def _run(action: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    async def do() -> T:
        engine = async_engine(load_settings(), direct=True)
        try:
            try:
                # 先连一下：连不上的不当作读写文件的错。
                await (await engine.connect()).close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise ServiceUnavailable(f"连不上数据库（{error}）；请检查 SCNS_DATABASE_URL") from error
            return await action(engine)
        except sa.exc.SQLAlchemyError as error:
            found = await database_error(error, engine)
            if found is None:
                raise
            raise found from error
        finally:
            await engine.dispose()

    return asyncio.run(do())


def _who() -> Identity:
    """审计里写的：在这台机器上运行命令的系统用户。"""
    return Identity(current_user_name(), admin=True, method="command")


@click.group(name="retention", invoke_without_command=True)
@click.pass_context
def retention_command(context: click.Context) -> None:
    """保留期：结束的作业多久之后移进历史、多久之后丢掉；不写子命令就打印现在的样子。

    历史按结束的月份分区；sacct、scns show、sreport、GET /jobs 照样看得到，直到丢掉为止（用量的汇总不丢）。
    """
    if context.invoked_subcommand is None:
        _show()


def _show() -> None:
    policy = _run(retention.read_policy)
    found = _run(retention.whereabouts)
    say(f"移进历史：{_age(policy.move_after_s)}；丢掉：{_age(policy.drop_after_s)}")
    hot = found["hot"]
    oldest = hot["oldest"].astimezone().strftime("%Y-%m-%d") if hot["oldest"] else "-"
    say(f"平常的表：约 {hot['jobs']} 个作业，{_size(sum(hot['bytes'].values()))}，最早的结束于 {oldest}")
    rows = [
        (
            f"{each['month']:%Y-%m}",
            str(sum(each["jobs"].values())),
            _size(each["bytes"]),
            " ".join(f"{state}={count}" for state, count in each["jobs"].items() if count),
        )
        for each in found["months"]
    ]
    show_table(("月份", "作业", "占用", "状态"), rows, "历史是空的")


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "从不"
    return f"结束 {seconds // 86400} 天之后" if seconds % 86400 == 0 else f"结束 {seconds / 3600:g} 小时之后"


def _size(count: int) -> str:
    return f"{count / 1024**3:.2f} GiB" if count >= 1024**3 else f"{count / 1024**2:.1f} MiB"


@retention_command.command(name="set")
@click.option("--move-after", type=Age(), help="结束这么久之后移进历史，如 90d、12w、36h；never 不移")
@click.option("--drop-after", type=Age(), help="结束这么久之后从历史里丢掉；never 不丢")
def set_policy(move_after: int | None, drop_after: int | None) -> None:
    """定下保留期；没有写的不变。API 进程每 10 分钟照它做一遍。"""
    if move_after is None and drop_after is None:
        raise click.UsageError("要写 --move-after 或 --drop-after")

    async def change(engine: AsyncEngine) -> None:
        now = await retention.read_policy(engine)
        await retention.set_policy(
            engine,
            _who(),
            now.move_after_s if move_after is None else move_after or None,
            now.drop_after_s if drop_after is None else drop_after or None,
        )

    _run(change)
    _show()


@retention_command.command()
def run() -> None:
    """现在就照保留期做一遍；不歇，做完为止。"""
    moved, dropped = _run(lambda engine: retention.apply_policy(engine, gently=False))
    say(f"移进历史 {moved} 个；丢掉的月份：{'、'.join(f'{month:%Y-%m}' for month in dropped) or '没有'}")


@retention_command.command()
@click.argument("month", type=Month())
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(history_files.FORMATS), default="csv", show_default=True, help="格式"
)
def export(month: datetime, folder: Path, form: str) -> None:
    """把历史里的一个月（如 2026-01）导出到 FOLDER/2026-01：一张表一个文件，0600（脚本与环境变量都在里面）。"""
    click.echo(_run(lambda engine: history_files.export_month(engine, _who(), month, folder, form)))


@retention_command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def load(folder: Path) -> None:
    """把导出的一个月（CSV 的目录，名字是月份）装回历史；已经在的不重。"""
    say(f"装回 {_run(lambda engine: history_files.load_month(engine, _who(), folder))} 个作业")


@retention_command.command(name="bring-back")
@click.argument("job_ids", nargs=-1, type=click.IntRange(min=1))
def bring_back(job_ids: tuple[int, ...]) -> None:
    """把历史里的作业放回平常的表：JOB_IDS 这些（连同它们的数组），缺省是全部（降级之前）。

    先把移进历史的期限放长，否则又会移走。
    """

    async def back(engine: AsyncEngine) -> int:
        total = 0
        while found := await retention.bring_back(engine, _who(), list(job_ids) or None):
            total += found
        return total

    say(f"放回 {_run(back)} 个作业")
