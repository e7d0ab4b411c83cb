"""Alembic 迁移：升级、降级、当前版本。这里只依赖 core。"""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings

# 它每次都说自己用的是什么数据库，每一步也说一遍；失败由异常说。
logging.getLogger("alembic").setLevel(logging.WARNING)


def alembic_config(settings: Settings) -> Config:
    """不用 alembic.ini：位置与地址都从设置来。"""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["settings"] = settings
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """升级到 revision；全部在一个事务里，失败则一切照旧。"""
    command.upgrade(alembic_config(settings), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """降级到 revision（base 表示清空结构）。"""
    command.downgrade(alembic_config(settings), revision)


def current(settings: Settings) -> str | None:
    """数据库的版本；空库为 None。"""
    engine = sync_engine(settings, role="migrations", lookups=False, pooled=False, direct=True)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """代码所要求的版本。"""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    revision = ScriptDirectory.from_config(config).get_current_head()
    assert revision is not None
    return revision
