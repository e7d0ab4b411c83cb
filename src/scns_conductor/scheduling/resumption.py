"""接着上一遍计划：先按次序核对保留，再让受阻的组看变了的节点、新到的作业看全部节点。

变了的节点（dirty）上的空闲与上一遍所知的不同。保留上次选的是最早的，没有变的节点不会更早，所以只要与变了的节点比；
一个保留挪走了，原来与新到的节点也就变了。代价与变了多少成正比，与队列和集群的大小无关（除了几次向量比较）。
"""

from collections.abc import Collection, Mapping

import numpy as np

from scns_conductor.scheduling.attempt import Attempt, facts_of
from scns_conductor.scheduling.cycle import Cycle, Later
from scns_conductor.scheduling.feasibility import Kind, fits, impossible
from scns_conductor.scheduling.plan import Plan, Reservation
from scns_conductor.scheduling.queue import Group, GroupKey, OrderKey, PendingJob, Queue
from scns_conductor.scheduling.shape import LICENSE, BoolArray, IntArray

# 变了的节点多到这么多，逐组地比，不逐个节点地比。
MANY_NODES = 64
# 已过预计结束、快到预计结束的都当作这么多秒之后结束（见 Future），到时的保留也就不照旧。
SOON_S = 1.0
# 新到而排在保留前面的多到这么多，不如从头计划。
MOST_INSERTED = 64
# 至多这么多组、不少于这么多个保留动了，从头计划更省。
FEW = 8


class Resumption:
    """在 cycle 里接着 old 计划；changed 是变了的节点，raised 是多了的池。

    变了的节点若只是空出来了一些，freed_until 是各自到何时为止（此后的空闲没有变），否则是 None。

    调用者保证：old 的保留用的池没有多。
    """

    def __init__(
        self,
        cycle: Cycle,
        old: Plan,
        queue: Queue,
        changed: IntArray,
        raised: Collection[str],
        freed_until: Mapping[int, float] | None,
    ) -> None:
        self._freed_until = freed_until
        # 多了的池，与保留挪走而空出来的许可证：用它们的组要再看全部节点。
        self._raised = set(raised)
        self._cycle, self._old, self._queue = cycle, old, queue
        self._dirty: BoolArray = np.zeros(cycle.cluster.count, dtype=np.bool_)
        self._dirty[changed] = True
        self._nodes = changed
        # 还有保留的、已经启动的，不再看；启动了若干任务、再没有保留的数组。
        self._skipped: set[int] = set()
        self._begun: dict[int, int] = {}
        # 有作业按保留启动了的组：也许已经没有别的作业受阻。
        self._moving: set[GroupKey] = set()
        # 变了的节点里此刻还有空闲的（太多而没有看的是 None），与那里的空闲；看到第几个启动为止。
        self._roomy: list[int] | None = None
        self._rows: list[list[int]] = []
        self._looked = -1
        # 最后一个保留的次序键。
        self._last: OrderKey | None = max((kept.job.key for kept in old.reservations), default=None)
        # 集合与字典之间按记着的散列比：不逐个地算形状的。
        cycle.plan.blocked = dict(old.blocked)
        for key in set(old.blocked).difference(queue.groups):
            del cycle.plan.blocked[key]
        for key in cycle.plan.blocked:
            # 受阻之后上限也满了的：原因是上限。
            for name, count in key[0].pools:
                if not name.startswith(LICENSE) and cycle.pools.get(name, 0) < count:
                    cycle.plan.blocked[key] = cycle.cluster.pool_reasons.get(name, "Resources")
                    break
        cycle.plan.impossible = {key: text for key, text in old.impossible.items() if key in queue.groups}

    def run(self) -> bool:
        """接着计划；不能接着的返回 False（要从头计划）。"""
        last = self._last
        inserted = sorted(
            (job for job in self._queue.fresh.values() if last is not None and job.key < last), key=lambda job: job.key
        )
        if len(inserted) > MOST_INSERTED:
            return False
        same = 0 if inserted else self._unaffected()
        if same < len(self._old.reservations) - FEW and len(self._queue.groups) <= FEW:
            # 几种形状、许多保留都动了：从头算成一条链更省。
            return False
        for kept in self._old.reservations[:same]:
            self._skipped.add(kept.job.job_id)
            self._cycle.hold(kept)
        for kept in self._old.reservations[same:]:
            while inserted and inserted[0].key < kept.job.key:
                self._insert(inserted.pop(0))
            if self._queue.jobs.get(kept.job.job_id) is not kept.job or not kept.job.startable:
                # 取消了、保留了：它占的地方空出来。
                self._give_up(kept)
                self._moving.add((kept.job.shape, kept.job.time_limit_s))
            elif self._cycle.full(self._queue.groups[kept.job.shape, kept.job.time_limit_s]):
                # 排到了名额之外。
                self._give_up(kept)
            else:
                self._recheck(kept)
        return self._go_on()

    def _mark(self, nodes: Collection[int]) -> None:
        added = [node for node in set(nodes) if not self._dirty[node]]
        if added:
            self._dirty[added] = True
            self._nodes = np.sort(np.concatenate([self._nodes, np.array(added, dtype=np.int64)]))

    def _give_up(self, kept: Reservation) -> None:
        """一个保留不照旧了：它的节点与许可证空了出来。"""
        self._mark([share.node for share in kept.shares])
        self._raised.update(name for name, _ in kept.job.shape.pools if name.startswith(LICENSE))

    # ---- 保留 ----

    def _unaffected(self) -> int:
        """最前面有几个保留肯定照旧：变了的节点在变了的那段时间里，即使没有保留，也不能更早给出它们要的。"""
        cycle, cluster = self._cycle, self._cycle.cluster
        if self._freed_until is None or len(self._nodes) > MANY_NODES:
            return 0
        # 同形的保留很多：每个形状只问一次，which 是各个保留的形状的下标。
        needs: list[IntArray] = []
        masks: list[BoolArray] = []
        which: list[int] = []
        known: dict[int, int] = {}
        for kept in self._old.reservations[: cycle.depth]:
            job, shape = kept.job, kept.job.shape
            if kept.start_time < cycle.now + SOON_S or self._queue.jobs.get(job.job_id) is not job or not job.startable:
                break
            if shape.pools or shape.time_minimum_s is not None:
                break
            index = known.get(id(shape))
            if index is None:
                need, kind = facts_of(cluster, self._queue.groups[shape, job.time_limit_s])
                if kind is Kind.GENERAL:
                    break
                index = known[id(shape)] = len(needs)
                needs.append(need)
                masks.append(cluster.eligible(shape))
            which.append(index)
        if not which or not len(self._nodes):
            return len(which)
        wanted = np.stack(needs)[which]
        candidates = self._old.reservations[: len(which)]
        starts = np.array([kept.start_time for kept in candidates])
        owners = np.array([kept.shares[0].node for kept in candidates])
        affected = np.zeros(len(which), dtype=np.bool_)
        for node in self._nodes.tolist():
            moments, levels = cycle.future.ceiling(node)
            # 它自己的节点要更早才算；别的节点同样早时也许次序在前。
            earlier = np.searchsorted(moments, starts, side="left")
            slots = np.where(owners == node, earlier, np.searchsorted(moments, starts, side="right"))
            slots = np.minimum(slots, np.searchsorted(moments, self._freed_until[node], side="left"))
            usable = np.array([mask[node] for mask in masks])[which]
            affected |= usable & ((levels[slots] >= wanted) | (wanted == 0)).all(axis=1)
        return int(affected.argmax()) if affected.any() else len(which)

    def _recheck(self, kept: Reservation) -> None:
        """核对一个保留：照旧、提前、推迟，或此刻就启动。"""
        cycle, job = self._cycle, kept.job
        nodes = [share.node for share in kept.shares]
        if kept.start_time < cycle.now + SOON_S:
            # 快到时刻，占着资源的作业却没有结束：照变了的重新看。
            self._mark(nodes)
        self._skipped.add(job.job_id)
        shape, group = job.shape, self._queue.groups[job.shape, job.time_limit_s]
        need, kind = facts_of(cycle.cluster, group)
        if kind is not Kind.GENERAL and not shape.pools and shape.time_minimum_s is None:
            self._settle(kept, self._earliest(kept, group, need))
            return
        attempt = self._turned(kept)
        lacking = cycle.lacking(attempt) if job.shape.pools else None
        if lacking is not None and not lacking.startswith(LICENSE):
            # 上限满了：不再为它保留，等池多出来再看。
            cycle.plan.blocked[group.key] = cycle.cluster.pool_reasons.get(lacking, "Resources")
            self._skipped.discard(job.job_id)
            self._give_up(kept)
            return
        freed = any(name in self._raised for name, _ in job.shape.pools)
        if not freed and not attempt.usable[self._nodes].any():
            cycle.hold(kept)
            return
        # 等的也许是许可证：空出来了，全部节点都看。
        self._settle(kept, self._from_scratch(attempt, None if freed else "Resources"))

    def _turned(self, kept: Reservation) -> Attempt:
        """轮到保留的那个作业。"""
        group = self._queue.groups[kept.job.shape, kept.job.time_limit_s]
        attempt = Attempt(self._cycle.cluster, group, self._cycle.now)
        attempt.turn_to(kept.job)
        return attempt

    def _settle(self, kept: Reservation, found: Reservation | None) -> None:
        """保留换成 found（多半就是它自己）。"""
        if found is None:
            # 启动了，或说不准何时了。
            self._give_up(kept)
            return
        if found.start_time != kept.start_time or found.shares != kept.shares:
            self._give_up(kept)
            self._mark([share.node for share in found.shares])
        self._cycle.hold(found)

    def _earliest(self, kept: Reservation, group: Group, need: IntArray) -> Reservation | None:
        """一个节点上的：与变了的节点比。"""
        cycle, (share,) = self._cycle, kept.shares
        ranks, usable = cycle.cluster.ranks, cycle.cluster.open_to(group.shape)
        if not usable[self._nodes].any():
            return kept
        best = cycle.future.earliest_among(self._nodes, need, usable, group.time_limit_s)
        old = (kept.start_time, int(ranks[share.node]))
        new = None if best is None else (best[0], int(ranks[best[1]]))
        if self._dirty[share.node]:
            if new is None or new > old:
                # 原来的地方没有那么早了，没有变的节点也可能更好。
                return self._from_scratch(self._turned(kept))
        elif new is None or new >= old:
            return kept
        assert best is not None
        if best[0] <= cycle.now:
            return self._from_scratch(self._turned(kept))
        return Reservation(kept.job, best[0], (cycle.share_at(self._turned(kept), *best),))

    def _insert(self, job: PendingJob) -> None:
        """新到的作业排在某个保留前面：它先启动或保留，碰到的节点算变了的。"""
        cycle = self._cycle
        place_key = (job.shape, job.time_limit_s)
        blocked, group = cycle.plan.blocked, self._queue.groups[place_key]
        if place_key in cycle.plan.impossible:
            return
        attempt = Attempt(cycle.cluster, group, cycle.now)
        attempt.turn_to(job)
        lacking = cycle.lacking(attempt)
        reason = "Resources" if lacking is None else cycle.cluster.pool_reasons.get(lacking, "Resources")
        message = None if lacking is None or place_key in blocked else impossible(cycle.cluster, job.shape)
        if message is not None:
            cycle.plan.impossible[place_key] = message
            return
        if lacking is not None and not lacking.startswith(LICENSE):
            blocked[place_key] = reason
            return
        # 同组的受阻也许只因为会推迟它后面的保留：全部节点都看。
        found = self._from_scratch(attempt, None)
        if found is None and attempt.job is not job:
            self._skipped.add(job.job_id)
            return
        message = None if place_key in blocked else impossible(cycle.cluster, job.shape)
        if message is not None:
            cycle.plan.impossible[place_key] = message
            return
        blocked.setdefault(place_key, reason)
        if found is not None and not cycle.full(group):
            cycle.hold(found)
            self._skipped.add(job.job_id)
            self._mark([share.node for share in found.shares])

    def _from_scratch(self, attempt: Attempt, known: str | None = "Resources") -> Reservation | None:
        """当前的作业此刻能启动则启动；还要等的找最早的时刻，都启动了或说不准何时是 None。

        known 是已知受阻的原因：在没有变的节点上仍然受阻；None 是新来的，全部节点都看。
        """
        cycle, job = self._cycle, attempt.job
        assert job is not None
        if known is not None:
            attempt.limit_to(self._dirty, self._nodes, known)
        # 数组：能启动几个任务就启动几个，余下的再保留一个。
        while attempt.job is job and (nodes := cycle.start_one(attempt)):
            self._mark(nodes)
            self._moving.add(attempt.group.key)
        if attempt.job is not job:
            return None
        lacking = cycle.lacking(attempt) if job.shape.pools else None
        if lacking is not None and not lacking.startswith(LICENSE):
            # 启动了几个任务，上限就满了：不再保留。
            cycle.plan.blocked[attempt.group.key] = cycle.cluster.pool_reasons.get(lacking, "Resources")
            self._skipped.discard(job.job_id)
            self._begun[job.job_id] = attempt.taken
            return None
        found = None if attempt.inside else cycle.earliest(attempt)
        if found is None:
            cycle.unreserved.add(attempt.group.key)
            self._skipped.discard(job.job_id)
            self._begun[job.job_id] = attempt.taken
            return None
        return Reservation(job, *found)

    # ---- 受阻的与新到的 ----

    def _go_on(self) -> bool:
        cycle, raised = self._cycle, self._raised
        blocked, cluster = cycle.plan.blocked, cycle.cluster
        last = self._last
        # 说不准何时、却排在某个保留前面的，也许现在说得准了：次序要从头排。
        for key in cycle.unreserved:
            group = self._queue.groups[key]
            usable = cluster.eligible(group.shape)
            if last is not None and group.keys[group.start] < last and usable[self._nodes].any():
                return False
        if self._moving:
            held = {(kept.job.shape, kept.job.time_limit_s) for kept in cycle.plan.reservations}
            for key in (self._moving - held) & blocked.keys():
                if self._attempt(self._queue.groups[key]).job is None:
                    del blocked[key]
        fresh = {(job.shape, job.time_limit_s) for job in self._queue.fresh.values()}
        attempts = [
            self._attempt(self._queue.groups[key])
            for key in fresh
            if key not in blocked and key not in cycle.plan.impossible
        ]
        later: list[Later] = []
        maybe: list[Later] = []
        # 名额都用完了：启动不了的不必看（cycle.full）。
        each_own, skipped = cycle.policy.shortest_first, self._skipped
        spare = each_own or len(cycle.plan.reservations) < cycle.depth
        groups = [self._queue.groups[key] for key in blocked]
        for group, hopeful in zip(groups, self._hopeful(groups).tolist(), strict=True):
            retry = bool(raised) and any(name in raised for name, _ in group.shape.pools)
            if not (retry or hopeful or spare):
                continue
            first = group.jobs[group.start]
            # 多半就是组首。
            known = first is not None and first.job_id not in skipped
            head = group.keys[group.start] if known else self._head(group)
            if head is None:
                continue
            if retry and last is not None and head < last:
                return False
            if hopeful and not (retry or spare) and self._roomy is not None and self._lone(group):
                maybe.append((head, group))
            elif retry or hopeful:
                attempts.append(self._again(group, retry))
            elif not (each_own and cycle.full(group)) and not self._unreservable(group):
                # 此刻启动不了，轮到它也只是保留。
                later.append((head, group))
        cycle.run(attempts, later, self._again, maybe, self._still_fits)
        cycle.settle_reasons(self._queue)
        return True

    def _again(self, group: Group, retry: bool = False) -> Attempt:
        """受阻的组再看一遍；retry 是全部节点都看，否则只看变了的。"""
        attempt, reason = self._attempt(group), self._cycle.plan.blocked.pop(group.key)
        if not retry:
            attempt.limit_to(self._dirty, self._nodes, reason)
        return attempt

    def _attempt(self, group: Group) -> Attempt:
        return Attempt(self._cycle.cluster, group, self._cycle.now, self._skipped, self._begun)

    def _head(self, group: Group) -> OrderKey | None:
        """组里第一个没有保留的作业的次序键。"""
        for index in range(group.start, len(group.jobs)):
            job = group.jobs[index]
            if job is not None and job.job_id not in self._skipped:
                return group.keys[index]
        return None

    def _unreservable(self, group: Group) -> bool:
        cycle, shape = self._cycle, group.shape
        if cycle.unreserved and group.key in cycle.unreserved:
            return not cycle.cluster.eligible(shape)[self._nodes].any()
        if not shape.pools:
            return False
        return any(not name.startswith(LICENSE) and cycle.pools.get(name, 0) < count for name, count in shape.pools)

    def _hopeful(self, groups: list[Group]) -> BoolArray:
        """哪些组也许能在变了的节点上启动。"""
        found = np.zeros(len(groups), dtype=np.bool_)
        if not groups or not len(self._nodes):
            return found
        if len(self._nodes) > MANY_NODES:
            return np.array([self._may_start(group) for group in groups])
        cluster = self._cycle.cluster
        # facts_of，记着的直接取：每一遍都要问全部受阻的组。
        version, general = cluster.version, Kind.GENERAL
        facts = [
            (known[1], known[2])
            if (known := group.facts) is not None and known[0] == version
            else facts_of(cluster, group)
            for group in groups
        ]
        needs = np.concatenate([need for need, _ in facts]).reshape(len(groups), cluster.width)
        # 连要得最少的也放不下的节点不必问：多半此刻是满的。
        least = needs.min(axis=0)
        free = self._cycle.free[self._nodes]
        self._roomy = self._nodes[((free >= least) | (least == 0)).all(axis=1)].tolist()
        # 在预留里运行的不看今后：那里预留的节点谁也不给。
        simple = np.array(
            [
                kind != general and (group.shape.reservation is None or not cluster.secluded(group.shape))
                for group, (_, kind) in zip(groups, facts, strict=True)
            ]
        )
        durations = np.array([group.shape.time_minimum_s or group.time_limit_s for group in groups])
        for node in self._roomy:
            enough = self._cycle.future.enough(node, needs, durations) & simple & ~found
            for index in np.flatnonzero(enough).tolist():
                found[index] = cluster.eligible(groups[index].shape)[node]
        for index in np.flatnonzero(~simple).tolist():
            found[index] = self._may_start(groups[index])
        return found

    def _lone(self, group: Group) -> bool:
        """放不放得下只看此刻变了的节点的空闲（也要今后够）：不等池，不缩短时限，不在预留里。"""
        shape = group.shape
        return (
            not shape.pools
            and shape.time_minimum_s is None
            and facts_of(self._cycle.cluster, group)[1] is not Kind.GENERAL
            and not self._cycle.cluster.secluded(shape)
        )

    def _still_fits(self, group: Group) -> bool:
        """这一遍又启动了一些之后，变了的节点里还有没有一个此刻够它的：没有就启动不了。"""
        count = len(self._cycle.plan.starts)
        if count != self._looked:
            # 启动的碰到的也许是任何一个。
            self._looked, free = count, self._cycle.free
            self._rows = [free[node].tolist() for node in self._roomy or ()]
        amounts = [(at, amount) for at, amount in enumerate(facts_of(self._cycle.cluster, group)[0].tolist()) if amount]
        return any(all(row[at] >= amount for at, amount in amounts) for row in self._rows)

    def _may_start(self, group: Group) -> bool:
        cycle = self._cycle
        need, kind = facts_of(cycle.cluster, group)
        nodes = self._nodes[cycle.cluster.eligible(group.shape)[self._nodes]]
        if kind is not Kind.GENERAL:
            return bool(fits(cycle.free[nodes], need).any())
        return any(cycle.cluster.capacity_at(group.shape, node, cycle.free[node]) for node in nodes.tolist())
