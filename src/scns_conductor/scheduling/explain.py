"""解释：一个作业为什么还没有启动——缺什么、缺多少、在哪里，谁在前面，谁占着，预计何时。纯函数，都由真的计划得出。"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NEVER_ENDS, NodeShare, RunningJob
from scns_conductor.scheduling.competitors import MOST_NAMED, Ahead, ahead_of
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.placement import unavailable_nodes
from scns_conductor.scheduling.plan import RESERVED
from scns_conductor.scheduling.promise import Promise
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, Shape
from scns_conductor.scheduling.shortages import balance, shortages
from scns_conductor.scheduling.suggestions import Suggestion

# 试排的作业暂用的号：真的作业号不会这么大。
TRIAL_JOB_ID = 2**62


@dataclass(frozen=True, slots=True)
class Holder:
    """占着所缺的东西的运行中的作业；end 是预计结束（Unix 秒），说不准是 None；amount 是占着的数目（池）。"""

    job_id: int
    end: float | None
    nodes: tuple[str, ...] = ()
    amount: int = 0
    suspended: bool = False
    # 已经要求它结束，正在结束。
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Turns:
    """轮流用 CPU：时间片多长（秒），下一次换的时刻（Unix 秒），一个 CPU 至多分给几个作业；谁在用，谁停着。

    full：合用的节点上都已经分给了那么多个。start 是照此刻的样子轮到它的时刻（在走的是让出来的），看不到那么远是 None；
    soon：就是下一次。
    """

    partition: str
    slice_s: float
    next_at: float
    most: int
    active: tuple[Holder, ...] = ()
    parked: tuple[Holder, ...] = ()
    full: bool = False
    start: float | None = None
    soon: bool = False
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taking:
    """会抢占：从何时起许抢（Unix 秒），之后至多多少秒让出来，抢谁。"""

    allowed_at: float
    within_s: float
    victims: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class PoolShortage:
    """一个不够的池（许可证或上限）：原因码、名字、要多少、还剩多少、总共多少；free_at 是预计何时够（Unix 秒）。"""

    reason: str
    name: str
    need: int
    left: int
    total: int
    holders: tuple[Holder, ...] = ()
    free_at: float | None = None


@dataclass(frozen=True, slots=True)
class PoolDate:
    """一个池预计何时够；moment 为 None 是说不准，firm 表示最晚就是它。"""

    moment: float | None
    firm: bool = True


# (池的名字, 要多少, 前面在等它的 (要多少, 时限)) -> 何时够。
PoolDates = Callable[[str, int, list[tuple[int, float]]], PoolDate]


@dataclass(frozen=True, slots=True)
class Gate:
    """还不能排的（保留、依赖、未到时间……）：为什么，以及最早何时能排；opens_at 为 None 是说不准。"""

    reason: str
    lines: tuple[str, ...]
    opens_at: float | None = None
    # 说到的作业（所依赖的）：号 -> 预计结束。
    waiting_for: tuple[Holder, ...] = ()


@dataclass(slots=True)
class Explanation:
    """为什么。lines 是还不能排的原因，有它而说不准何时能排的，就没有后面的。"""

    reason: str
    lines: list[str] = field(default_factory=list)
    final: bool = False
    fits_now: bool = False
    shortages: list[str] = field(default_factory=list)
    # 缺资源的：（哪样，要多少，空着多少），内存是 MiB。
    balance: list[tuple[str, int, int]] = field(default_factory=list)
    pools: list[PoolShortage] = field(default_factory=list)
    # 挡着它的预留：(名字, 开始, 结束)，Unix 秒。
    reserved: list[tuple[str, float, float]] = field(default_factory=list)
    ahead: Ahead = field(default_factory=Ahead)
    holders: list[Holder] = field(default_factory=list)
    # 没有尽头的：不限时的、挂起的；因为它们才说不准。
    endless: list[Holder] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    expected_start: float | None = None
    expected_end: float | None = None
    # 预计的是最晚的时刻（否则只是大约）。
    firm: bool = True
    # 排在前面的有与它争的（还没有轮到、自己会轮到的也算）。
    contested: bool = False
    # 多半何时（照历史预测的运行时间）；不比至迟的早就没有。
    probable_start: float | None = None
    # 赶不上期限的：(期限, 最晚开始, 照计划何时开始)。
    late: tuple[float, float, float] | None = None
    waiting_for: list[Holder] = field(default_factory=list)
    turns: Turns | None = None
    taking: Taking | None = None
    # 要先开机的节点与至多多久（秒）。
    booting: list[str] = field(default_factory=list)
    boot_s: float = 0.0
    suggestions: list[Suggestion] = field(default_factory=list)

    @property
    def job_ids(self) -> set[int]:
        """提到的作业。"""
        return {holder.job_id for holder in self.named} | {job_id for job_id, _ in self.ahead.first}

    @property
    def named(self) -> list[Holder]:
        """提到的占着东西的作业。"""
        found = [*self.holders, *self.endless, *self.waiting_for, *(h for pool in self.pools for h in pool.holders)]
        if self.turns is not None:
            found += [*self.turns.active, *self.turns.parked]
        return found if self.taking is None else [*found, *self.taking.victims]

    def turn_to(self, turns: Turns) -> None:
        """它与别的作业轮流用 CPU：说轮到它的时刻；看不到那么远的，停着的时间不算在时限里，等谁结束也就只是估计。"""
        self.turns = turns
        if self.late is not None:
            return
        # 上来了也会停下：何时结束说不准。
        self.expected_end, self.endless = None, []
        if turns.start is not None:
            self.expected_start, self.firm, self.nodes = turns.start, turns.soon, list(turns.nodes)
        else:
            self.firm = False
        own = {holder.job_id for holder in (*turns.active, *turns.parked)}
        self.holders = [] if turns.soon else [holder for holder in self.holders if holder.job_id not in own]

    def take(self, taking: Taking, limit_s: float) -> None:
        """它抢得到：比等谁结束早的，说抢到的时刻。limit_s 是它的时限（秒）。"""
        start = taking.allowed_at + taking.within_s
        if self.late is not None or (self.expected_start is not None and start >= self.expected_start):
            return
        self.taking, self.endless, self.holders = taking, [], []
        self.expected_start, self.firm = start, not self.contested
        self.expected_end = None if math.isinf(limit_s) else start + limit_s
        self.nodes = sorted({node for victim in taking.victims for node in victim.nodes})


def explain(
    outlook: Outlook,
    queue: Queue,
    job: PendingJob,
    *,
    gate: Gate | None = None,
    pool_dates: PoolDates | None = None,
    latest_start: float | None = None,
    deadline: float | None = None,
) -> Explanation:
    """为什么还在等；outlook 是排在它前面的都计划好之后的前景。建议另外由 suggestions 给出。

    gate 是还不能排的原因；latest_start 是为了期限最晚要在何时开始（Unix 秒）。
    """
    cluster, shape, limit = outlook.cluster, job.shape, job.time_limit_s
    result = Explanation("Resources")
    if gate is not None:
        result.reason, result.lines = gate.reason, list(gate.lines)
        result.waiting_for = list(gate.waiting_for)
        if gate.opens_at is None:
            result.final = True
            return result
    verdict = impossible(cluster, shape)
    if verdict is not None:
        result.lines.append(f"无论等多久都不能启动：{verdict}。请改小要求，或请管理员增加节点")
        result.final = True
        return result
    result.ahead = ahead_of(outlook, queue, job)
    result.shortages = shortages(cluster, shape)
    result.balance = balance(cluster, shape) if result.shortages else []
    result.fits_now = gate is None and outlook.fits_now(shape, limit)
    promise = Promise(outlook, shape, limit)
    result.contested = not promise.uncontested()
    not_before = _pools(outlook, queue, job, pool_dates, result)
    absent = unavailable_nodes(cluster, shape)
    if absent is not None:
        result.shortages = [f"合用的节点里 {len(absent)} 个下线或排空：{'、'.join(absent[:10])}；等它们恢复"]
    found = None
    if not math.isinf(not_before) and absent is None:
        opens = max(not_before, 0.0 if gate is None or gate.opens_at is None else gate.opens_at)
        found = outlook.earliest(shape, limit, opens if opens > outlook.now else None)
    if found is not None and not _inside_ends(cluster, shape, found[0] + limit):
        found = None
    if found is None:
        result.endless = _endless(cluster, shape) if absent is None and not result.pools else []
    else:
        _date(outlook, job, found, result, latest_start, deadline)
        result.firm = result.firm and _firm(promise, outlook, gate, result.pools, found[0])
    if not result.fits_now:
        result.reserved = _reserved(outlook, job, found)
    if gate is None:
        result.reason = _reason(outlook, job, result, absent is not None, found is not None)
    return result


def _reason(outlook: Outlook, job: PendingJob, found: Explanation, absent: bool, dated: bool) -> str:
    """与写进数据库的（reasons.py）同一条规则：有保留的、或所在的分区里排在最前的是 Resources，其余是 Priority。"""
    if found.pools:
        return found.pools[0].reason
    if absent:
        return RESERVED
    if found.reserved and outlook.only_reserved(job.shape, job.time_limit_s):
        return RESERVED
    promised = dated and not outlook.cluster.secluded(job.shape) and outlook.promised
    return "Resources" if promised or not outlook.blocked_in(job.shape.partition) else "Priority"


def _date(
    outlook: Outlook,
    job: PendingJob,
    found: tuple[float, tuple[NodeShare, ...]],
    result: Explanation,
    latest_start: float | None,
    deadline: float | None,
) -> None:
    """何时、在哪里、等谁；来不及在期限之前做完的不说何时。"""
    start, shares = found
    result.nodes = outlook.cluster.node_names(shares)
    if result.shortages or result.ahead.count:
        result.holders = _holders(outlook.cluster, shares, start)
    if latest_start is not None and deadline is not None and start > latest_start:
        result.late = (deadline, latest_start, start)
        result.nodes = []
        return
    # 那时还关着的，先要开机。
    result.boot_s = outlook.cluster.boot_s(shares)
    result.booting = outlook.cluster.node_names([share for share in shares if share.node in outlook.cluster.booting])
    result.expected_start = start + result.boot_s
    result.expected_end = None if math.isinf(job.time_limit_s) else result.expected_start + job.time_limit_s


def _firm(promise: Promise, outlook: Outlook, gate: Gate | None, lacking: list[PoolShortage], start: float) -> bool:
    """start 是不是最晚的时刻。"""
    running = outlook.cluster.running
    limits = [pool for pool in lacking if not pool.name.startswith(LICENSE)]
    if gate is None and not limits:
        return promise.reserved(start)
    if gate is None:
        # 等一个上限：占着它的让出来。
        return len(lacking) == 1 and promise.inherited(
            each for each in running.values() if any(name == limits[0].name for name, _ in each.pools)
        )
    if lacking:
        return False
    match gate.reason:
        case "Reservation":
            return start == gate.opens_at and promise.uncontested()
        case "JobArrayTaskLimit":
            own = [running.get(holder.job_id) for holder in gate.waiting_for]
            return promise.inherited(each for each in own if each is not None)
        case _:
            # 轮到之前没有保留：排在后面的也许先占去了。
            return False


def _inside_ends(cluster: Cluster, shape: Shape, end: float) -> bool:
    """在预留里的，要在预留结束之前做完。"""
    if not cluster.confined(shape):
        return True
    own = cluster.reservations.get(shape.reservation or "")
    return own is None or end <= own.end


def _pools(outlook: Outlook, queue: Queue, job: PendingJob, dates: PoolDates | None, result: Explanation) -> float:
    """不够的池；返回上限（不是许可证）都够的时刻，说不准是 inf。"""
    moment = 0.0
    for name in outlook.lacking(job.shape, job.time_limit_s):
        pool = _pool(outlook, job, name)
        if not name.startswith(LICENSE):
            before = _pool_queue(queue, job, name)
            date = PoolDate(None) if dates is None else dates(name, pool.need, before)
            pool = PoolShortage(pool.reason, name, pool.need, pool.left, pool.total, pool.holders, date.moment)
            moment = math.inf if date.moment is None else max(moment, date.moment)
            result.firm = result.firm and date.firm
        result.pools.append(pool)
    return moment


def _pool_queue(queue: Queue, job: PendingJob, name: str) -> list[tuple[int, float]]:
    """排在前面、也在等这个池的：(要多少, 时限)，按次序。"""
    found = []
    for group in queue.groups.values():
        need = dict(group.shape.pools).get(name)
        if need is None:
            continue
        for other in group.live():
            if other.key >= job.key:
                break
            found.append((other.key, need, group.time_limit_s))
    return [(need, limit) for _, need, limit in sorted(found)]


def _pool(outlook: Outlook, waiting: PendingJob, name: str) -> PoolShortage:
    cluster, shape = outlook.cluster, waiting.shape
    holders = [
        holder_of(cluster, job, (), dict(job.pools)[name])
        for job in cluster.running.values()
        if job.job_id > 0 and any(pool == name for pool, _ in job.pools)
    ]
    holders.sort(key=lambda holder: (holder.end is None, holder.end or 0, holder.job_id))
    held = sum(holder.amount for holder in holders)
    return PoolShortage(
        cluster.pool_reasons.get(name, "Resources"),
        name,
        dict(shape.pools)[name],
        outlook.left(name, shape.reservation, waiting.time_limit_s),
        cluster.pools.get(name, 0) + held,
        tuple(holders[:MOST_NAMED]),
    )


def _reserved(
    outlook: Outlook, job: PendingJob, found: tuple[float, tuple[NodeShare, ...]] | None
) -> list[tuple[str, float, float]]:
    """挡着它的预留：没有它们的话，那一段时间里就能启动；或占着它要的许可证。"""
    cluster, shape, limit = outlook.cluster, job.shape, job.time_limit_s
    if not cluster.reservations or cluster.confined(shape):
        return []
    begin = outlook.unreserved(shape, limit)
    if found is None:
        begin = outlook.now if begin is None else begin
    elif begin is not None and found[0] <= begin + 1:
        begin = None
    eligible, lacking = cluster.eligible(shape), set(outlook.lacking(shape, limit))
    blocking = []
    for each in cluster.reservations.values():
        if each.name == shape.reservation:
            continue
        if begin is not None and (cluster.reserved_nodes(each) & eligible).any():
            from_s = begin
        elif any(name in lacking for name, _ in each.licenses):
            from_s = outlook.now
        else:
            continue
        span = next((span for span in each.spans if span[0] < from_s + limit and from_s < span[1]), None)
        if span is not None:
            blocking.append((each.name, *span))
    return sorted(blocking, key=lambda item: item[1])


def _holders(cluster: Cluster, shares: tuple[NodeShare, ...], start: float) -> list[Holder]:
    """预计用到的节点上，在那之前结束的作业：等的就是它们。"""
    wanted = {share.node for share in shares}
    found = []
    for job in cluster.running.values():
        nodes = [share.node for share in job.shares if share.node in wanted]
        if nodes and job.job_id > 0 and job.expected_end <= start + 1:
            names = tuple(cluster.names[node] for node in nodes)
            found.append(holder_of(cluster, job, names))
    found.sort(key=lambda holder: (holder.end or math.inf, holder.job_id))
    return found[:MOST_NAMED]


def _endless(cluster: Cluster, shape: Shape) -> list[Holder]:
    """合用的节点上没有尽头的作业：不限时的、挂起的。"""
    eligible = cluster.eligible(shape)
    found = []
    for job in cluster.running.values():
        if job.expected_end < NEVER_ENDS or job.job_id < 0:
            continue
        nodes = tuple(cluster.names[share.node] for share in job.shares if eligible[share.node])
        if nodes:
            found.append(holder_of(cluster, job, nodes))
    return sorted(found, key=lambda holder: (not holder.suspended, holder.job_id))[:MOST_NAMED]


def holder_of(cluster: Cluster, job: RunningJob, nodes: tuple[str, ...] | None = None, amount: int = 0) -> Holder:
    """一个运行中的作业怎样说；nodes 缺省是它的全部节点。"""
    names = tuple(cluster.names[share.node] for share in job.shares) if nodes is None else nodes
    return Holder(job.job_id, _end(job), names, amount, job.suspended, job.ending)


def _end(job: RunningJob) -> float | None:
    return None if job.expected_end >= NEVER_ENDS else job.expected_end
