"""上限从不被超过：随机的账户树、上限、作业，随机的启动与结束，每一步都按定义重新数一遍。"""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from test_accounting import PLAIN_ROW

from scns_conductor.core.accounting import Accounting, AssociationFacts, QosFacts
from scns_conductor.core.job_limits import demand_of
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.cluster_facts import NodeFacts, RunningJob
from scns_conductor.scheduling.limit_pools import LimitPools, Runner
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob, Queue
from scns_conductor.scheduling.shape import Shape

NOW = 1_000_000.0
PARENTS = {"root": None, "a": "root", "b": "a", "c": "a", "d": "root"}
USERS = (("b", "u1"), ("c", "u1"), ("c", "u2"), ("d", "u3"))
SMALL = st.one_of(st.none(), st.integers(1, 6))


def _tres(value: int | None) -> dict[str, int]:
    return {} if value is None else {"cpu": value}


GROUP = st.builds(lambda cpus, jobs, most: (cpus, jobs, most), SMALL, SMALL, SMALL)
JOB = st.tuples(st.integers(0, len(USERS) - 1), st.integers(1, 4), st.integers(0, 2))
QOS = st.tuples(SMALL, SMALL, SMALL)


@given(
    st.lists(GROUP, min_size=5, max_size=5),
    st.tuples(QOS, QOS),
    st.lists(JOB, min_size=1, max_size=14),
    st.lists(st.integers(0, 20), max_size=10),
)
def test_no_limit_is_ever_exceeded_and_nothing_waits_for_no_reason(
    groups: list[tuple[int | None, int | None, int | None]],
    services: tuple[tuple[int | None, int | None, int | None], ...],
    jobs: list[tuple[int, int, int]],
    ends: list[int],
) -> None:
    facts = [
        AssociationFacts(account=name, grp_tres=_tres(cpus), grp_jobs=number, max_jobs=most)
        for name, (cpus, number, most) in zip(PARENTS, groups, strict=True)
    ]
    facts += [AssociationFacts(account=account, user_name=user) for account, user in USERS]
    # 种类与关联的不相交：不会互相盖过，数起来没有例外。
    known = [
        QosFacts(name=f"q{index}", max_tres_per_user=_tres(cpus), max_tres_per_account=_tres(account),
                 grp_tres={} if nodes is None else {"node": nodes})
        for index, (cpus, account, nodes) in enumerate(services)
    ]  # fmt: skip
    limits = LimitPools(True, False, True, 0, 1e6)
    limits.accounting = Accounting(
        PARENTS,
        {(each.account, each.user_name, each.partition): each for each in facts},
        {each.name: each for each in known},
    )
    cluster, queue, planner = Cluster(), Queue(), Planner(Policy())
    for number in range(4):
        cluster.upsert_node(NodeFacts(f"n{number}", 8, 1000))
    rows: dict[int, dict[str, Any]] = {}
    for job_id, (who, cpus, qos) in enumerate(jobs, start=1):
        account, user = USERS[who]
        row = {
            **PLAIN_ROW, "account": account, "user_name": user, "partition": "main", "tasks": cpus,
            "qos": None if qos == 2 else f"q{qos}", "reservation": None,
        }  # fmt: skip
        rows[job_id] = row
        verdict, pools = limits.judge(row, cluster)
        assert verdict is None
        queue.upsert(PendingJob(job_id, Shape(tasks=cpus, pools=pools), 60.0))

    def cycle() -> None:
        for start in planner.plan(cluster, queue, NOW).starts:
            row = rows[start.job.job_id]
            wanted = demand_of(
                cpus=row["tasks"], nodes=len(start.shares), memory_mb=0, gres={}, licenses={}, time_limit_s=60
            )
            runner = Runner(row["account"], row["user_name"], row["qos"], "main", wanted, NOW)
            held = limits.charge(start.job.job_id, runner, cluster)
            cluster.allocate(RunningJob(start.job.job_id, NOW + 60, start.shares, pools=held))
            queue.remove(start.job.job_id)
        running = {job_id: rows[job_id] for job_id in cluster.running}
        _check(limits.accounting, running)
        for job_id in queue.jobs:
            _check_waits_rightly(limits.accounting, running, rows[job_id], cluster)

    cycle()
    for pick in ends:
        if cluster.running:
            ended = sorted(cluster.running)[pick % len(cluster.running)]
            cluster.release(ended)
            limits.ended(ended, NOW)
        cycle()


def _excess(accounting: Accounting, running: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """按定义数：哪些上限超过了。"""
    found = []

    def cpus(rows: list[Mapping[str, Any]]) -> int:
        return sum(row["tasks"] for row in rows)

    everyone = list(running.values())
    for (account, user, _), facts in accounting.associations.items():
        if user:
            own = [row for row in everyone if (row["account"], row["user_name"]) == (account, user)]
            most = accounting.effective(facts).max_jobs
            if most is not None and len(own) > most:
                found.append(f"{account}/{user}:MaxJobs")
            continue
        below = [row for row in everyone if account in accounting.chain(row["account"])]
        if facts.grp_jobs is not None and len(below) > facts.grp_jobs:
            found.append(f"{account}:GrpJobs")
        if "cpu" in facts.grp_tres and cpus(below) > facts.grp_tres["cpu"]:
            found.append(f"{account}:GrpTRES")
    for name, qos in accounting.qos.items():
        mine = [row for row in everyone if row["qos"] == name]
        if "node" in qos.grp_tres and len(mine) > qos.grp_tres["node"]:
            found.append(f"{name}:GrpTRES")
        for key, most_tres in (("user_name", qos.max_tres_per_user), ("account", qos.max_tres_per_account)):
            for value in {row[key] for row in mine}:
                used = cpus([row for row in mine if row[key] == value])
                if "cpu" in most_tres and used > most_tres["cpu"]:
                    found.append(f"{name}:{key}:{value}")
    return found


def _check(accounting: Accounting, running: Mapping[int, Mapping[str, Any]]) -> None:
    assert _excess(accounting, running) == []


def _check_waits_rightly(
    accounting: Accounting, running: Mapping[int, Mapping[str, Any]], row: Mapping[str, Any], cluster: Cluster
) -> None:
    """等着的都有理由：再放它进来，不是超了上限，就是没有节点放得下。"""
    if not _excess(accounting, {**running, -1: row}):
        assert int(cluster.free[: cluster.count, 0].max()) < row["tasks"]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 60)), min_size=1, max_size=8), st.integers(1, 200))
def test_running_minutes_never_exceed_their_limit(jobs: list[tuple[int, int]], limit_minutes: int) -> None:
    qos = QosFacts(name="q", grp_tres_run_mins={"cpu": limit_minutes})
    limits = LimitPools(
        enforced=True, safe=False, associations_required=False, default_memory_per_cpu=0, half_life_s=1e6
    )
    limits.accounting = Accounting({"root": None}, {}, {"q": qos})
    cluster, queue, planner = Cluster(), Queue(), Planner(Policy())
    cluster.upsert_node(NodeFacts("n", 64, 1000))
    for job_id, (cpus, minutes) in enumerate(jobs, start=1):
        row = {**PLAIN_ROW, "account": None, "user_name": "u", "partition": "main", "qos": "q", "tasks": cpus,
               "time_limit": minutes * 60}  # fmt: skip
        _, pools = limits.judge(row, cluster)
        queue.upsert(PendingJob(job_id, Shape(tasks=cpus, pools=pools), minutes * 60.0))
    begun: dict[int, tuple[float, int, float]] = {}
    now = NOW
    for _ in range(300):
        limits.tick(cluster, now)
        for start in planner.plan(cluster, queue, now).starts:
            job = start.job
            wanted = demand_of(
                cpus=job.shape.tasks, nodes=1, memory_mb=0, gres={}, licenses={}, time_limit_s=job.time_limit_s
            )
            held = limits.charge(job.job_id, Runner(None, "u", "q", "main", wanted, now), cluster)
            cluster.allocate(RunningJob(job.job_id, now + job.time_limit_s, start.shares, pools=held))
            queue.remove(job.job_id)
            begun[job.job_id] = (now, job.shape.tasks, job.time_limit_s)
        left = sum(
            cpus * max(0.0, start + limit - now)
            for job_id, (start, cpus, limit) in begun.items()
            if job_id in cluster.running
        )
        assert left <= limit_minutes * 60 + 1
        if not cluster.running:
            break
        now += 120.0
        for job_id, (start, _cpus, limit) in begun.items():
            if job_id in cluster.running and start + limit <= now:
                cluster.release(job_id)
                limits.ended(job_id, now)
    # 时间过去总会腾出来：单个放得下的都跑了。
    for job_id in queue.jobs:
        cpus, minutes = jobs[job_id - 1]
        assert cpus * minutes > limit_minutes


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=8),
    st.integers(1, 100),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_a_safe_budget_is_never_overspent(jobs: list[tuple[int, int, int]], budget: int, factor: float) -> None:
    """safe：用掉的加上在跑的跑满时限，从不超过 GrpTRESMins；作业提早结束，省下的给别的。"""
    qos = QosFacts(name="q", grp_tres_mins={"cpu": budget}, usage_factor=factor)
    limits = LimitPools(True, True, False, 0, 1e6)
    limits.accounting = Accounting({"root": None}, {}, {"q": qos})
    cluster, queue, planner = Cluster(), Queue(), Planner(Policy())
    cluster.upsert_node(NodeFacts("n", 64, 1000))
    for job_id, (cpus, minutes, _) in enumerate(jobs, start=1):
        row = {**PLAIN_ROW, "account": None, "user_name": "u", "partition": "main", "qos": "q", "tasks": cpus,
               "time_limit": minutes * 60}  # fmt: skip
        _, pools = limits.judge(row, cluster)
        queue.upsert(PendingJob(job_id, Shape(tasks=cpus, pools=pools), minutes * 60.0))
    begun: dict[int, float] = {}
    spent, now = 0.0, NOW
    running = True
    while running:
        limits.tick(cluster, now)
        for start in planner.plan(cluster, queue, now).starts:
            job = start.job
            wanted = demand_of(
                cpus=job.shape.tasks, nodes=1, memory_mb=0, gres={}, licenses={}, time_limit_s=job.time_limit_s
            )
            held = limits.charge(job.job_id, Runner(None, "u", "q", "main", wanted, now), cluster)
            cluster.allocate(RunningJob(job.job_id, now + job.time_limit_s, start.shares, pools=held))
            queue.remove(job.job_id)
            begun[job.job_id] = now
        running = bool(cluster.running)
        reserved = sum(jobs[job_id - 1][0] * jobs[job_id - 1][1] * factor for job_id in cluster.running)
        assert spent + reserved <= budget + 1e-6
        assert limits.overrun(now) == {}
        now += 60.0
        for job_id in list(cluster.running):
            cpus, minutes, actual = jobs[job_id - 1]
            if now >= begun[job_id] + min(actual, minutes) * 60:
                spent += cpus * (now - begun[job_id]) / 60 * factor
                cluster.release(job_id)
                limits.ended(job_id, now)
    for job_id in queue.jobs:
        cpus, minutes, _ = jobs[job_id - 1]
        assert cpus * minutes * factor > budget - spent - 1
