"""在这台机器上直接运行的命令记进审计。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scns_conductor.cli.say import say
from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError, first_line
from scns_conductor.core.settings import Settings, current_user_name
from scns_conductor.statements.audit import AUDIT_INSERT, command_entry


def record_command(settings: Settings, action: str, target: str, after: Mapping[str, Any] | None = None) -> None:
    """做好了的一件事记一条；那件事不在库里（换密钥、备份），所以记不成也不撤销它，只说一声。"""
    try:
        engine = sync_engine(settings, role="db", pooled=False, direct=True)
        try:
            with engine.begin() as connection:
                connection.execute(AUDIT_INSERT, command_entry(current_user_name(), action, target, after))
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ConductorError, OSError) as error:
        say(f"没有记进审计：{first_line(error)}", err=True)
