"""数据库的错误 -> problem：暂时的是 503 与 Retry-After，说出原因与补救；它不收的文字是 422；认不出的是 None。"""

import asyncio
from functools import lru_cache

import asyncpg
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.async_database import DRIVER_ERRORS
from scns_conductor.core.database import LOCK_TIMEOUT
from scns_conductor.core.errors import ConductorError, InvalidRequest, ServiceUnavailable
from scns_conductor.core.schema_version import MISSING_OBJECT, SchemaMismatch, wanted_version
from scns_conductor.core.text import is_text
from scns_conductor.services.blockers import find_blocker
from scns_conductor.services.health import current_version, note_full_disk

_NOT_UNICODE = "请求体里有不是合法 Unicode 的文字（单个的代理字符，如 \\ud800）；请去掉"
# 去问数据库原因，至多等这么久。
LOOK_S = 2.0
_TOO_MANY = "53300"
# PgBouncer 自己说的，一律是它；会话用完了也是。
_PROTOCOL = "08P01"
_TEMPORARY = {
    "25006": (
        "database_read_only",
        "数据库现在只读（是备库，或设了 default_transaction_read_only）；请让 SCNS_DATABASE_URL 指向主库，或改回可写",
        5,
    ),
    "40001": ("transaction_conflict", "与别的事务冲突，什么也没有改；请再试一次", 1),
    "40P01": ("transaction_conflict", "与别的事务互相等待，什么也没有改；请再试一次", 1),
    "53100": ("database_full", "数据库服务器的磁盘满了，什么也没有改；请清出空间", 30),
    "53200": ("database_overloaded", "数据库服务器的内存不够，什么也没有改；请稍后再试", 5),
    _TOO_MANY: (
        "database_connections",
        "数据库的连接用完了；作业不会丢，请稍后再试"
        "（管理员：改大 max_connections，或用事务模式的 PgBouncer；经 PgBouncer 的改大它的 max_client_conn）",
        5,
    ),
    "57014": (
        "statement_timeout",
        "数据库没有在 SCNS_DATABASE_STATEMENT_TIMEOUT_S 之内做完，什么也没有改；请稍后再试，或缩小范围",
        5,
    ),
}
_AWAY = (
    OSError,
    TimeoutError,
    sa.exc.TimeoutError,
    sa.exc.InterfaceError,
    asyncpg.PostgresConnectionError,
    *DRIVER_ERRORS,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.exceptions.InvalidCatalogNameError,
)

logger = structlog.get_logger(__name__)


async def database_error(error: BaseException, engine: AsyncEngine) -> ConductorError | None:
    """错误（或它的起因）是数据库的：要回答的业务错误。"""
    chain = _chain(error)
    for cause in chain:
        if isinstance(cause, ConductorError):
            # 连上时就拒绝了：服务器太旧。
            return cause
        if isinstance(cause, asyncpg.PostgresError):
            found = await _by_sqlstate(cause, engine)
            if found is not None:
                return found
        if isinstance(cause, UnicodeEncodeError) and not is_text(cause.object):
            return _Refused(_NOT_UNICODE)
    for cause in chain:
        lost = isinstance(cause, sa.exc.DBAPIError) and cause.connection_invalidated
        if lost or isinstance(cause, _AWAY):
            return ServiceUnavailable("数据库暂时连不上；作业不会丢，请稍后再试", code="database_unavailable")
    return None


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "orig", None)
    return found


async def _by_sqlstate(error: asyncpg.PostgresError, engine: AsyncEngine) -> ConductorError | None:
    state = error.sqlstate or ""
    if state == _PROTOCOL and "max_client_conn" in str(error):
        state = _TOO_MANY
    if state in _TEMPORARY:
        code, detail, retry_after_s = _TEMPORARY[state]
        if code == "database_full":
            note_full_disk(engine)
        return ServiceUnavailable(detail, code=code, retry_after_s=retry_after_s)
    if state.startswith("28") or state == "42501":
        return ServiceUnavailable(
            f"数据库拒绝了这里的用户（{error}）；请管理员检查 SCNS_DATABASE_URL 的用户与口令、pg_hba.conf、表的权限",
            code="database_refused",
            retry_after_s=30,
        )
    if state == LOCK_TIMEOUT:
        return await _row_locked(error, engine)
    if state in MISSING_OBJECT:
        return await _schema_mismatch(engine)
    if state == "54000" and "NOTIFY" in str(error):
        return ServiceUnavailable("数据库的 NOTIFY 队列刚刚满了，什么也没有改；请再试一次", code="notify_queue_full")
    if isinstance(error, asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError):
        # 路径与查询参数在入口就拦下了；请求体里哪个字段都可能有，由数据库来认。
        return _Refused("请求体的文字里含有 NUL 字节；请去掉")
    if isinstance(error, asyncpg.InvalidTextRepresentationError) and "json" in str(error):
        return _Refused(_NOT_UNICODE)
    return None


class _Refused(InvalidRequest):
    def __init__(self, detail: str) -> None:
        super().__init__("", "")
        self.detail, self.errors = detail, []


async def _row_locked(error: asyncpg.PostgresError, engine: AsyncEngine) -> ConductorError:
    try:
        async with asyncio.timeout(LOOK_S):
            blocker = await find_blocker(engine, error.context)
    except Exception as trouble:  # 原因只是锦上添花：查不到也照样回答
        logger.warning("blocker_unknown", error=type(trouble).__name__)
        blocker = None
    if blocker is None:
        return ServiceUnavailable(
            "要改的那一行正被别的数据库会话锁着，什么也没有改；请再试一次", code="row_locked", retry_after_s=1
        )
    logger.warning("row_locked", blocker_pid=blocker.pid, blocker=blocker.application_name, held_s=blocker.held_s)
    return ServiceUnavailable(
        f"要改的那一行正被 {blocker} 锁着，什么也没有改；请稍后再试，"
        f"或请管理员在数据库里执行 SELECT pg_terminate_backend({blocker.pid})",
        code="row_locked",
        retry_after_s=5,
    )


async def _schema_mismatch(engine: AsyncEngine) -> ConductorError | None:
    """结构真的不符才是；相符而语句有误是程序的错。"""
    try:
        async with asyncio.timeout(LOOK_S), engine.connect() as connection:
            found = await current_version(connection)
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError):
        return None
    if found == wanted_version():
        return None
    _tell_once(found)
    return SchemaMismatch(found, wanted_version())


@lru_cache(maxsize=8)
def _tell_once(found: str | None) -> None:
    logger.error("schema_mismatch", found=found, wanted=wanted_version(), remedy="scns db upgrade")
