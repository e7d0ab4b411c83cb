"""Alembic 迁移：升级、降级、当前版本。这里只依赖 core。

scns up 每次启动都来看一眼：已经是最新的，不必为此装载 Alembic、模型与全部迁移。
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa

from scns_conductor.core.database import sync_engine
from scns_conductor.core.schema_version import schema_version, wanted_version
from scns_conductor.core.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

# 与运行中的系统互相等锁（死锁）被撤销的，至多做这么多遍。
TRIES = 10

# 它每次都说自己用的是什么数据库，每一步也说一遍；失败由异常说。
logging.getLogger("alembic").setLevel(logging.WARNING)


def alembic_config(settings: Settings) -> "Config":
    """不用 alembic.ini：位置与地址都从设置来。"""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["settings"] = settings
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """升级到 revision；全部在一个事务里，失败则一切照旧。已经是最新的什么也不做。系统可以在运行。"""
    if revision == "head" and current(settings) == wanted_version():
        return
    from alembic import command

    _again_if_deadlocked(lambda: command.upgrade(alembic_config(settings), revision))


def downgrade(settings: Settings, revision: str) -> None:
    """降级到 revision（base 表示清空结构）。"""
    from alembic import command

    _again_if_deadlocked(lambda: command.downgrade(alembic_config(settings), revision))


def _again_if_deadlocked(change: Callable[[], None]) -> None:
    """一个事务里改好几张表，运行中的系统也一次碰好几张：次序相反时服务器撤销其中一个。是我们就从头再来。"""
    for left in reversed(range(TRIES)):
        try:
            return change()
        except sa.exc.OperationalError as error:
            if left == 0 or not isinstance(error.orig, psycopg.errors.DeadlockDetected):
                raise


def current(settings: Settings) -> str | None:
    """数据库的版本；空库为 None。"""
    return schema_version(sync_engine(settings, role="migrations", lookups=False, pooled=False, direct=True))
