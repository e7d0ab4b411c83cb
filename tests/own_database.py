"""共用的引擎里的数据库：照迁移好的样板新建。"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg

from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines

TEMPLATE = "scns_migrated"


def execute(engines: Engines, statement: str) -> None:
    """在管理库里执行一条语句。"""
    with psycopg.connect(engines.database_url, autocommit=True) as connection:
        connection.execute(statement)


def settings_for(engines: Engines, database: str, data_dir: Path) -> Settings:
    """指向某个数据库的设置。"""
    url = engines.database_url.replace("@/scns?", f"@/{database}?")
    return Settings(
        database_url=url,
        redis_url=engines.redis_url,
        data_dir=data_dir,
        script_dir=data_dir / "scripts",
        single_user=True,
        allow_root_jobs=True,
    )


@contextlib.contextmanager
def own_database(engines: Engines, name: str, data_dir: Path) -> Iterator[Settings]:
    """叫 name 的新数据库，离开时删掉。"""
    execute(engines, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    try:
        yield settings_for(engines, name, data_dir)
    finally:
        execute(engines, f"DROP DATABASE {name} WITH (FORCE)")


def variables(settings: Settings) -> dict[str, str]:
    """指向它的环境变量。"""
    return {
        "SCNS_DATABASE_URL": settings.database_url.get_secret_value(),
        "SCNS_REDIS_URL": settings.redis_url.get_secret_value(),
    }
