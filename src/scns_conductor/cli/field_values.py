"""命令行上的 FIELD=VALUE。"""

from collections.abc import Sequence
from typing import Any

import click

_INSTANTS = frozenset({"begin_time", "deadline"})


def parse_assignments(words: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE 们；空值是 null（清除）。数与真假由服务器按字段的类型认。没有等号是用法错误。"""
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise click.UsageError(f"{word!r} 应写成 字段=值，如 time_limit=30")
        changes[name] = (zoned(name, value) if name in _INSTANTS else value) or None
    return changes


def zoned(name: str, text: str) -> str:
    """begin_time、deadline 按用户这里的时区；认不出的是用法错误。"""
    from scns_conductor.core.instants import zoned as with_zone

    try:
        return with_zone(text) if text else text
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from error


def instant(given: str | None) -> str | None:
    """带时区的 ISO 8601；没有写时区的按本地时区；也认 now-7days 这样的。"""
    if given is None:
        return None
    from datetime import datetime

    try:
        if given.startswith("now"):
            from scns_conductor.core.instants import parse_instant

            return parse_instant(given, datetime.now().astimezone()).isoformat()
        return datetime.fromisoformat(given).astimezone().isoformat()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter("应如 2026-11-24、2026-11-24T08:00:00 或 now-7days", param_hint="--since") from error
