"""两个数据库引擎：API 用 asyncpg，Worker 用 psycopg 3；同一个地址，换驱动即可。"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import Settings

APPLICATION_NAME = "scns-conductor"
# Worker 的语句都是「给出一批作业号，各自去找」：表还小时定下的「从头扫」，表长大了也不许沿用。
_LOOKUPS = "-c enable_seqscan=off"


def database_url(settings: Settings, driver: str) -> URL:
    """设置里的地址换上 driver（psycopg 或 asyncpg）；写错时抛 SettingsError。"""
    try:
        url = make_url(settings.database_url.get_secret_value())
    except sa.exc.ArgumentError as error:
        raise SettingsError("SCNS_DATABASE_URL 不是合法的数据库地址；例如 postgresql://用户:口令@主机/库") from error
    if not url.drivername.startswith("postgres"):
        raise SettingsError(f"SCNS_DATABASE_URL 必须是 postgresql://…，现在是 {url.drivername}://…")
    return url.set(drivername=f"postgresql+{driver}")


def sync_engine(settings: Settings, *, pool_size: int = 2, role: str = "worker") -> Engine:
    """Worker 一侧的引擎（psycopg 3）。role 写进 application_name，便于在 pg_stat_activity 里辨认。"""
    return sa.create_engine(
        database_url(settings, "psycopg"),
        pool_size=pool_size,
        max_overflow=2,
        pool_pre_ping=False,
        connect_args={
            "application_name": f"{APPLICATION_NAME}/{role}",
            "connect_timeout": 5,
            "options": f"-c timezone=UTC {_LOOKUPS}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            # 发出去没有回音的（网线断了、防火墙吞了）20 秒后算断开。
            "tcp_user_timeout": 20_000,
        },
    )


def async_engine(settings: Settings, **options: Any) -> AsyncEngine:
    """API 一侧的引擎（asyncpg）。"""
    return create_async_engine(
        database_url(settings, "asyncpg"),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_timeout=5,
        connect_args={
            "timeout": 5,
            "server_settings": {"application_name": f"{APPLICATION_NAME}/api", "timezone": "UTC"},
        },
        **options,
    )
