"""利用率被什么压着：去掉一样，把队列重新计划一遍，看今后一段时间多用多少 CPU。纯函数，只动副本。

先照真的策略启动，再为余下的尽量多地保留，填满这段时间；作业占用到时限为止，所以是照申请算的占用。
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, NodeShare
from scns_conductor.scheduling.placement import Placement, place
from scns_conductor.scheduling.plan import Plan, Reservation
from scns_conductor.scheduling.planner import plan
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import CPU, CPUS_OF, MEMORY
from scns_conductor.scheduling.started import started

# 填满今后这段时间，至多为这么多个作业保留。
MOST_RESERVED = 500
# 试着启动的作业从这个号起：真的作业号不会这么大。
_FIRST_TRIAL = 2**61
_EVERYTHING = 2**31
# 有要与别人隔开的，至多这么多遍。
MOST_ROUNDS = 50
# 把空闲并到一个节点上时它的名字。
MERGED = "merged"
_PLENTY = 2**40


@dataclass(frozen=True, slots=True)
class Use:
    """今后一段时间里占用的 CPU·秒；此刻启动了几个；cut：作业太多，没有都算进去。"""

    busy_cpu_s: float
    starts: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """此刻的样子。jobs 是全部排队的（数组的任务各是一个），不能启动的带着原因；horizon_s 是看多久。"""

    cluster: Cluster
    jobs: Sequence[PendingJob]
    now: float
    policy: Policy
    horizon_s: float

    def copy(self) -> "Scene":
        """一份随便改的。"""
        return replace(self, cluster=copy.deepcopy(self.cluster), jobs=[replace(job) for job in self.jobs])


# 去掉一样：改副本，返回改过的（多半就是它）。
Change = Callable[[Scene], Scene]


def unchanged(scene: Scene) -> Scene:
    """什么也不改。"""
    return scene


def use_of(scene: Scene, change: Change = unchanged) -> Use:
    """改了之后占用多少；scene 自己不变。"""
    tried = change(scene.copy())
    cluster, queue = tried.cluster, _queue(tried.jobs)
    starts = 0
    for _ in range(MOST_ROUNDS):
        decided = plan(cluster, queue, tried.now, replace(tried.policy, most_starts=_EVERYTHING))
        for start in decided.starts:
            queue.remove(start.job.job_id)
            cluster.allocate(started(cluster, start, _FIRST_TRIAL + starts, tried.now))
            starts += 1
        # 有要与别人隔开的，一遍启动不完。
        if not decided.exhausted or not decided.starts:
            break
    filling = replace(
        tried.policy, backfill=Backfill.EASY, depth=MOST_RESERVED, shortest_first=False, most_starts=_EVERYTHING
    )
    later = plan(cluster, queue, tried.now, filling)
    until = tried.now + tried.horizon_s
    # 负的作业号是替借出 CPU 的作业攒着的，没有人用。
    busy = sum(
        sum(share.cpus for share in job.shares) * _overlap(tried.now, job.expected_end, tried.now, until)
        for job in cluster.running.values()
        if job.job_id > 0 and not job.suspended
    )
    busy += sum(_planned_cpu_s(found, until) for found in _spans(later))
    return Use(busy, starts, len(later.reservations) >= MOST_RESERVED)


def heads(scene: Scene, most: int) -> list[Reservation]:
    """照真的策略，此刻为哪些作业留着资源（还没有到时候的），次序在前的先。"""
    decided = plan(scene.cluster, _queue(scene.jobs), scene.now, replace(scene.policy, most_starts=_EVERYTHING))
    return [kept for kept in decided.reservations if kept.start_time > scene.now][:most]


def lacking_pools(scene: Scene) -> dict[str, list[int]]:
    """此刻不够的池（上限、许可证）-> 在等它的作业号，等的多的在前。"""
    found: dict[str, list[int]] = {}
    for job in scene.jobs:
        if job.startable:
            for name, count in job.shape.pools:
                if scene.cluster.pools.get(name, 0) < count:
                    found.setdefault(name, []).append(job.job_id)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def fragmented(scene: Scene) -> tuple[list[int], list[int]]:
    """(几个节点加起来够、哪一个都不够的作业号，空着 CPU 的节点)；要几个节点的、独占的不算。"""
    cluster = scene.cluster
    free = cluster.free[: cluster.count]
    idle = cluster.schedulable[: cluster.count] & (free[:, CPU] > 0)
    jobs = []
    for job in scene.jobs:
        shape = job.shape
        if not job.startable or not shape.single_node or cluster.exclusive(shape):
            continue
        nodes = cluster.eligible(shape) & idle
        need = shape.per_node(cluster.kinds, cluster.width) + shape.tasks * shape.per_task(cluster.kinds, cluster.width)
        together = free[nodes].sum(axis=0)
        if not (together >= need).all() or (free[nodes] >= need).all(axis=1).any():
            continue
        if place(cluster, shape, free, Placement.BEST_FIT) is None:
            jobs.append(job.job_id)
    return jobs, [int(node) for node in idle.nonzero()[0]]


def starved_of_memory(scene: Scene) -> list[int]:
    """CPU 空着、内存却不够任何一个在等的作业的节点。"""
    cluster = scene.cluster
    waiting = [job for job in scene.jobs if job.startable]
    found = []
    for node in range(cluster.count):
        row = cluster.free[node]
        if not cluster.schedulable[node] or row[CPU] <= 0:
            continue
        for job in waiting:
            shape = job.shape
            least = shape.per_node(cluster.kinds, cluster.width) + shape.per_task(cluster.kinds, cluster.width)
            lacking = [column for column in range(cluster.width) if least[column] > row[column]]
            if lacking == [MEMORY] and cluster.eligible(shape)[node]:
                found.append(node)
                break
    return found


# ---- 可以试的改法 ----


def restoring(nodes: Sequence[str]) -> Change:
    """这些停着的节点放回来。"""

    def change(scene: Scene) -> Scene:
        for name in nodes:
            scene.cluster.schedulable[scene.cluster.index[name]] = True
        scene.cluster.version += 1
        return scene

    return change


def without_reservation(name: str) -> Change:
    """去掉一个预留；为它等着的作业照常排。"""

    def change(scene: Scene) -> Scene:
        kept = [each for each in scene.cluster.reservations.values() if each.name != name]
        scene.cluster.set_reservations(kept)
        return scene

    return change


def plenty_of(pool: str) -> Change:
    """一个上限（许可证）放得很宽。"""

    def change(scene: Scene) -> Scene:
        scene.cluster.pools[pool] = _PLENTY
        return scene

    return change


def allowing(reasons: frozenset[str], job_ids: frozenset[int]) -> Change:
    """这些因为 reasons 不能启动的作业能启动了。"""

    def change(scene: Scene) -> Scene:
        for job in scene.jobs:
            if job.job_id in job_ids and job.reason in reasons:
                job.reason = None
        return scene

    return change


def without_job(job_id: int) -> Change:
    """先不排这一个。"""

    def change(scene: Scene) -> Scene:
        return replace(scene, jobs=[job for job in scene.jobs if job.job_id != job_id])

    return change


def without_running(job_ids: Sequence[int]) -> Change:
    """这些占着资源的结束了。"""

    def change(scene: Scene) -> Scene:
        for job_id in job_ids:
            scene.cluster.release(job_id)
        return scene

    return change


def together(scene: Scene) -> Scene:
    """谁也不与别人隔开（--exclusive=user、mcs）。"""
    cluster = scene.cluster
    cluster.scopes.clear()
    for job in list(cluster.running.values()):
        cluster.running[job.job_id] = replace(job, exclusive_to=None)
    shapes = (replace(job.shape, owners=(), exclusive_to=None) for job in scene.jobs)
    return replace(scene, jobs=[replace(job, shape=shape) for job, shape in zip(scene.jobs, shapes, strict=True)])


def planned_by(policy: Policy) -> Change:
    """换一种策略。"""

    def change(scene: Scene) -> Scene:
        return replace(scene, policy=policy)

    return change


def merged(nodes: Sequence[int]) -> Change:
    """这些节点此刻的空闲并到一个节点上：碎片的代价，做不到，只为了算。"""

    def change(scene: Scene) -> Scene:
        cluster = scene.cluster
        totals = cluster.free[list(nodes)].sum(axis=0)
        names = {cluster.names[node] for node in nodes}
        features: set[str] = set()
        for node in nodes:
            features |= cluster.features[node]
            cluster.total[node] -= cluster.free[node]
            cluster.free[node] = 0
        # 带型号的同时计在不带型号的里：只写带型号的。
        models = {kind.split(":")[0] for kind in cluster.kinds if ":" in kind}
        gres = {
            kind: int(totals[col])
            for kind, col in cluster.kinds.items()
            if totals[col] and kind not in models and not kind.startswith(CPUS_OF)
        }
        cluster.upsert_node(
            NodeFacts(
                MERGED,
                int(totals[CPU]),
                int(totals[MEMORY]),
                gres,
                frozenset(features),
                temporary_disk=_PLENTY,
                # 什么布局的要求都满足。
                layout=(_PLENTY, _PLENTY, _PLENTY),
            )
        )
        cluster.set_partitions(
            [
                replace(each, nodes=each.nodes | {MERGED}) if each.nodes is not None and each.nodes & names else each
                for each in cluster.partitions.values()
            ]
        )
        return scene

    return change


def with_memory(nodes: Sequence[int]) -> Change:
    """这些节点的内存用不完。"""

    def change(scene: Scene) -> Scene:
        for node in nodes:
            scene.cluster.free[node, MEMORY] += _PLENTY
            scene.cluster.total[node, MEMORY] += _PLENTY
        scene.cluster.version += 1
        return scene

    return change


# ---- 计算 ----


def _queue(jobs: Sequence[PendingJob]) -> Queue:
    queue = Queue()
    for job in jobs:
        queue.upsert(job)
    return queue


def _overlap(start: float, end: float, begin: float, until: float) -> float:
    return max(0.0, min(end, until) - max(start, begin))


def _spans(found: Plan) -> list[tuple[float, float, tuple[NodeShare, ...]]]:
    starts = [(found.now, found.now + start.limit_s, start.shares) for start in found.starts]
    kept = [(each.start_time, each.start_time + each.job.time_limit_s, each.shares) for each in found.reservations]
    return starts + kept


def _planned_cpu_s(span: tuple[float, float, tuple[NodeShare, ...]], until: float) -> float:
    start, end, shares = span
    return sum(share.cpus for share in shares) * _overlap(start, end, start, until)
