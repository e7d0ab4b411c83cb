"""Worker 一侧的数据库引擎（psycopg 3），与两侧共用的地址、会话的设置；API 的在 async_database。

服务器是别人的：我们所需要的，每条会话连上时自己设（SET），不靠 postgresql.conf，
也不靠启动参数 options（PgBouncer 拒绝它）。

写了 database_direct_url 时，database_url 是事务模式的 PgBouncer：一个事务一条会话，什么也留不下。那时设置随每个事务
（SET LOCAL），不预备语句；要留着会话的（选举、LISTEN）、要做很久的（迁移）走 direct。
"""

import select
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import Engine, ExceptionContext

from scns_conductor.core.errors import ServiceUnavailable, SettingsError

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

APPLICATION_NAME = "scns-conductor"
# int4multirange 从 14 起才有。
MINIMUM_VERSION = 14
# 连一台主机至多等这么久（秒）；有几台的依次试，不在没有声音的那台上多等，全都没有声音（也许只是慢）才等足。
CONNECT_TIMEOUT_S = 5
NEXT_HOST_S = 2
# 对面没有声音了（网线断了、机器关了、防火墙吞了）：闲着的 25 秒、发出去没有回音的 20 秒之后算断开。
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 10, 5, 3
SILENCE_MS = 20_000
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEBIAN_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
# 服务器怎样设都一样：每条会话自己设成这样。
_SESSION = {
    # 语句都短；即时编译一条的时间够执行它几百遍（缺省的 jit=on 使调度慢一百倍）。
    "jit": "off",
    "plan_cache_mode": "auto",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",
    # 池里的与 LISTEN 的会话本来就闲着。
    "idle_session_timeout": "0",
}
_SESSION_ONLY = frozenset({"default_transaction_isolation", "idle_session_timeout"})
# 回答过 2xx 的作业不能丢；服务器要求得更严（remote_apply）的不改。
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
# Worker 的语句都是「给出一批作业号，各自去找」：表还小时定下的「从头扫」，表长大了也不许沿用。
_LOOKUPS = {"enable_seqscan": "off"}
# 代理的语句：给出的是哪几个作业，计划都一样。长语句规划一遍几毫秒；忙时另开的会话又从头来，每条会话只规划一遍。
_ONE_PLAN = {"plan_cache_mode": "force_generic_plan"}
LOCK_TIMEOUT = "55P03"
# 会话再也不能用了：只读（备库；只读的那阵子开的会话一直只读）、被终止、服务器关闭或启动中。
UNUSABLE_SESSION = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05"})


class UnfitServer(ServiceUnavailable):
    """连上了，却是用不了的服务器（太旧、编码不对）；换好之前同连不上一样，长住的等着。"""


# 数据库一时不能用、用不了：长住的记一行，等一会儿再来。
DATABASE_TROUBLE = (sa.exc.SQLAlchemyError, UnfitServer)


def is_pooled(settings: "Settings", *, direct: bool = False) -> bool:
    """这条会话是不是一个事务一换。"""
    return settings.database_direct_url is not None and not direct


def database_url(settings: "Settings", *, direct: bool = False) -> str:
    """设置里的地址，libpq 的写法：可以有几台主机（主机:端口,主机:端口）与 sslmode 等选项；写错时抛 SettingsError。"""
    if direct and settings.database_direct_url is not None:
        return _checked_url(settings.database_direct_url.get_secret_value(), "SCNS_DATABASE_DIRECT_URL")
    return _checked_url(settings.database_url.get_secret_value(), "SCNS_DATABASE_URL")


def _checked_url(url: str, name: str) -> str:
    scheme, separator, rest = url.partition("://")
    if separator and scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise SettingsError(f"{name} 必须是 postgresql://…，现在是 {scheme}://…")
    # SQLAlchemy 的写法（postgresql+psycopg://）也认。
    url = f"postgresql{separator}{rest}"
    try:
        urlsplit(url)
        words = conninfo_to_dict(url)
        each_host(words)
    except (psycopg.Error, ValueError) as error:
        example = "postgresql://用户:口令@主机/库，几台主机写 主机:端口,主机:端口"
        raise SettingsError(f"{name} 不是合法的数据库地址；例如 {example}") from error
    if not separator:
        raise SettingsError(f"{name} 要写成地址；例如 postgresql://用户:口令@主机/库")
    # libpq 连的时候才拒绝，asyncpg 还认下划线的写法：两边一样，当场就说。
    if words.get("sslmode") not in (None, *_SSL_MODES):
        raise SettingsError(f"{name} 的 sslmode 不能是 {words['sslmode']}；可以是 {'、'.join(_SSL_MODES)}")
    return url


def connection_words(settings: "Settings", *, direct: bool = False) -> dict[str, str]:
    """地址拆成 libpq 的一个个选项，两个驱动与 pg_dump 都照它；写错时抛 SettingsError。"""
    found = conninfo_to_dict(database_url(settings, direct=direct))
    words = {name: str(value) for name, value in found.items() if value is not None}
    if words.get("sslrootcert") == "system":
        # psycopg 自带的 OpenSSL 不知道系统的根证书在哪里，asyncpg 与旧的 libpq 不认这个词：换成那个文件。
        words["sslrootcert"] = ssl.get_default_verify_paths().cafile or _DEBIAN_ROOTS
        words.setdefault("sslmode", "verify-full")
    return words


def each_host(words: Mapping[str, Any]) -> list[dict[str, str]]:
    """一台主机一项（host、hostaddr、port）；没有写主机的也是一项。个数对不上抛 ValueError。"""
    lists = {name: str(words[name]).split(",") for name in ("host", "hostaddr", "port") if words.get(name)}
    count = max((len(lists[name]) for name in ("host", "hostaddr") if name in lists), default=1)
    if any(len(values) not in (1, count) for values in lists.values()):
        raise ValueError
    return [{name: values[index % len(values)] for name, values in lists.items()} for index in range(count)]


class HostOrder:
    """地址里的各台主机，依次试：上次连成的在最前，没有声音的（关了机、冻住了）在最后，不让每条新的会话都等它。"""

    def __init__(self, words: Mapping[str, Any]) -> None:
        self._hosts = each_host(words)
        # 上次连成之后没有声音过的。
        self._silent: list[dict[str, str]] = []

    @property
    def timeout_s(self) -> int:
        """此刻连一台至多等几秒。"""
        return CONNECT_TIMEOUT_S if len(self._silent) >= len(self._hosts) or len(self._hosts) == 1 else NEXT_HOST_S

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter(list(self._hosts))

    def prefer(self, host: dict[str, str]) -> None:
        """连成了这一台。"""
        self._silent.clear()
        self._hosts = [host, *(other for other in self._hosts if other != host)]

    def postpone(self, host: dict[str, str]) -> None:
        """这一台到时没有声音。"""
        if host not in self._silent:
            self._silent.append(host)
        self._hosts = [*(other for other in self._hosts if other != host), host]


def session_sql(
    settings: "Settings", *, lookups: bool = False, one_plan: bool = False, limits: bool = True, local: bool = False
) -> str:
    """一条会话连上之后（local：一个事务开始时）要执行的。

    lookups 是 Worker 的语句；one_plan 见 sync_engine；limits 为假时不限时（迁移可以做很久）。
    """
    bounds = {
        "statement_timeout": settings.database_statement_timeout_s,
        "lock_timeout": settings.database_lock_timeout_s,
        "idle_in_transaction_session_timeout": settings.database_idle_transaction_timeout_s,
    }
    values = {
        **_SESSION,
        **(_LOOKUPS if lookups else {}),
        **(_ONE_PLAN if one_plan else {}),
        **{name: f"{int(seconds * 1000) if limits else 0}ms" for name, seconds in bounds.items()},
    }
    if not local:
        return "; ".join([*(f"SET {name} = '{value}'" for name, value in values.items()), _DURABLE])
    # 隔离级别写在 BEGIN 里；会话闲着归 PgBouncer 管。
    kept = {name: value for name, value in values.items() if name not in _SESSION_ONLY}
    durable = _DURABLE.replace("false", "true")
    return "; ".join([*(f"SET LOCAL {name} = '{value}'" for name, value in kept.items()), durable])


def sync_engine(
    settings: "Settings",
    *,
    pool_size: int = 2,
    role: str = "worker",
    lookups: bool = True,
    one_plan: bool = False,
    limits: bool = True,
    pooled: bool = True,
    overflow: int = 2,
    direct: bool = False,
) -> Engine:
    """Worker 一侧的引擎（psycopg 3）。role 写进 application_name，便于在 pg_stat_activity 里辨认。

    pooled 为假时用完就断开：只用一次的不必记着关。闲着的至多留 pool_size 条，忙时可以再开 overflow 条。
    只读的也用 begin()：回滚之后 psycopg 另用一个往返忘掉会话上预备好的全部语句，提交不忘。
    one_plan：语句的计划不随参数变，第一次执行就预备好，以后不再规划（psycopg 与 PostgreSQL 各先试五次）。
    direct 的不经 PgBouncer。
    """
    pool: dict[str, Any] = (
        {"pool_size": pool_size, "max_overflow": overflow, "pool_pre_ping": False}
        if pooled
        else {"poolclass": sa.pool.NullPool}
    )
    words = connection_words(settings, direct=direct)
    hosts = HostOrder(words)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        connect_args={
            **words,
            "application_name": f"{APPLICATION_NAME}/{role}",
            "keepalives_idle": KEEPALIVE_IDLE_S,
            "keepalives_interval": KEEPALIVE_INTERVAL_S,
            "keepalives_count": KEEPALIVE_COUNT,
            "tcp_user_timeout": SILENCE_MS,
        },
        **pool,
    )

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_: Any, __: Any, ___: Any, arguments: dict[str, Any]) -> "psycopg.Connection[Any]":
        return _connect_any(arguments, hosts)

    local = is_pooled(settings, direct=direct)
    statements = session_sql(settings, lookups=lookups, one_plan=one_plan, limits=limits, local=local)

    @sa.event.listens_for(engine, "connect", insert=True)
    def _prepare(connection: "psycopg.Connection[Any]", _: Any) -> None:
        require_server(
            connection.info.server_version // 10_000, (connection.info.parameter_status("server_encoding") or "")
        )
        if local:
            connection.prepare_threshold = None
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        else:
            _prepare_session(connection, statements)
            if one_plan:
                connection.prepare_threshold = 0

    if local:

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            driver_of(connection).execute(statements.encode())

    watch_sessions(engine)
    return engine


def driver_of(connection: sa.Connection) -> "psycopg.Connection[Any]":
    """SQLAlchemy 之下的 psycopg 会话。"""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _connect_any(arguments: dict[str, Any], hosts: HostOrder) -> "psycopg.Connection[Any]":
    failures: list[psycopg.Error] = []
    for host in hosts:
        try:
            connection = psycopg.connect(**{**arguments, **host, "connect_timeout": hosts.timeout_s})
        except psycopg.errors.ConnectionTimeout as error:
            hosts.postpone(host)
            failures.append(error)
        except psycopg.Error as error:
            failures.append(error)
        else:
            hosts.prefer(host)
            return connection
    raise most_telling(failures)


def most_telling(failures: Sequence[Exception]) -> Exception:
    """几台主机都没有连成时说哪一个：应答了的那台说的（口令不对），没有就是最后一台的。"""
    return next((error for error in failures if getattr(error, "sqlstate", None)), failures[-1])


def direct_connection(settings: "Settings", role: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """不经引擎的一条自动提交的会话（混沌与性能测试用），设得与别的一样。"""
    words = connection_words(settings, direct=True)
    words |= {"connect_timeout": "10", "application_name": f"{APPLICATION_NAME}/{role}"}
    connection = psycopg.connect(make_conninfo(**words), autocommit=True)
    _prepare_session(connection, session_sql(settings))
    return connection


def _prepare_session(connection: "psycopg.Connection[Any]", statements: str) -> None:
    before = connection.autocommit
    # 在事务里 SET，回滚就没有了。
    connection.autocommit = True
    connection.execute(statements.encode())
    connection.autocommit = before


def require_server(major: int, encoding: str) -> None:
    """服务器太旧、编码不对抛 UnfitServer。"""
    if major < MINIMUM_VERSION:
        raise UnfitServer(
            f"数据库是 PostgreSQL {major}，太旧；需要 {MINIMUM_VERSION} 以上，请升级服务器或换一个 SCNS_DATABASE_URL",
            code="database_too_old",
            retry_after_s=60,
        )
    if encoding != "UTF8":
        # 中文写不进，或写进去长度不对（initdb 时没有设 locale 就是 SQL_ASCII）。
        raise UnfitServer(
            f"数据库的编码是 {encoding}，要 UTF8；请重建：CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            code="database_encoding",
            retry_after_s=60,
        )


def watch_sessions(engine: Engine) -> None:
    """断了的会话不交出去；不能再用的会话（连同池里别的）丢掉，错误一律算断线。"""

    @sa.event.listens_for(engine, "checkout")
    def _alive(connection: Any, *_: Any) -> None:
        driver = connection.driver_connection if hasattr(connection, "driver_connection") else connection
        if _is_dead(driver):
            # 池换一条新的给调用者，谁也看不见。
            raise sa.exc.DisconnectionError

    @sa.event.listens_for(engine, "handle_error")
    def _unusable(context: ExceptionContext) -> BaseException | None:
        error = context.original_exception
        if getattr(error, "sqlstate", None) not in UNUSABLE_SESSION:
            return None
        context.is_disconnect = True
        return sa.exc.OperationalError(
            context.statement, None, error, hide_parameters=True, connection_invalidated=True
        )


def close_when_idle(engine: Engine, idle_s: float) -> None:
    """池里的会话 idle_s 秒没有人用就都关掉，要用时再开；0 不关。心跳很疏的许多节点不占着服务器的会话。"""
    if idle_s <= 0:
        return
    used = threading.Event()

    @sa.event.listens_for(engine, "checkout")
    def _used(*_: Any) -> None:
        used.set()

    def watch() -> None:
        while used.wait():
            used.clear()
            if used.wait(idle_s):
                continue
            # 整整 idle_s 秒没有人借过。
            if engine.pool.checkedout() == 0:  # type: ignore[attr-defined]  # QueuePool 的
                engine.dispose()
            else:
                used.set()

    threading.Thread(target=watch, name="idle-sessions", daemon=True).start()


def _is_dead(driver: Any) -> bool:
    if isinstance(driver, psycopg.Connection):
        if driver.closed:
            return True
        descriptor = driver.fileno()
    else:
        if driver.is_closed():
            return True
        descriptor = driver._transport.get_extra_info("socket").fileno()
    # 闲着的会话上不该有东西可读：可读的是终止的消息，或对面已经关了。
    idle = select.poll()
    idle.register(descriptor, select.POLLIN)
    return bool(idle.poll(0))
