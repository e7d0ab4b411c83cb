"""许可证的总数与此刻用掉的（scontrol show licenses）。"""

from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.cluster import License
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.statements.licenses import HELD_LICENSES


async def license_usage(engine: AsyncEngine, configured: str) -> list[License]:
    """没有配置许可证时是空的。"""
    totals = dict(parse_licenses(configured))
    if not totals:
        return []
    async with engine.connect() as connection:
        held = (await connection.execute(HELD_LICENSES)).scalars().all()
    used = dict.fromkeys(totals, 0)
    for text in held:
        for name, count in parse_licenses(text):
            used[name] = used.get(name, 0) + count
    return [
        {"name": name, "total": total, "used": used[name], "free": max(0, total - used[name])}
        for name, total in totals.items()
    ]
