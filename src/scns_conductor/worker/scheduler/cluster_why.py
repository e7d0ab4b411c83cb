"""回答 utilisation：此刻什么压着利用率，各值多少 CPU·小时，改哪一样最值——每一样都真的重新计划过。"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.answers.cluster import Cause, ClusterWhy
from scns_conductor.core.array_spec import count_tasks
from scns_conductor.core.hostlist import compress
from scns_conductor.core.units import format_duration
from scns_conductor.scheduling import utilisation as scene_of
from scns_conductor.scheduling.policy import Backfill, Policy
from scns_conductor.scheduling.pool_words import pool_title
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import CPU, LICENSE
from scns_conductor.scheduling.utilisation import Change, Scene, use_of
from scns_conductor.statements.queue import ABSENT_NODES, JOB_LABELS
from scns_conductor.worker.scheduler.memory import QueueMemory

# 至多看这么多个排队的作业（数组的任务各算一个）；同一类至多试这么多样；试到这么多秒为止。
MOST_JOBS = 2000
MOST_TRIED = 3
MOST_S = 6.0
MOST_NAMED = 5
# 少于这么多 CPU·小时的不说。
LEAST_GAIN_H = 0.01
_HELD = frozenset({"JobHeldAdmin", "JobHeldUser", "launch_failed_requeued_held"})
_THROTTLED = frozenset({"JobArrayTaskLimit"})
# 作业号 -> (怎样写它, 谁的)。
_Labels = dict[int, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """可以试的一样：cause 是英文码，text 说是什么，action 是照做的命令（没有能照做的是 None）。"""

    cause: str
    text: str
    change: Change
    action: str | None = None
    nodes: tuple[str, ...] = ()
    # 说到的作业（记忆里的号）。
    job_ids: tuple[int, ...] = ()


def cluster_why(
    connection: Connection, memory: QueueMemory, policy: Policy, now: float, horizon_s: float
) -> ClusterWhy:
    """causes 按多用的 CPU·小时从多到少。"""
    return _Answer(connection, memory, policy, now, horizon_s).answer()


@dataclass(slots=True)
class _Answer:
    """一次回答。"""

    connection: Connection
    memory: QueueMemory
    policy: Policy
    now: float
    horizon_s: float

    def answer(self) -> ClusterWhy:
        """先算不改的，再一样一样地试。"""
        began = time.monotonic()
        jobs, origin, cut = self._jobs()
        scene = Scene(self.memory.cluster, jobs, self.now, self.policy, self.horizon_s)
        labels = self._labels(sorted({origin[job.job_id] for job in jobs}))
        base = use_of(scene)
        causes, untried = [], 0
        for candidate in self._candidates(scene, origin, labels):
            if time.monotonic() - began > MOST_S:
                untried += 1
                continue
            use = use_of(scene, candidate.change)
            gain_h = (use.busy_cpu_s - base.busy_cpu_s) / 3600
            if gain_h >= LEAST_GAIN_H:
                causes.append((gain_h, use.starts - base.starts, candidate))
        causes.sort(key=lambda each: -each[0])
        return self._told(jobs, base, cut, causes, untried, origin, labels)

    # ---- 此刻 ----

    def _jobs(self) -> tuple[list[PendingJob], dict[int, int], bool]:
        """排队的，按次序，数组拆开（各给一个暂用的号）；暂用的号 -> 作业号；是不是没有都算进去。"""
        found: list[PendingJob] = []
        origin: dict[int, int] = {}
        waiting = sorted(self.memory.waiting.values(), key=lambda each: each.job.key)
        for each in waiting:
            job = each.job
            count = 1 if job.tasks is None else count_tasks(each.remaining or job.tasks)
            for number in range(min(count, MOST_JOBS - len(found))):
                throttled = job.reason is None and number >= job.available
                reason = "JobArrayTaskLimit" if throttled else job.reason
                clone = replace(
                    job, job_id=len(found) + 1, order=job.order or job.job_id, tasks=None, available=1, reason=reason
                )
                origin[clone.job_id] = job.job_id
                found.append(clone)
            if len(found) >= MOST_JOBS:
                return found, origin, True
        return found, origin, False

    def _labels(self, job_ids: list[int]) -> _Labels:
        rows = self.connection.execute(JOB_LABELS, {"job_ids": job_ids})
        return {row.job_id: (row.label, row.user_name) for row in rows}

    # ---- 可以试的 ----

    def _candidates(self, scene: Scene, origin: dict[int, int], labels: _Labels) -> Iterator[_Candidate]:
        yield from self._absent()
        yield from self._partitions(scene, origin)
        yield from self._reservations(scene, origin)
        yield from self._pools(scene, origin)
        yield from self._heads(scene, origin, labels)
        yield from self._suspended()
        yield from self._apart()
        yield from self._held(scene, origin, labels)
        yield from self._throttled(scene, origin, labels)
        yield from self._policies()
        yield from self._nodes(scene, origin)

    def _absent(self) -> Iterator[_Candidate]:
        """停着的节点：排空的、下线的。"""
        found: dict[str, list[Any]] = {}
        for row in self.connection.execute(ABSENT_NODES):
            if row.name in self.memory.cluster.index:
                found.setdefault("drained_nodes" if row.state == "UP" else "down_nodes", []).append(row)
        for cause, rows in found.items():
            names = tuple(row.name for row in rows)
            reasons = sorted({row.reason for row in rows if row.reason})
            why = f"（{'；'.join(reasons[:MOST_NAMED])}）" if reasons else ""
            if cause == "drained_nodes":
                text = f"排空的节点 {compress(sorted(names))}{why}"
                action = f"scontrol update NodeName={compress(sorted(names))} State=RESUME"
            else:
                text = f"下线的节点 {compress(sorted(names))}{why}"
                action = None
            yield _Candidate(cause, text, scene_of.restoring(names), action, names)

    def _partitions(self, scene: Scene, origin: dict[int, int]) -> Iterator[_Candidate]:
        """不启动作业的分区。"""
        for name, partition in self.memory.cluster.partitions.items():
            if partition.up:
                continue
            waiting = [job for job in scene.jobs if job.reason == "PartitionDown" and name in _partitions_of(job)]
            if waiting:
                ids = frozenset(job.job_id for job in waiting)
                text = f"分区 {name} 不启动作业，{len(waiting)} 个在等它"
                change = scene_of.allowing(frozenset({"PartitionDown"}), ids)
                action = f"scontrol update PartitionName={name} State=UP"
                yield _Candidate("partition_down", text, change, action, job_ids=_named(ids, origin))

    def _reservations(self, scene: Scene, origin: dict[int, int]) -> Iterator[_Candidate]:
        """预留：占着节点（许可证）给别人，或在时限之内要开始。"""
        until = self.now + self.horizon_s
        near = [each for each in self.memory.cluster.reservations.values() if each.start < until]
        for each in islice(sorted(near, key=lambda found: found.start), MOST_TRIED):
            inside = frozenset(job.job_id for job in scene.jobs if job.shape.reservation == each.name)
            when = "已开始" if each.start <= self.now else f"{format_duration(each.start - self.now)} 之后开始"
            text = f"预留 {each.name}（{when}）"
            nodes = tuple(self.memory.cluster.names) if each.nodes is None else tuple(sorted(each.nodes))
            action = f"scontrol delete ReservationName={each.name}"
            change = scene_of.without_reservation(each.name)
            yield _Candidate("reservation", text, change, action, nodes, _named(inside, origin))

    def _pools(self, scene: Scene, origin: dict[int, int]) -> Iterator[_Candidate]:
        """用完了的上限与许可证。"""
        for name, waiting in islice(scene_of.lacking_pools(scene).items(), MOST_TRIED):
            text = f"{pool_title(name)} 用完了，{len(waiting)} 个作业在等"
            cause = "license" if name.startswith(LICENSE) else "limit"
            yield _Candidate(cause, text, scene_of.plenty_of(name), job_ids=_named(waiting, origin))

    def _heads(self, scene: Scene, origin: dict[int, int], labels: _Labels) -> Iterator[_Candidate]:
        """排在最前、在等资源的大作业：为它留着的别人不能用。"""
        for kept in scene_of.heads(scene, MOST_TRIED):
            job_id = origin[kept.job.job_id]
            cpus = sum(share.cpus for share in kept.shares)
            when = format_duration(kept.start_time - self.now)
            text = f"为排在前面的作业 {_full(labels, job_id)} 留着资源：要 {cpus} 个 CPU，预计 {when} 之后开始"
            action = f"scns hold {_label(labels, job_id)}"
            nodes = tuple(self.memory.cluster.node_names(kept.shares))
            yield _Candidate("head_job", text, scene_of.without_job(kept.job.job_id), action, nodes, (job_id,))

    def _suspended(self) -> Iterator[_Candidate]:
        """挂起了、还占着 CPU 的。"""
        cluster = self.memory.cluster
        found = [job for job in cluster.running.values() if job.suspended and any(share.cpus for share in job.shares)]
        if found:
            job_ids = tuple(sorted(job.job_id for job in found))
            named = self._labels(list(job_ids))
            shown = "、".join(_full(named, job_id) for job_id in job_ids[:MOST_NAMED])
            action = f"scns cancel {' '.join(_label(named, job_id) for job_id in job_ids[:MOST_NAMED])}"
            nodes = tuple(sorted({cluster.names[share.node] for job in found for share in job.shares}))
            text = f"挂起的作业还占着 CPU：{shown}"
            yield _Candidate("suspended_jobs", text, scene_of.without_running(job_ids), action, nodes, job_ids)

    def _apart(self) -> Iterator[_Candidate]:
        """只与自己人共用节点的（--exclusive=user、mcs）：空着的 CPU 别人不能用。"""
        cluster = self.memory.cluster
        found = [job for job in cluster.running.values() if job.exclusive_to is not None]
        if found or cluster.scopes:
            job_ids = tuple(sorted(job.job_id for job in found))
            named = self._labels(list(job_ids))
            nodes = tuple(sorted({cluster.names[share.node] for job in found for share in job.shares}))
            shown = "、".join(_full(named, job_id) for job_id in job_ids[:MOST_NAMED]) or "还在排队"
            text = f"只与自己人共用节点的作业（--exclusive=user、mcs）：{shown}"
            yield _Candidate("exclusive_to", text, scene_of.together, None, nodes, job_ids)

    def _held(self, scene: Scene, origin: dict[int, int], labels: _Labels) -> Iterator[_Candidate]:
        """被保留着的作业。"""
        ids = frozenset(job.job_id for job in scene.jobs if job.reason in _HELD)
        if ids:
            named = _named(ids, origin)
            action = f"scns release {' '.join(_label(labels, job_id) for job_id in named)}"
            text = f"{len(ids)} 个作业被保留着"
            yield _Candidate("held_jobs", text, scene_of.allowing(_HELD, ids), action, job_ids=named)

    def _throttled(self, scene: Scene, origin: dict[int, int], labels: _Labels) -> Iterator[_Candidate]:
        """到了 % 的数组。"""
        counts = Counter(origin[job.job_id] for job in scene.jobs if job.reason in _THROTTLED)
        for job_id, count in counts.most_common(MOST_TRIED):
            ids = frozenset(each for each, own in origin.items() if own == job_id)
            waiting = self.memory.waiting[job_id]
            text = f"数组 {_full(labels, job_id)} 同时至多跑 {waiting.array_limit} 个，还有 {count} 个任务在等"
            action = f"scns update {_label(labels, job_id)} array_max_tasks={waiting.array_limit + count}"
            yield _Candidate("array_limit", text, scene_of.allowing(_THROTTLED, ids), action, job_ids=(job_id,))

    def _policies(self) -> Iterator[_Candidate]:
        """策略：不回填，或为太多的作业留着。"""
        policy = self.policy
        if policy.backfill is Backfill.NONE:
            text = "策略 fifo 不回填：一个作业受阻，后面的都等"
            change = scene_of.planned_by(replace(policy, backfill=Backfill.EASY, depth=1))
            yield _Candidate("no_backfill", text, change, "SCNS_SCHEDULER_POLICY=easy")
        elif policy.depth > 1 and not policy.shortest_first:
            text = f"为 {policy.depth} 个受阻的作业留着资源"
            change = scene_of.planned_by(replace(policy, backfill=Backfill.EASY, depth=1))
            yield _Candidate("many_reservations", text, change, "SCNS_BACKFILL_DEPTH=1")

    def _nodes(self, scene: Scene, origin: dict[int, int]) -> Iterator[_Candidate]:
        """碎片，与内存先用完的节点：没有一条命令能改，只说代价。"""
        cluster = self.memory.cluster
        waiting, idle = scene_of.fragmented(scene)
        if waiting:
            cpus = int(cluster.free[idle, CPU].sum())
            text = f"碎片：{len(idle)} 个节点上空着 {cpus} 个 CPU，加起来够 {len(waiting)} 个作业用，哪一个都不够"
            nodes = tuple(cluster.names[node] for node in idle)
            yield _Candidate("fragmentation", text, scene_of.merged(idle), None, nodes, _named(waiting, origin))
        starved = scene_of.starved_of_memory(scene)
        if starved:
            cpus = int(cluster.free[starved, CPU].sum())
            text = f"{len(starved)} 个节点的内存先用完了，空着 {cpus} 个 CPU"
            nodes = tuple(cluster.names[node] for node in starved)
            yield _Candidate("memory", text, scene_of.with_memory(starved), None, nodes)

    # ---- 说 ----

    def _told(
        self,
        jobs: list[PendingJob],
        base: scene_of.Use,
        cut: bool,
        causes: list[tuple[float, int, _Candidate]],
        untried: int,
        origin: dict[int, int],
        labels: _Labels,
    ) -> ClusterWhy:
        cluster = self.memory.cluster
        present = cluster.schedulable[: cluster.count]
        total, free = cluster.total[: cluster.count, CPU], cluster.free[: cluster.count, CPU]
        cpus = {
            "total": int(total.sum()),
            "allocated": int((total - free).sum()),
            "idle": int(free[present].sum()),
            "offline": int(free[~present].sum()),
        }
        nodes = sum(name in cluster.index for name in cluster.names)
        per_node = cpus["total"] / nodes if nodes else 1.0
        capacity_h = cpus["total"] * self.horizon_s / 3600
        waiting = Counter(_reason_of(job) for job in jobs)
        # 至少还要多少：排队的各跑满时限，至多算到这段时间。
        wanted_h = sum(
            job.shape.tasks * job.shape.cpus_per_task * min(job.time_limit_s, self.horizon_s) / 3600 for job in jobs
        )
        answers: list[Cause] = [
            {
                "cause": each.cause,
                "text": each.text,
                "gain_cpu_hours": round(gain_h, 2),
                "gain_node_hours": round(gain_h / per_node, 2) if per_node else 0.0,
                "starts_now": starts,
                "action": each.action,
                "nodes": sorted(each.nodes),
                "jobs": [_label(labels, job_id) for job_id in each.job_ids],
            }
            for gain_h, starts, each in causes
        ]
        best = next((number for number, each in enumerate(answers) if each["action"] is not None), None)
        found: ClusterWhy = {
            "cpus": cpus,
            "nodes": nodes,
            "horizon_s": self.horizon_s,
            "capacity_cpu_hours": round(capacity_h, 2),
            "busy_cpu_hours": round(base.busy_cpu_s / 3600, 2),
            "waiting": dict(waiting),
            "wanted_cpu_hours": round(wanted_h, 2),
            "causes": answers,
            "best": best,
            "untried": untried,
            "incomplete": cut or base.cut,
            "text": "",
        }
        found["text"] = "\n".join(_lines(found))
        return found


def _lines(found: ClusterWhy) -> Iterator[str]:
    cpus, span = found["cpus"], format_duration(found["horizon_s"])
    yield (
        f"{found['nodes']} 个节点的 {cpus['total']} 个 CPU：{cpus['allocated']} 个分配了，"
        f"{cpus['idle']} 个空着，{cpus['offline']} 个在停着的节点上"
    )
    share = found["busy_cpu_hours"] / found["capacity_cpu_hours"] * 100 if found["capacity_cpu_hours"] else 0.0
    yield (
        f"今后 {span} 照现在的计划用 {found['busy_cpu_hours']} CPU·小时，共 {found['capacity_cpu_hours']}"
        f"（{share:.1f} %）；在等的还要 {found['wanted_cpu_hours']}"
    )
    if not found["causes"]:
        if not found["waiting"]:
            yield "没有作业在排队：空着只是因为没有人用"
        else:
            yield "没有试出能多用的：在等的都在等运行中的结束"
    for number, each in enumerate(found["causes"], 1):
        starts = f"，当场能启动 {each['starts_now']} 个" if each["starts_now"] > 0 else ""
        action = f"：{each['action']}" if each["action"] else ""
        yield (
            f"{number}. {each['text']}；没有它多用 {each['gain_cpu_hours']} CPU·小时"
            f"（{each['gain_node_hours']} 节点·小时）{starts}{action}"
        )
    if found["best"] is not None:
        yield f"只改一样的话，最值的是第 {found['best'] + 1} 条"
    if found["incomplete"]:
        yield "排队的太多，只算了排在前面的：数目偏小"
    if found["untried"]:
        yield f"时间到了，还有 {found['untried']} 样没有试"


def _partitions_of(job: PendingJob) -> list[str]:
    return job.shape.partition.split(",")


def _reason_of(job: PendingJob) -> str:
    return job.reason or "Resources"


def _named(ids: "frozenset[int] | list[int]", origin: dict[int, int]) -> tuple[int, ...]:
    return tuple(sorted({origin[number] for number in ids}))[:MOST_NAMED]


def _label(labels: _Labels, job_id: int) -> str:
    """命令里、JSON 里怎样写它。"""
    return labels[job_id][0] if job_id in labels else str(job_id)


def _full(labels: _Labels, job_id: int) -> str:
    """给人看的：写上是谁的。"""
    return f"{_label(labels, job_id)}（{labels[job_id][1]}）" if job_id in labels else str(job_id)
