"""历史的表（模式 history）的列跟着平常的表走：给 jobs 加一列的迁移不必另外管历史。"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.statements.archive import JOB_END
from scns_conductor.statements.table_columns import COLUMNS

_EXISTS = sa.text("SELECT to_regclass('history.jobs') IS NOT NULL")
_COLUMNS = sa.text(
    """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
      pg_get_expr(d.adbin, d.adrelid) AS fallback
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
    """
)


def match_columns(connection: Connection) -> None:
    """平常的表多了的列，历史的也加上（旧的行取缺省值）；少了的，历史的也去掉。还没有历史的什么也不做。"""
    if not connection.execute(_EXISTS).scalar_one():
        return
    for table in COLUMNS:
        wanted = {row.name: row for row in connection.execute(_COLUMNS, {"table": f"public.{table}"})}
        present = {row.name for row in connection.execute(_COLUMNS, {"table": f"history.{table}"})}
        changes = [f'DROP COLUMN "{name}"' for name in sorted(present - wanted.keys() - {JOB_END})]
        for name, row in wanted.items():
            if name not in present:
                default = f" DEFAULT {row.fallback}" if row.fallback else ""
                changes.append(f'ADD COLUMN "{name}" {row.type}{default}{" NOT NULL" if row.required else ""}')
        if changes:
            connection.exec_driver_sql(f"ALTER TABLE history.{table} {', '.join(changes)}")
