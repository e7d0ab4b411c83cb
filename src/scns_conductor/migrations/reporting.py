"""只读的角色：只看得到模式 reporting 里的视图，给 BI 工具用。"""

import sqlalchemy as sa

from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import Conflict, InvalidRequest, first_line
from scns_conductor.core.settings import Settings
from scns_conductor.statements.audit import AUDIT_INSERT, command_entry

STATEMENT_TIMEOUT = "60s"
# 一个 BI 工具至多占这么多条连接：占满了，集群自己就连不上了。
CONNECTIONS = 10


def grant_reporting(settings: Settings, role: str, actor: str) -> bool:
    """让 role 看得到 reporting 的视图，别的都看不到；没有这个角色就建一个（没有口令，登录不了）。返回是不是新建的。

    actor 是审计里写的：谁让的。

    名字不对抛 InvalidRequest；它能看到别的（超级用户、我们自己的角色、被给过权限）抛 Conflict；没有权限建抛 Conflict。
    """
    if not role or len(role.encode()) > 63 or "\0" in role or role.startswith("pg_"):
        raise InvalidRequest("role", "角色的名字是 1 到 63 个字节，不以 pg_ 开头")
    engine = sync_engine(settings, role="db", lookups=False, limits=False, pooled=False, direct=True)
    name = '"' + role.replace('"', '""') + '"'
    try:
        with engine.begin() as connection:
            created = connection.scalar(sa.text("SELECT to_regrole(:name) IS NULL"), {"name": name})
            if created:
                connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
            connection.exec_driver_sql(f"ALTER ROLE {name} SET default_transaction_read_only = on")
            connection.exec_driver_sql(f"ALTER ROLE {name} CONNECTION LIMIT {CONNECTIONS}")
            # 开着不做事的事务挡着清理。
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"ALTER ROLE {name} SET {limit} = '{STATEMENT_TIMEOUT}'")
            connection.exec_driver_sql(f"ALTER ROLE {name} SET search_path = reporting")
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA reporting TO {name}")
            connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO {name}")
            seen = connection.scalars(_SEEN, {"role": role}).all()
            if seen:
                raise Conflict(f"角色 {role} 还看得到 {seen[0]}；给 BI 的角色不能有别的权限，请另建一个")
            entry = command_entry(actor, "reporting.grant", role, {"created": bool(created)})
            connection.execute(AUDIT_INSERT, entry)
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        reason = first_line(error)
        raise Conflict(f"没有权限（{reason}）；请数据库的管理员先 CREATE ROLE {name} LOGIN，再运行一遍") from error
    finally:
        engine.dispose()
    return bool(created)


# 除了 reporting 的视图，它还看得到的表。
_SEEN = sa.text(
    "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname IN ('public', 'history') AND c.relkind IN ('r', 'p', 'v', 'm') "
    "AND has_table_privilege(CAST(:role AS name), c.oid, 'SELECT') ORDER BY 1 LIMIT 1".replace("::", r"\:\:")
)
