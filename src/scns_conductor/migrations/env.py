"""Alembic 的环境：连上数据库，在一个事务里执行迁移。"""

import sqlalchemy as sa
from alembic import context

from scns_conductor.core.database import sync_engine
from scns_conductor.core.models import metadata
from scns_conductor.core.settings import load_settings
from scns_conductor.migrations.history_tables import match_columns

# 并发启动的多个进程同时升级时只有一个真正执行，别的等它做完。
MIGRATION_LOCK = 7236301
TABLE_LOCK_WAIT = "60s"


def run_online() -> None:
    """连库执行。没有从 migrations.upgrade 得到设置时（直接运行 alembic），自己读。"""
    settings = context.config.attributes.get("settings") or load_settings()
    engine = sync_engine(settings, role="migrations", lookups=False, limits=False, pooled=False, direct=True)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        # 轮到自己之后才限：等不到表锁就作罢，不让排在后面的读写都等着。
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_WAIT}'"))
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        context.run_migrations()
        match_columns(connection)


def run_offline() -> None:
    """只输出 SQL。"""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
