"""数据库结构的版本：这份代码要哪一版，数据库是哪一版。不依赖 Alembic：每个节点的代理都要看。"""

import logging
import re
import threading
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from scns_conductor.core.errors import ServiceUnavailable

# 数据库里有没有结构。
HAS_SCHEMA = sa.text("SELECT to_regclass('alembic_version') IS NOT NULL")
CURRENT_VERSION = sa.text("SELECT version_num FROM alembic_version")
# 结构不符时语句会报的：没有这一列、这张表、这个函数。
MISSING_OBJECT = frozenset({"42703", "42P01", "42883"})
RETRY_S = 2.0

logger = logging.getLogger(__name__)


class SchemaMismatch(ServiceUnavailable):
    """数据库的结构不是这份代码要的；说明里有该做什么。"""

    def __init__(self, found: str | None, wanted: str) -> None:
        super().__init__(mismatch_text(found, wanted), code="schema_mismatch", retry_after_s=10)


@lru_cache(maxsize=1)
def known_versions() -> frozenset[str]:
    """这份代码认识的版本：迁移的文件名里的号（有测试核对它们就是 Alembic 的）。"""
    folder = Path(__file__).parents[1] / "migrations" / "versions"
    return frozenset(match[1] for path in folder.iterdir() if (match := re.match(r"(\d{4})_\w+\.py$", path.name)))


def wanted_version() -> str:
    """这份代码要的版本：最新的。"""
    return max(known_versions())


def mismatch_text(found: str | None, wanted: str) -> str:
    """两个版本不同时的说明与补救。"""
    if found is None:
        return f"数据库里还没有结构，这份程序要 {wanted}；执行 scns db upgrade"
    if found > wanted:
        return f"数据库的结构是 {found}，比这份程序要的 {wanted} 新；请升级这里的 scns-conductor 并重启"
    return f"数据库的结构是 {found}，这份程序要 {wanted}；执行 scns db upgrade"


def schema_version(engine: Engine) -> str | None:
    """数据库的版本；空库是 None。"""
    with engine.connect() as connection:
        if not connection.scalar(HAS_SCHEMA):
            return None
        found: str | None = connection.scalar(CURRENT_VERSION)
        return found


def await_schema(engine: Engine, stopping: threading.Event) -> bool:
    """结构不符就等着（只说一次），符合了返回 True；stopping 先到返回 False。数据库不在时抛 DBAPIError。"""
    told = False
    while not stopping.is_set():
        found, wanted = schema_version(engine), wanted_version()
        if found == wanted:
            if told:
                logger.info("schema_ready", extra={"version": found})
            return True
        if not told:
            told = True
            logger.error(
                "schema_mismatch", extra={"found": found, "wanted": wanted, "remedy": mismatch_text(found, wanted)}
            )
        stopping.wait(RETRY_S)
    return False
