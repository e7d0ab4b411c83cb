"""归档：结束很久的作业整月地写成文件、从库里丢掉，要看时再装回来（sacctmgr archive）。

文件都在 API 的机器上、设置 archive_dir 之下：请求里写的目录出不了它。
"""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.history import HistoryArchived
from scns_conductor.core.errors import Conflict, InvalidRequest, NotFound
from scns_conductor.core.instants import utc_now
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.history_files import archive_month, load_month
from scns_conductor.services.retention import history_months, move_old_jobs, read_policy
from scns_conductor.statements.retention import following

# 一步里至多移这么久（秒），余下的下一步再移：一个请求不拖很久。
MOVE_S = 20.0


async def archive_step(
    engine: AsyncEngine, settings: Settings, identity: Identity, before: datetime | None, directory: str | None
) -> HistoryArchived:
    """走一步：把整个早于 before 的月份移进历史，或归档其中最早的一个月。

    before 缺省照保留期的 drop_after，没有定的抛 InvalidRequest；别人正在移动历史抛 Conflict（history_busy）。
    """
    folder, _ = await asyncio.to_thread(_inside, settings, "directory", directory or ".")
    if before is None:
        before = (await read_policy(engine)).drop_before
    if before is None:
        raise InvalidRequest("before", "写明归档多早的：before，或先 scns db retention set --drop-after")
    edge = min(before, utc_now()).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    moved, began = 0, time.monotonic()
    async for count in move_old_jobs(engine, edge):
        moved += count
        if time.monotonic() - began > MOVE_S:
            return {"moved": moved, "archived": None, "done": False}
    months = [month for month in await history_months(engine) if following(month) <= edge]
    if not months:
        return {"moved": moved, "archived": None, "done": True}
    archived = await archive_month(engine, identity, months[0], folder)
    return {"moved": moved, "archived": archived, "done": len(months) == 1}


async def load_archive(engine: AsyncEngine, settings: Settings, identity: Identity, folder: str) -> int:
    """装回一个归档了的月份（folder 是它的目录，可以是 archive_dir 之下的相对路径），返回多了几个作业。

    没有这个目录抛 NotFound，读不了抛 InvalidRequest，一个也没有多抛 Conflict（history_loaded）。
    """
    found, exists = await asyncio.to_thread(_inside, settings, "folder", folder)
    if not exists:
        raise NotFound(f"没有目录 {found}", code="archive_not_found")
    try:
        added = await load_month(engine, identity, found)
    except OSError as error:
        if error.filename is None:
            # 不是文件的：数据库连不上。
            raise
        raise InvalidRequest("folder", f"读不了 {error.filename}：{error.strerror}") from error
    if not added:
        raise Conflict(f"{found} 里的作业都已经在了", code="history_loaded")
    return added


def _inside(settings: Settings, name: str, text: str) -> tuple[Path, bool]:
    """archive_dir 之下的一个目录，与有没有它；出了那里、不成路径（太长、不许看）抛 InvalidRequest。会等盘。"""
    try:
        root = settings.archive_path.resolve()
        found = (root / text).resolve()
        if not found.is_relative_to(root):
            raise InvalidRequest(name, f"要在 {root} 之下（设置 archive_dir）")
        return found, found.is_dir()
    except OSError as error:
        raise InvalidRequest(name, f"读不了：{error.strerror}") from error
