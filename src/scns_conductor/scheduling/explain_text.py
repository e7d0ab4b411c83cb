"""把解释写成给人看的中文。"""

import math
from collections.abc import Mapping, Sequence

from scns_conductor.core.units import format_duration
from scns_conductor.scheduling.explain import Explanation, Holder, PoolShortage, Taking, Turns
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.pool_words import pool_amount, pool_title
from scns_conductor.scheduling.shape import LICENSE

_SHOWN = 5


def render(found: Explanation, names: "Names") -> str:
    """几句话，一句一行；建议不在其中。"""
    lines = list(found.lines)
    if not found.final:
        lines += _body(found, names)
    return "。\n".join(lines)


class Names:
    """怎样称呼作业与时刻；users 是作业号 -> 怎样称呼，如 8_1（alice）；suspenders 是作业号 -> 谁挂起的。"""

    def __init__(self, users: Mapping[int, str], suspenders: Mapping[int, str], now: float) -> None:
        self._users, self._suspenders, self.now = users, suspenders, now

    def job(self, job_id: int) -> str:
        return self._users.get(job_id, str(job_id))

    def when(self, moment: float) -> str:
        return f"{format_duration(max(0.0, math.ceil(moment - self.now)))} 之后"

    def holders(self, holders: Sequence[Holder], pool: str | None = None) -> str:
        shown = []
        for holder in holders[:_SHOWN]:
            where = f"在 {_listed(holder.nodes)}，" if holder.nodes else ""
            amount = f"占 {pool_amount(pool, holder.amount)}，" if holder.amount and pool else ""
            shown.append(f"{self.job(holder.job_id)}（{where}{amount}{self._end(holder)}）")
        return "、".join(shown) + ("……" if len(holders) > _SHOWN else "")

    def _end(self, holder: Holder) -> str:
        if holder.suspended:
            who = self._suspenders.get(holder.job_id)
            return f"被{f' {who} ' if who else ''}挂起了，何时恢复不知道"
        if holder.end is None:
            return "没有时限"
        when = self.when(holder.end)
        return f"正在结束，至迟 {when}结束" if holder.ending else f"至迟 {when}结束"

    def jobs(self, holders: Sequence[Holder]) -> str:
        """只说是哪些作业，在哪里。"""
        shown = [
            self.job(each.job_id) + (f"（在 {_listed(each.nodes)}）" if each.nodes else "") for each in holders[:_SHOWN]
        ]
        return "、".join(shown) + ("……" if len(holders) > _SHOWN else "")


def _body(found: Explanation, names: Names) -> list[str]:
    lines = [_pool_line(pool, names) for pool in found.pools]
    if found.reason == "JobArrayTaskLimit" and found.waiting_for:
        lines.append("正在运行的：" + names.holders(found.waiting_for))
    if found.shortages:
        lines.append("此刻缺资源：" + "；".join(found.shortages))
    elif found.fits_now:
        lines.append("此刻资源够，下一个周期就会启动")
    elif found.reason != RESERVED and not found.pools and not found.lines and found.ahead.count:
        lines.append("此刻的空闲放得下，但会推迟排在前面的作业的保留")
    if found.turns is not None:
        lines.append(turns_line(found.turns, names))
    if found.reserved:
        shown = "、".join(_reserved(each, names) for each in found.reserved[:_SHOWN])
        lines.append(f"作业的时限之内有预留：{shown}；在它之前跑得完才能先启动")
    ahead = found.ahead
    if ahead.count:
        shown = "、".join(
            names.job(job_id) + ("" if start is None else f"（预计 {names.when(start)}开始）")
            for job_id, start in ahead.first[:_SHOWN]
        )
        more = "……" if ahead.count > _SHOWN else ""
        others = f"；另有 {ahead.others} 个排在前面而不相争" if ahead.others else ""
        lines.append(f"前面有 {ahead.count} 个作业与它争（它排第 {ahead.count + 1}）：{shown}{more}{others}")
    if found.holders:
        lines.append("在等这些作业结束：" + names.holders(found.holders))
    if found.taking is not None:
        lines.append(_taking(found.taking, names))
    if found.booting:
        boot = format_duration(math.ceil(found.boot_s))
        lines.append(f"其中 {_listed(found.booting)} 关着，分到之后先要开机，至多 {boot}")
    lines.append(_dated(found, names))
    if found.probable_start is not None:
        lines.append(f"多半 {names.when(found.probable_start)}就能开始（照各用户最近两个作业真的跑了多久）")
    return [line for line in lines if line]


def turns_line(turns: Turns, names: Names) -> str:
    """轮流用 CPU 的分区：谁在用，谁停着，何时换。"""
    parts = [
        f"分区 {turns.partition} 的作业轮流用 CPU（时间片 {turns.slice_s:g} 秒，一个 CPU 至多分给 {turns.most} 个作业）"
    ]
    if turns.active:
        parts.append(f"正在用的：{names.jobs(turns.active)}")
    if turns.parked:
        parts.append(f"停着等的：{names.jobs(turns.parked)}")
    if turns.full:
        parts.append("合用的节点上都已经分给了这么多个，要等其中一个结束")
    else:
        parts.append(f"下一次换在 {names.when(turns.next_at)}")
    return "；".join(parts)


def _taking(taking: Taking, names: Names) -> str:
    """抢占：抢谁，何时许抢，何时让出来。"""
    within = f"至多 {format_duration(math.ceil(taking.within_s))} 之内让出来" if taking.within_s else "当场让出来"
    if taking.allowed_at <= names.now:
        return f"会抢占 {names.jobs(taking.victims)}：{within}"
    return (
        f"它可以抢占 {names.jobs(taking.victims)}，但要等它们运行满许抢占之前的豁免时间，"
        f"{names.when(taking.allowed_at)}才到，之后{within}"
    )


def _dated(found: Explanation, names: Names) -> str:
    """何时；说不准的说为什么。"""
    if found.late is not None:
        deadline, latest, start = found.late
        return (
            f"赶不上期限：照现在的计划要 {names.when(start)}才能开始，而期限在 {names.when(deadline)}，"
            f"最晚要在 {names.when(latest)}开始；到时会以 DEADLINE 结束。请改短时限或推迟期限"
        )
    if found.expected_start is None:
        if found.endless:
            return "说不准何时开始，占着节点的没有尽头：" + names.holders(found.endless)
        if any(not pool.name.startswith(LICENSE) and pool.free_at is None for pool in found.pools):
            return "说不准何时开始：上限何时腾得出来不知道"
        return "说不准何时开始"
    if found.expected_start <= names.now:
        return ""
    how, end = "至迟" if found.firm else "大约", ""
    if found.expected_end is not None:
        when = names.when(found.expected_end)
        end = f"，至迟 {when}结束" if found.firm else f"，大约 {when}结束"
    text = f"预计{how} {names.when(found.expected_start)}在 {_listed(found.nodes)} 开始{end}"
    return text if found.firm else f"{text}（只是估计，可能更晚）"


def _reserved(reservation: tuple[str, float, float], names: Names) -> str:
    name, start, end = reservation
    begun = "已开始" if start <= names.now else f"{names.when(start)}开始"
    return f"{name}（{begun}" + (f"，{names.when(end)}结束）" if math.isfinite(end) else "）")


def _pool_line(pool: PoolShortage, names: Names) -> str:
    need, total, left = (pool_amount(pool.name, count) for count in (pool.need, pool.total, max(0, pool.left)))
    text = f"{pool_title(pool.name)} 不够：要 {need}，总共 {total}，还剩 {left}"
    if not pool.name.startswith(LICENSE):
        text += f"（{pool.reason}）"
        if pool.free_at is not None:
            text += f"，{names.when(pool.free_at)}够"
    return text + (f"；占着的：{names.holders(pool.holders, pool.name)}" if pool.holders else "")


def _listed(names: Sequence[str]) -> str:
    return "、".join(names[:_SHOWN]) + (f" 等 {len(names)} 个节点" if len(names) > _SHOWN else "")
