"""API 一侧的数据库引擎（asyncpg）；同一个地址，换驱动。别的进程不载入它：每个节点省 7 MiB。"""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from scns_conductor.core.database import (
    APPLICATION_NAME,
    CONNECT_TIMEOUT_S,
    database_url,
    is_pooled,
    require_server,
    session_sql,
    watch_sessions,
)
from scns_conductor.core.settings import Settings

# 地址里的选项，asyncpg 与 libpq 意思相同的；其余的（keepalives 等）只归 libpq。
_ASYNCPG_OPTIONS = frozenset(
    {"host", "port", "user", "password", "dbname", "passfile", "target_session_attrs", "krbsrvname", "gsslib",
     "options", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
     "ssl_min_protocol_version", "ssl_max_protocol_version"}
)  # fmt: skip


def asyncpg_url(settings: Settings, *, direct: bool = False) -> str:
    """同一个地址，去掉 asyncpg 不认识的选项（它会把它们当作服务器的设置发出去）。"""
    parts = urlsplit(database_url(settings, direct=direct))
    known = [(name, value) for name, value in parse_qsl(parts.query) if name in _ASYNCPG_OPTIONS]
    return urlunsplit(parts._replace(query=urlencode(known)))


def async_engine(settings: Settings, *, direct: bool = False, **options: Any) -> AsyncEngine:
    """API 一侧的引擎（asyncpg）。direct 的不经 PgBouncer。"""
    local = is_pooled(settings, direct=direct)
    statements = session_sql(settings, local=local)
    # 一个事务一条会话：预备好的语句在别人那里，设置跟着 BEGIN 走，不多一次往返。
    without_session: dict[str, Any] = {
        "connection_class": _with_begin(statements),
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }
    engine = create_async_engine(
        "postgresql+asyncpg://",
        pool_timeout=5,
        connect_args={
            "dsn": asyncpg_url(settings, direct=direct),
            "timeout": CONNECT_TIMEOUT_S,
            "server_settings": {"application_name": f"{APPLICATION_NAME}/api"},
            **(without_session if local else {}),
        },
        **{"pool_size": settings.database_pool_size, "max_overflow": settings.database_pool_size, **options},
    )

    @sa.event.listens_for(engine.sync_engine, "connect", insert=True)
    def _prepare(connection: Any, _: Any) -> None:
        driver = connection.driver_connection
        require_server(driver.get_server_version().major, driver.get_settings().server_encoding)
        if not local:
            connection.run_async(lambda driver: driver.execute(statements))

    watch_sessions(engine.sync_engine)
    return engine


def _with_begin(statements: str) -> type:
    """开始事务时连同 statements 一起发。"""

    class PooledConnection(asyncpg.Connection):  # type: ignore[misc]
        async def execute(self, query: str, *arguments: Any, **named: Any) -> str:
            if query.startswith("BEGIN") and not arguments:
                query = f"{query} {statements}"
            return str(await super().execute(query, *arguments, **named))

    return PooledConnection
