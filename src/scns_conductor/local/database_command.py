"""scns db：数据库结构的升级、降级与版本；备份与恢复。"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import psycopg
import sqlalchemy as sa

from scns_conductor import migrations
from scns_conductor.cli.say import say
from scns_conductor.core.errors import Conflict, ServiceUnavailable, first_line
from scns_conductor.core.schema_version import wanted_version
from scns_conductor.core.settings import current_user_name, load_settings
from scns_conductor.local.command_audit import record_command
from scns_conductor.local.retention_command import retention_command
from scns_conductor.migrations import backup as backups
from scns_conductor.migrations.reporting import grant_reporting

T = TypeVar("T")


@click.group()
def db() -> None:
    """数据库：结构的升级、降级、版本；备份与恢复。"""


db.add_command(retention_command)


def _run(action: Callable[[], T]) -> T:
    try:
        return action()
    except sa.exc.OperationalError as error:
        reason = first_line(error)
        if isinstance(error.orig, psycopg.Error) and error.orig.sqlstate is not None:
            # 连上了，做不成：锁等不到、盘满、停机。
            raise ServiceUnavailable(f"数据库没有做成（{reason}）") from error
        raise ServiceUnavailable(f"连不上数据库（{reason}）；请检查 SCNS_DATABASE_URL") from error


@db.command()
@click.option("--revision", default="head", show_default=True, help="升级到哪个版本")
def upgrade(revision: str) -> None:
    """升级数据库结构；已经是最新时什么也不做。"""
    before = _run(lambda: migrations.current(load_settings()))
    _run(lambda: migrations.upgrade(load_settings(), revision))
    after = _run(lambda: migrations.current(load_settings()))
    click.echo(after)
    if after != before and after == wanted_version():
        record_command(load_settings(), "database.upgrade", str(after), {"from": before})


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="不再问")
def downgrade(revision: str, yes: bool) -> None:
    """降级到 REVISION；base 表示清空结构。新版本才有的列与表连同其中的数据一起删除，所以先问一声（--yes 不问）。"""
    found = _run(lambda: migrations.current(load_settings()))
    if not yes:
        click.confirm(
            f"从 {found or '空库'} 降到 {revision} 会删除新版本才有的列与表连同其中的数据，不能恢复；继续吗？",
            abort=True,
        )
    if found is not None:
        # 先记：降下去之后也许没有这张表了。
        record_command(load_settings(), "database.downgrade", revision, {"from": found})
    _run(lambda: migrations.downgrade(load_settings(), revision))
    say(_run(lambda: migrations.current(load_settings())) or "空库")


@db.command()
def current() -> None:
    """打印数据库的版本与代码要求的版本；不一致时退出码为 1。"""
    found = _run(lambda: migrations.current(load_settings()))
    say(f"数据库 {found or '空库'}，代码要求 {wanted_version()}")
    if found != wanted_version():
        raise SystemExit(1)


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="FILE 已经存在时换掉它")
def backup(file: Path, force: bool) -> None:
    """把整个数据库备份到 FILE（pg_dump 的 custom 格式，0600）；系统照常运行。"""
    size = _run(lambda: backups.backup(load_settings(), file, overwrite=force))
    record_command(load_settings(), "database.backup", str(file.absolute()), {"bytes": size})
    click.echo(f"{file}：{size / 1024**2:.1f} MiB")


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="数据库不是空的、还有进程连着时也恢复，不再问")
def restore(file: Path, force: bool) -> None:
    """换成 FILE 里的样子：全有或全无；节点随后自己核对进程，作业号不倒退。

    API 与 worker 的调度进程应先停下；节点的代理可以开着，运行中的作业照跑。
    """
    settings = load_settings()
    before = _run(lambda: backups.occupancy(settings))
    tools = _run(lambda: backups.readable_tools(settings, file, before.major))
    objections = before.objections()
    if objections and not force:
        if not sys.stdin.isatty():
            raise Conflict("；".join(objections) + "。确实要恢复请加 --force")
        say("\n".join(objections), err=True)
        click.confirm("确实要恢复吗？", abort=True, err=True)
    done = _run(lambda: backups.restore(settings, file, tools, before))
    record_command(settings, "database.restore", str(file.absolute()), {"incarnation": done.incarnation})
    _tell(done)


@db.command(name="reporting-role")
@click.argument("role")
def reporting_role(role: str) -> None:
    """让数据库的角色 ROLE 只看得到 reporting 的视图（给 BI 工具）；没有就建一个，口令另外用 psql 的 \\password 定。

    视图里没有脚本、环境、参数、输出。恢复备份之后要再运行一遍。
    """
    created = _run(lambda: grant_reporting(load_settings(), role, current_user_name()))
    say(f"{'建了' if created else '有了'}角色 {role}：只读，只看得到 reporting 的视图")


@db.command()
def restored() -> None:
    """数据库刚由别的办法（时间点恢复、快照）回到了从前：立即换化身，不等节点发现。"""
    done = _run(lambda: backups.declare_restored(load_settings(), "scns db restored"))
    record_command(load_settings(), "database.restored", "database", {"incarnation": done.incarnation})
    _tell(done)


def _tell(done: backups.Restored) -> None:
    states = "，".join(f"{state} {count}" for state, count in done.by_state.items()) or "没有"
    say(f"作业：{states}")
    say(f"新的化身 {done.incarnation}，下一个作业号从 {done.next_job_id} 起")
    say("各节点在一次心跳之内自己核对：认得的作业接着跑，不认得的按 foreign_jobs 处理")
