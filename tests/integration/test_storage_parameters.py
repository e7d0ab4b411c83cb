"""热表的存储参数写在表上（迁移 0011）：哪台服务器上都一样；降级之后没有了。"""

import psycopg

from scns_conductor import migrations
from scns_conductor.core.settings import Settings

HOT = ("jobs", "resource_allocations", "job_steps", "job_events", "scheduler_inbox", "request_answers", "nodes")


def parameters(connection: "psycopg.Connection[tuple[object, ...]]") -> dict[str, str]:
    rows = connection.execute(
        "SELECT relname, coalesce(array_to_string(reloptions, ','), '') FROM pg_class "
        "WHERE relname = ANY(%s) AND relnamespace = 'public'::regnamespace",
        [list(HOT)],
    ).fetchall()
    return {str(name): str(text) for name, text in rows}


def vacuumed_after(connection: "psycopg.Connection[tuple[object, ...]]", table: str, rows: int) -> float:
    """这张表有 rows 行时，多少个死行之后自动清理；没有写在表上的取服务器的缺省。"""
    written = dict(item.split("=") for item in parameters(connection)[table].split(",") if item)
    scale = float(written.get("autovacuum_vacuum_scale_factor", 0.2))
    return float(written.get("autovacuum_vacuum_threshold", 50)) + scale * rows


def test_hot_tables_are_vacuumed_early_on_any_server(settings: Settings) -> None:
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        assert all("autovacuum" in text for text in parameters(connection).values())
        assert vacuumed_after(connection, "jobs", 5_000_000) <= 110_000
        assert vacuumed_after(connection, "scheduler_inbox", 1_000_000) <= 1000
        assert vacuumed_after(connection, "nodes", 10_000) <= 500
        assert {"fillfactor=85"} <= set(parameters(connection)["jobs"].split(","))
        # 建表时就有的还在。
        assert "fillfactor=50" in parameters(connection)["nodes"]


def test_the_migration_goes_back(empty_settings: Settings) -> None:
    migrations.upgrade(empty_settings, "0011")
    migrations.downgrade(empty_settings, "-1")
    with psycopg.connect(empty_settings.database_url.get_secret_value(), autocommit=True) as connection:
        assert not [text for text in parameters(connection).values() if "autovacuum" in text]
        assert connection.execute("SELECT to_regproc('scns_notify')").fetchone() == (None,)
    migrations.upgrade(empty_settings)
