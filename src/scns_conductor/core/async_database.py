"""API 一侧的数据库引擎（asyncpg）；同一个地址，换驱动。别的进程不载入它：每个节点省 7 MiB。"""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from scns_conductor.core.database import (
    APPLICATION_NAME,
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    SILENCE_MS,
    HostOrder,
    connection_words,
    is_pooled,
    most_telling,
    require_server,
    session_sql,
    watch_sessions,
)
from scns_conductor.core.settings import Settings

# 地址里的选项，asyncpg 与 libpq 意思相同的；其余的（keepalives 等）只归 libpq。
_ASYNCPG_OPTIONS = frozenset(
    {"host", "port", "user", "password", "dbname", "passfile", "service", "target_session_attrs", "krbsrvname",
     "gsslib", "options", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
     "ssl_min_protocol_version", "ssl_max_protocol_version"}
)  # fmt: skip


# 驱动自己的错，不是服务器说的。闲着的会话刚被终止（那一头的话读到了，断开还没有读到）时用它，是后一种。
DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


def asyncpg_url(words: Mapping[str, str]) -> str:
    """一台主机的地址，去掉 asyncpg 不认识的选项（它会把它们当作服务器的设置发出去）。"""
    known = {name: value for name, value in words.items() if name in _ASYNCPG_OPTIONS}
    return f"postgresql://?{urlencode(known, quote_via=quote)}"


class LoneReads(AsyncEngine):
    """connect() 只读：每条语句自成一个事务，不必为它 BEGIN 与 ROLLBACK，省两次往返；几条要一起的用 begin()。

    缺省的隔离级别下，一个事务里的几条读本来也各看各的时刻。
    """

    __slots__ = ("_reads",)

    def __init__(self, sync_engine: sa.Engine) -> None:
        super().__init__(sync_engine)
        self._reads = AsyncEngine(sync_engine.execution_options(isolation_level="AUTOCOMMIT"))

    def connect(self) -> AsyncConnection:
        """读。"""
        return self._reads.connect()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """一个事务，离开时提交。"""
        async with super().connect() as connection, connection.begin():
            yield connection


def async_engine(settings: Settings, *, direct: bool = False, **options: Any) -> AsyncEngine:
    """API 一侧的引擎（asyncpg）。direct 的不经 PgBouncer；经它的，设置跟着 BEGIN 走，读也是事务。"""
    local = is_pooled(settings, direct=direct)
    statements = session_sql(settings, local=local)
    words = connection_words(settings, direct=direct)
    hosts = HostOrder(words)

    async def connect(**named: Any) -> Any:
        return await _connect_any(words, hosts, named)

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
            "async_creator_fn": connect,
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
    return engine if local else LoneReads(engine.sync_engine)


async def _connect_any(words: Mapping[str, str], hosts: HostOrder, named: dict[str, Any]) -> Any:
    """依次试各台主机，每台各有期限：asyncpg 自己的期限是几台合起来的，头一台没有声音就轮不到下一台。"""
    failures: list[Exception] = []
    for host in hosts:
        timeout_s = hosts.timeout_s
        try:
            connection = await asyncpg.connect(asyncpg_url({**words, **host}), timeout=timeout_s, **named)
        except asyncpg.TargetServerAttributeNotMatched as error:
            wanted = words.get("target_session_attrs")
            refused = ConnectionError(f"没有一台主机是 target_session_attrs={wanted} 的（主库还没有接任？）")
            refused.__cause__ = error
            failures.append(refused)
        except TimeoutError:
            hosts.postpone(host)
            named_host = host.get("host") or host.get("hostaddr") or ""
            failures.append(TimeoutError(f"数据库主机 {named_host} {timeout_s} 秒没有回答"))
        except (OSError, asyncpg.PostgresError, *DRIVER_ERRORS) as error:
            failures.append(error)
        else:
            hosts.prefer(host)
            _notice_silence(connection)
            return connection
    raise most_telling(failures)


def _notice_silence(connection: Any) -> None:
    # asyncpg 没有这样的选项，也不给套接字；不设的话，主机关了机，等它的语句要挂一刻钟。
    plug = connection._transport.get_extra_info("socket")
    if plug.family != socket.AF_UNIX:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
            (socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
            (socket.TCP_USER_TIMEOUT, SILENCE_MS),
        ):
            plug.setsockopt(socket.IPPROTO_TCP, option, value)


def _with_begin(statements: str) -> type:
    """开始事务时连同 statements 一起发。"""

    class PooledConnection(asyncpg.Connection):  # type: ignore[misc]
        async def execute(self, query: str, *arguments: Any, **named: Any) -> str:
            if query.startswith("BEGIN") and not arguments:
                query = f"{query} {statements}"
            return str(await super().execute(query, *arguments, **named))

    return PooledConnection
