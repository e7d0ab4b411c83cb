"""scns db：数据库结构的升级、降级与版本。"""

from collections.abc import Callable
from typing import TypeVar

import click
import sqlalchemy as sa

from scns_conductor import migrations
from scns_conductor.core.errors import ServiceUnavailable
from scns_conductor.core.settings import load_settings

T = TypeVar("T")


@click.group()
def db() -> None:
    """数据库结构：升级、降级、版本。"""


def _run(action: Callable[[], T]) -> T:
    try:
        return action()
    except sa.exc.OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise ServiceUnavailable(f"连不上数据库（{reason}）；请检查 SCNS_DATABASE_URL") from error


@db.command()
@click.option("--revision", default="head", show_default=True, help="升级到哪个版本")
def upgrade(revision: str) -> None:
    """升级数据库结构；已经是最新时什么也不做。"""
    _run(lambda: migrations.upgrade(load_settings(), revision))
    click.echo(_run(lambda: migrations.current(load_settings())))


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="不再问")
def downgrade(revision: str, yes: bool) -> None:
    """降级到 REVISION；base 表示清空结构。新版本才有的列与表连同其中的数据一起删除，所以先问一声（--yes 不问）。"""
    if not yes:
        found = _run(lambda: migrations.current(load_settings()))
        click.confirm(
            f"从 {found or '空库'} 降到 {revision} 会删除新版本才有的列与表连同其中的数据，不能恢复；继续吗？",
            abort=True,
        )
    _run(lambda: migrations.downgrade(load_settings(), revision))
    click.echo(_run(lambda: migrations.current(load_settings())) or "空库")


@db.command()
def current() -> None:
    """打印数据库的版本与代码要求的版本；不一致时退出码为 1。"""
    found = _run(lambda: migrations.current(load_settings()))
    click.echo(f"数据库 {found or '空库'}，代码要求 {migrations.head()}")
    if found != migrations.head():
        raise SystemExit(1)
