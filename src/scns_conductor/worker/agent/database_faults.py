"""数据库的错是一时的（连接、锁、超时、只读、切换、满了），还是数据自己的：前者重试，后者重试多少遍也一样。"""

import sqlalchemy as sa

from scns_conductor.core.database import UnfitServer

# 一条语句、一次取连接会抛出的全部；SQLAlchemy 的 TimeoutError（连接池借不到）不是 DBAPIError。
DATABASE_ERRORS = (sa.exc.DBAPIError, sa.exc.TimeoutError, UnfitServer)

# SQLSTATE 的前几位：连接 08、身份 28、库没了 3D、序列化与死锁 40、只读 25006、闲置被断 25P、
# 结构与权限 42（正在升级：与这一条数据无关）、资源不足 53、锁 55、管理员介入与语句超时 57、系统 58、配置文件 F0。
_PASSING = ("08", "25006", "25P", "28", "3D", "40", "42", "53", "55", "57", "58", "F0")


def is_passing(error: Exception) -> bool:
    """稍后再试也许就成：与要写的数据无关。"""
    if isinstance(error, sa.exc.TimeoutError | UnfitServer):
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_PASSING)
    # 没有 SQLSTATE 的：连不上、断了、没有回音。
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
