"""闲着的会话到时关掉，用时再开；正在用的不碰。"""

import sqlalchemy as sa

from running_system import wait_until
from scns_conductor.core.database import close_when_idle, sync_engine
from scns_conductor.core.settings import Settings

OURS = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'scns-conductor/idle'")


def test_idle_sessions_are_closed_and_opened_again(settings: Settings) -> None:
    watching = sync_engine(settings, role="watch")
    engine = sync_engine(settings, pool_size=2, role="idle")
    close_when_idle(engine, 0.1)

    def sessions() -> int:
        with watching.connect() as connection:
            return int(connection.scalar(OURS) or 0)

    for _ in range(2):
        with engine.connect() as held:
            before = held.scalar(sa.text("SELECT pg_backend_pid()"))
            with engine.connect() as other:
                other.execute(sa.text("SELECT 1"))
                assert sessions() == 2
            # 有一条借着的时候，一条也不关。
            held.execute(sa.text("SELECT pg_sleep(0.5)"))
            assert held.scalar(sa.text("SELECT pg_backend_pid()")) == before
        wait_until(lambda: sessions() == 0, 60, "都关了")
    engine.dispose()
    watching.dispose()
