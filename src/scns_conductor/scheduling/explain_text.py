"""把解释写成给人看的中文；users 是作业号 -> 怎样称呼，如 8_1（alice）。"""

import math
from collections.abc import Mapping, Sequence

from scns_conductor.core.units import format_duration
from scns_conductor.scheduling.explain import Explanation, Holder, PoolShortage
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.pool_words import pool_amount, pool_title
from scns_conductor.scheduling.shape import LICENSE

_SHOWN = 5


def render(found: Explanation, users: Mapping[int, str], now: float) -> str:
    """几句话，一句一行。"""
    if found.message is not None:
        return found.message
    lines = [_pool_line(pool, users, now) for pool in found.pools]
    if found.shortages:
        lines.append("此刻缺资源：" + "；".join(found.shortages))
    elif found.fits_now:
        lines.append("此刻资源够，下一个周期就会启动")
    elif found.reason != RESERVED and not found.pools:
        lines.append("此刻的空闲放得下，但会推迟排在前面的作业的保留")
    if found.reserved:
        shown = "、".join(_reserved(each, now) for each in found.reserved[:_SHOWN])
        lines.append(f"作业的时限之内有预留：{shown}；在它之前跑得完才能先启动")
    if found.ahead_count:
        shown = "、".join(
            _named(job_id, users) + ("" if start is None else f"（预计 {_when(start, now)}开始）")
            for job_id, start in found.ahead[:_SHOWN]
        )
        more = "……" if found.ahead_count > _SHOWN else ""
        lines.append(f"前面还有 {found.ahead_count} 个作业：{shown}{more}")
    if found.holders:
        lines.append("在等这些作业结束：" + _holders(found.holders, users, now))
    if found.expected_start is None:
        if not (found.pools and all(not pool.name.startswith(LICENSE) for pool in found.pools)):
            lines.append("占着资源的作业没有时限（或前面的太多），说不准何时开始")
    elif found.expected_start > now:
        end = "" if found.expected_end is None else f"，至迟 {_when(found.expected_end, now)}结束"
        early = "（前面受阻的太多，只算了一部分，可能更晚）" if found.incomplete else ""
        lines.append(f"预计 {_when(found.expected_start, now)}在 {_listed(found.nodes)} 开始{end}{early}")
    lines += [f"要更早开始：{item.text}" for item in found.suggestions]
    if not found.suggestions and not found.fits_now:
        lines.append("没有试出能明显更早开始的改法")
    return "。\n".join(lines)


def _reserved(reservation: tuple[str, float, float], now: float) -> str:
    name, start, end = reservation
    begun = "已开始" if start <= now else f"{_when(start, now)}开始"
    return f"{name}（{begun}" + (f"，{_when(end, now)}结束）" if math.isfinite(end) else "）")


def _pool_line(pool: PoolShortage, users: Mapping[int, str], now: float) -> str:
    need, total, left = (pool_amount(pool.name, count) for count in (pool.need, pool.total, max(0, pool.left)))
    text = f"{pool_title(pool.name)} 不够：要 {need}，总共 {total}，还剩 {left}"
    if not pool.name.startswith(LICENSE):
        text += f"（{pool.reason}）"
    return text + (f"；占着的：{_holders(pool.holders, users, now)}" if pool.holders else "")


def _holders(holders: Sequence[Holder], users: Mapping[int, str], now: float) -> str:
    shown = []
    for holder in holders[:_SHOWN]:
        where = f"在 {_listed(holder.nodes)}，" if holder.nodes else ""
        amount = f"占 {holder.amount}，" if holder.amount else ""
        end = "没有时限" if holder.end is None else f"至迟 {_when(holder.end, now)}结束"
        shown.append(f"{_named(holder.job_id, users)}（{where}{amount}{end}）")
    return "、".join(shown) + ("……" if len(holders) > _SHOWN else "")


def _named(job_id: int, users: Mapping[int, str]) -> str:
    return users.get(job_id, str(job_id))


def _listed(names: Sequence[str]) -> str:
    return "、".join(names[:_SHOWN]) + (f" 等 {len(names)} 个节点" if len(names) > _SHOWN else "")


def _when(moment: float, now: float) -> str:
    return f"{format_duration(max(0.0, moment - now))} 之后"
