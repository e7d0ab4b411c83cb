"""把等待的原因与预计开始写回数据库：只写变了的；来不及的（期限、依赖无望且要求取消）在这里结束。"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy.engine import Connection

from scns_conductor.core.hostlist import compress
from scns_conductor.core.instants import moment_of
from scns_conductor.core.states import HOLD_REASONS
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.placement import unavailable_nodes
from scns_conductor.scheduling.plan import RESERVED, Plan, Reservation
from scns_conductor.scheduling.pool_words import lacking_pool, pool_title
from scns_conductor.scheduling.queue import OrderKey, PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.statements.node_state import MARK_PLANNED, PLANNED_UNWRITTEN
from scns_conductor.statements.reasons import END_HOPELESS, WRITE_REASONS
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.waiting_job import Waiting
from scns_conductor.worker.scheduler.waiting_line import HOPELESS

Told = tuple[str, str | None]
_Row = tuple[int, str, str | None, float | None, str | None]
# 一次至多写几行：一百万个作业等着时，也不占住启动作业的路。
MOST_ROWS = 5000

# 预计开始变动不到这么多秒就不写：它每个周期都会抖一点。
EXPECTED_START_TOLERANCE_S = 5.0

# 还没有写成的：与哪个原因都不同。
NEVER_WRITTEN = ("", None, None)


class ReasonWriter:
    """把原因写回去，代价与变了的成比例：自己变了的逐个写，整组变了的分几次写，先排的先写。"""

    def __init__(self) -> None:
        # 各组上次写下的原因；变了才重写整组。
        self._told: dict[tuple[Shape, float], Told] = {}
        # 还没有重写完的组里的作业。
        self._backlog: deque[Iterator[int]] = deque()
        # 与同组别的作业不同的：有保留的，与排在最前的。
        self._special: set[int] = set()
        # 形状 -> (集群的版本, 缺着的节点)。
        self._absent: dict[Shape, tuple[int, list[str] | None]] = {}
        # 写下了的：空着、计划里留给了谁的节点。
        self._planned: frozenset[str] | None = None

    def write(self, connection: Connection, memory: QueueMemory, plan: Plan) -> bool:
        """按最近的计划写一批，至多 MOST_ROWS 行；还有没写完的返回 True。"""
        expected = {item.job.job_id: item for item in plan.reservations}
        self._mark_planned(connection, memory.cluster, plan)
        heads = self._retell(memory, plan)
        special = expected.keys() | heads
        rows: list[_Row] = []
        for unit in (*special, *(self._special - special)):
            for job_id in memory.het.parts_of(unit):
                self._consider(memory, job_id, expected, heads, rows)
        self._special = set(special)
        while memory.unwritten and len(rows) < MOST_ROWS:
            job_id = next(iter(memory.unwritten))
            del memory.unwritten[job_id]
            self._consider(memory, job_id, expected, heads, rows)
        while self._backlog and len(rows) < MOST_ROWS:
            found = next(self._backlog[0], None)
            if found is None:
                self._backlog.popleft()
                continue
            self._consider(memory, found, expected, heads, rows)
        written = _write(connection, rows)
        for job_id, *_ in rows:
            if job_id not in written and job_id in memory.waiting:
                memory.waiting[job_id].written = NEVER_WRITTEN
                memory.unwritten[job_id] = None
        return bool(memory.unwritten or self._backlog)

    def _mark_planned(self, connection: Connection, cluster: Cluster, plan: Plan) -> None:
        """空着而留给了排在前面的作业的节点（sinfo 的 planned）；变了才写。"""
        held = {share.node for item in plan.reservations for share in item.shares}
        names = frozenset(cluster.names[node] for node in held if not cluster.node_rows[node])
        if names == self._planned:
            return
        connection.execute(MARK_PLANNED, {"names": sorted(names)})
        # 行被锁着的没有写成，下次再写。
        self._planned = None if connection.scalar(PLANNED_UNWRITTEN, {"names": sorted(names)}) else names

    def _retell(self, memory: QueueMemory, plan: Plan) -> set[int]:
        """原因变了的组排进待写的；返回各个分区里排在最前的受阻作业。"""
        told: dict[tuple[Shape, float], Told] = {}
        changed: list[tuple[OrderKey, tuple[Shape, float]]] = []
        first: dict[str, PendingJob] = {}
        for key in (*plan.impossible, *plan.blocked):
            group = memory.queue.groups.get(key)
            job = None if group is None else next(iter(group.live()), None)
            if job is None:
                continue
            told[key] = self._group_reason(memory.cluster, plan, key)
            partition = job.shape.partition
            if key in plan.blocked and (partition not in first or job.key < first[partition].key):
                first[partition] = job
            if told[key] != self._told.get(key):
                changed.append((job.key, key))
        self._told = told
        for _, key in sorted(changed, key=lambda item: item[0]):
            live = [number for job in memory.queue.groups[key].live() for number in memory.het.parts_of(job.job_id)]
            self._backlog.append(iter(live))
        return {job.job_id for job in first.values()}

    def _group_reason(self, cluster: Cluster, plan: Plan, key: tuple[Shape, float]) -> Told:
        """一组作业共同的原因与说明。"""
        shape = key[0]
        if key in plan.impossible:
            named = shape.constraints or shape.required_nodes
            return ("BadConstraints" if named else "Resources", plan.impossible[key])
        reason = plan.blocked[key]
        if reason == RESERVED:
            return (
                RESERVED,
                f"{self._whose(cluster, shape)}：此刻放得下，但节点在作业的时限之内有预留；改短时限也许能在它之前跑完",
            )
        if reason not in ("Resources", "Priority"):
            lacking = lacking_pool(cluster, shape)
            # 还剩多少时时在变，不写进说明：十万个作业不为它改一遍。
            same = lacking is not None and cluster.pool_reasons.get(lacking) == reason
            if lacking is None and reason == "Licenses":
                return (reason, "许可证此刻够，但时限之内要留给排在前面的作业或预留")
            return (reason, f"等 {pool_title(lacking)}" if lacking is not None and same else None)
        known = self._absent.get(shape)
        if known is None or known[0] != cluster.version:
            if len(self._absent) > MOST_ROWS:
                self._absent.clear()
            known = self._absent[shape] = (cluster.version, unavailable_nodes(cluster, shape))
        if known[1] is not None:
            return (RESERVED, f"UnavailableNodes:{compress(known[1])}：节点下线或排空，等它们恢复")
        return ("Priority", None)

    @staticmethod
    def _whose(cluster: Cluster, shape: Shape) -> str:
        """Slurm 的说法：有维护占着它能用的节点，或只是留给了别人。"""
        eligible = cluster.eligible(shape)
        maintained = any(
            each.maintenance and (cluster.reserved_nodes(each) & eligible).any()
            for each in cluster.reservations.values()
        )
        return "Reserved for maintenance" if maintained else "May be reserved for other job"

    def _consider(
        self, memory: QueueMemory, job_id: int, expected: Mapping[int, Reservation], heads: set[int], rows: "list[_Row]"
    ) -> None:
        """与写过的不同就记下来。"""
        waiting = memory.waiting.get(job_id)
        if waiting is None or job_id in memory.locked_jobs:
            # 锁着的写不进去；放开时重读它，又会轮到。
            return
        job = waiting.job
        if waiting.het_job_id is not None and job.reason is None:
            # 异构作业的一个部分：等的是整个的；没有到齐的还不知道。
            unit = memory.het.unit_of(waiting, memory.queue)
            if unit is None:
                return
            job = unit
        told = self._told.get((job.shape, job.time_limit_s))
        start: float | None = None
        nodes: str | None = None
        if job.reason == HOLD_REASONS["launch_failed"] and waiting.written[0] == job.reason:
            # 结束它的那条语句已经写好了，说明里有节点的原话。
            return
        if job.reason is not None:
            found: Told = (job.reason, job.message)
            start = _known_start(memory, waiting)
        elif job.available == 0:
            found = ("JobArrayTaskLimit", "数组同时运行的任务已到 % 后面写的上限")
        elif told is None:
            return
        else:
            held = expected.get(job.job_id)
            if held is not None:
                held = memory.het.own_share(waiting, held)
                # 那时还关着的，先要开机。
                start = held.start_time + memory.cluster.boot_s(held.shares)
                nodes = compress(sorted(memory.cluster.node_names(held.shares)))
            ahead = told == ("Priority", None) and (start is not None or job.job_id in heads)
            found = ("Resources", None) if ahead else told
        old_reason, old_message, old_start = waiting.written
        moved = (start is None) != (old_start is None) or (
            start is not None and old_start is not None and abs(start - old_start) > EXPECTED_START_TOLERANCE_S
        )
        if found != (old_reason, old_message) or moved:
            waiting.written = (*found, start)
            rows.append((job_id, *found, start, nodes))


def _known_start(memory: QueueMemory, waiting: Waiting) -> float | None:
    """还不能排、但到时刻就能的（Slurm 也把它当作预计的开始）。"""
    if waiting.job.reason == "BeginTime":
        return waiting.request.begin_time
    if waiting.job.reason == "Reservation":
        own = memory.cluster.reservations.get(waiting.request.reservation or "")
        return own.start if own is not None and own.start > memory.clock() else None
    return None


def _write(connection: Connection, rows: "Sequence[_Row]") -> set[int]:
    """写下去；返回写成了的。"""
    if not rows:
        return set()
    values = {
        "job_ids": [item[0] for item in rows],
        "reasons": [item[1] for item in rows],
        "messages": [item[2] for item in rows],
        "expected": [moment_of(item[3]) for item in rows],
        "nodes": [item[4] for item in rows],
    }
    return set(connection.scalars(WRITE_REASONS, values))


def end_hopeless(
    connection: Connection, epoch: int, memory: QueueMemory, *, kill_invalid_dependency: bool
) -> tuple[list[int], bool]:
    """结束来不及的（DEADLINE）与依赖无望且要求取消的；返回 (作业号, 还有没有没结束的——行被锁着)。"""
    wanted: list[tuple[int, str, str]] = []
    for job_id in list(memory.hopeless):
        waiting = memory.waiting.get(job_id)
        if waiting is None or waiting.job.reason not in HOPELESS:
            memory.hopeless.discard(job_id)
            continue
        # 异构作业的一个部分没有指望了，整个都没有。
        parts, message = memory.het.siblings_of(waiting), waiting.job.message or ""
        if waiting.job.reason == "Deadline":
            wanted += ((part, "DEADLINE", message) for part in parts)
        else:
            own = waiting.kill_on_invalid_dependency
            if kill_invalid_dependency if own is None else own:
                wanted += ((part, "CANCELLED", message) for part in parts)
    ended = _end(connection, epoch, wanted)
    return ended, len(ended) < len(wanted)


def _end(connection: Connection, epoch: int, wanted: Iterable[tuple[int, str, str]]) -> list[int]:
    rows = list(wanted)
    if not rows:
        return []
    values = {
        "epoch": epoch,
        "job_ids": [row[0] for row in rows],
        "states": [row[1] for row in rows],
        "messages": [row[2] for row in rows],
    }
    return list(connection.scalars(END_HOPELESS, values))
