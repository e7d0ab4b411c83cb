"""修改作业（scontrol(1) update job）：排队的随便改，运行中的只能改不影响分配的；下一个周期就生效。"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scns_conductor.core.dependency import parse_dependency
from scns_conductor.core.errors import ConductorError, Conflict, Forbidden, InvalidRequest
from scns_conductor.core.instants import utc_now
from scns_conductor.core.models import JobSpec
from scns_conductor.core.states import ACTIVE_STATES, HOLD_REASONS, JobState
from scns_conductor.core.tokens import Identity
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.services.array_split import merged, split
from scns_conductor.services.audit import record_jobs
from scns_conductor.services.cluster_limits import ClusterLimits
from scns_conductor.services.current_rules import CurrentRules, Rules, partition_names
from scns_conductor.services.job_policy import JobPolicy
from scns_conductor.services.job_resize import RESIZES, shrink
from scns_conductor.services.job_rows import JobRow, find_each, find_rows, require_owner, why_missing
from scns_conductor.services.new_job import check_expressions, check_privileges
from scns_conductor.services.placement_check import REQUIREMENTS, TIMES, require_feasible, require_possible_times
from scns_conductor.services.scheduler_inbox import tell_scheduler
from scns_conductor.services.submission import require_dependencies
from scns_conductor.statements.events import events_insert
from scns_conductor.statements.inbox import inbox_insert
from scns_conductor.statements.job_update import DEPENDENCIES_OF, job_requirements_select, jobs_select, jobs_update

# 运行中的作业还能改的：不影响已有的分配。
WHILE_RUNNING = frozenset(
    {
        "time_limit", "comment", "admin_comment", "extra", "requeue", "mail_type", "mail_user", "wckey", "name",
        "array_max_tasks",
    }
)  # fmt: skip
# 改了这些就要按记账再核对一遍。
ACCOUNTED = frozenset(
    {
        "account", "qos", "partition", "time_limit", "tasks", "cpus_per_task", "minimum_nodes", "memory_per_node",
        "memory_per_cpu", "memory_per_gpu", "tres_per_job", "tres_per_node", "tres_per_task", "licenses",
    }
)  # fmt: skip


async def update_job(
    engine: AsyncEngine,
    current: CurrentRules,
    identity: Identity,
    job_id: str,
    changes: Mapping[str, Any],
    policy: JobPolicy | None = None,
) -> dict[str, Any]:
    """changes 是 JobSpec 的列（已换算）。不许改的抛 Forbidden、Conflict 或 InvalidRequest，一个字段也不改。"""
    if policy is not None:
        changes = await _shaped(
            engine, policy, await current.now(partition_names(changes.get("partition"))), identity, job_id, changes
        )

    async def attempt(rules: Rules) -> dict[str, Any]:
        return await _update(engine, rules, identity, job_id, changes)

    reservation = changes.get("reservation")
    return await current.judge(
        partition_names(changes.get("partition")), frozenset(reservation.split(",") if reservation else ()), attempt
    )


async def _shaped(
    engine: AsyncEngine, policy: JobPolicy, rules: Rules, identity: Identity, job_id: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """站点的策略看过之后的改法；几个任务的看第一个。"""
    async with engine.connect() as connection:
        rows = await find_rows(connection, job_id, lock=False)
        require_owner(rows, identity)
        (spec,) = await _specs(connection, [rows[0].job_id])
    known = {name: spec[name] for name in JobSpec.model_fields if name in spec}
    return await policy.modify({"job_id": job_id, "state": rows[0].state, **known}, changes, identity, rules)


async def _update(
    engine: AsyncEngine, rules: Rules, identity: Identity, job_id: str, changes: Mapping[str, Any]
) -> dict[str, Any]:
    _check_changes(rules, identity, changes)
    await require_dependencies(engine, {"": changes})
    async with engine.begin() as connection:
        chosen, skipped = await _checked(connection, rules, identity, job_id, changes)
        await _write(connection, identity, chosen, changes)
    return _answer(job_id, chosen, skipped, changes)


def _answer(
    job_id: str, chosen: Sequence[JobRow], skipped: Sequence[JobRow], changes: Mapping[str, Any]
) -> dict[str, Any]:
    answer = {"job_id": job_id, "state": chosen[0].state, "updated": sorted(changes)}
    return {**answer, "skipped": [row.label for row in skipped]} if skipped else answer


async def _write(
    connection: AsyncConnection, identity: Identity, rows: Sequence[JobRow], changes: Mapping[str, Any]
) -> None:
    """改这些行（看过、锁着），记下，告诉调度器；几条成批的语句，不论几个。"""
    chosen, left = await split(connection, merged(rows))
    resized = [row for row in chosen if row.state in ACTIVE_STATES and not changes.keys().isdisjoint(RESIZES)]
    for row in resized:
        await shrink(connection, row, changes, identity.user_name)
    for state in sorted({row.state for row in chosen}):
        same = [row for row in chosen if row.state == state]
        values = _with_hold_reason(changes, same, identity)
        if resized:
            # 分到的变了，要求的不变。
            values = {name: value for name, value in values.items() if name not in RESIZES}
        if values:
            await connection.execute(jobs_update([row.job_id for row in same], values))
        await connection.execute(
            events_insert(
                [row.job_id for row in same],
                from_state=state,
                to_state=state,
                cause="update",
                actor=identity.user_name,
                message="修改了 " + "、".join(sorted(changes)),
            )
        )
    # 环境里可以有口令：只写改了什么。
    await record_jobs(connection, identity, "job.update", chosen, after={"fields": sorted(changes)})
    told = [inbox_insert("jobs", job_ids=[*left, *(row.job_id for row in chosen)])]
    running = [row.job_id for row in chosen if row.state in ACTIVE_STATES]
    if running:
        told.append(inbox_insert("update", job_ids=running))
    await tell_scheduler(connection, *told)


async def update_jobs(
    engine: AsyncEngine,
    current: CurrentRules,
    identity: Identity,
    job_ids: Sequence[str],
    changes: Mapping[str, Any],
    policy: JobPolicy | None = None,
) -> tuple[list[dict[str, Any]], dict[str, ConductorError]]:
    """一批作业同样地改：(改成的，作业号 -> 错误)。一个事务；不许的（没有、别人的、状态不对）各是各的错误。

    要逐个算的（站点的策略各有各的改法、运行中的缩小）一个一个来。
    """
    if policy is not None or not changes.keys().isdisjoint(RESIZES):
        return await _one_by_one(engine, current, identity, job_ids, changes, policy)

    async def attempt(rules: Rules) -> tuple[list[dict[str, Any]], dict[str, ConductorError]]:
        return await _update_many(engine, rules, identity, job_ids, changes)

    reservation = changes.get("reservation")
    return await current.judge(
        partition_names(changes.get("partition")), frozenset(reservation.split(",") if reservation else ()), attempt
    )


async def _one_by_one(
    engine: AsyncEngine,
    current: CurrentRules,
    identity: Identity,
    job_ids: Sequence[str],
    changes: Mapping[str, Any],
    policy: JobPolicy | None,
) -> tuple[list[dict[str, Any]], dict[str, ConductorError]]:
    done: list[dict[str, Any]] = []
    errors: dict[str, ConductorError] = {}
    for job_id in dict.fromkeys(job_ids):
        try:
            done.append(await update_job(engine, current, identity, job_id, changes, policy))
        except ConductorError as error:
            errors[job_id] = error
    return done, errors


async def _update_many(
    engine: AsyncEngine, rules: Rules, identity: Identity, job_ids: Sequence[str], changes: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, ConductorError]]:
    _check_changes(rules, identity, changes)
    await require_dependencies(engine, {"": changes})
    errors: dict[str, ConductorError] = {}
    picked: dict[str, tuple[list[JobRow], list[JobRow]]] = {}
    async with engine.begin() as connection:
        for each in await find_each(connection, job_ids):
            try:
                if not each.rows:
                    raise each.error or await why_missing(connection, each.text)
                picked[each.text] = _pick(each.text, each.rows, changes, identity)
                if changes.get("dependency"):
                    await _check_circular(connection, picked[each.text][0], changes["dependency"])
            except ConductorError as error:
                errors[each.text] = error
        wanted = [row.job_id for chosen, _ in picked.values() for row in chosen]
        specs: dict[int, Mapping[str, Any]] = {}
        if wanted and _weighed(changes):
            found = (await connection.execute(job_requirements_select(wanted))).mappings()
            specs = {spec["job_id"]: spec for spec in found}
        for text, (chosen, _) in list(picked.items()):
            try:
                _check_specs(chosen, specs, changes, rules, identity)
            except ConductorError as error:
                errors[text] = error
                del picked[text]
        rows = [row for chosen, _ in picked.values() for row in chosen]
        if rows:
            await _write(connection, identity, rows, changes)
    done = [_answer(text, chosen, skipped, changes) for text, (chosen, skipped) in picked.items()]
    # 次序照所给。
    return done, {text: errors[text] for text in dict.fromkeys(job_ids) if text in errors}


async def require_updatable(
    engine: AsyncEngine,
    current: CurrentRules,
    identity: Identity,
    job_id: str,
    wanted: Sequence[Mapping[str, Any]],
) -> list[ConductorError | None]:
    """这些改法（JobSpec 的列，依赖除外）各会不会被 update_job 收下：不收的是它会抛的错。什么也不改，也不锁。"""

    async def attempt(rules: Rules) -> list[ConductorError | None]:
        found: list[ConductorError | None] = []
        # 规则读好了才借连接：占着一条再等一条，人多时谁也等不到。
        async with engine.connect() as connection:
            for changes in wanted:
                try:
                    _check_changes(rules, identity, changes)
                    await _checked(connection, rules, identity, job_id, changes, lock=False)
                except ConductorError as error:
                    found.append(error)
                else:
                    found.append(None)
        return found

    partitions = frozenset[str]().union(*(partition_names(changes.get("partition")) for changes in wanted))
    return await current.judge(partitions, frozenset(), attempt)


def _check_changes(rules: Rules, identity: Identity, changes: Mapping[str, Any]) -> None:
    """不必看作业就知道不行的。"""
    if not changes:
        raise InvalidRequest("body", '没有要改的字段；例如 {"time_limit": "60"}', code="nothing_to_update")
    check_expressions(changes, "")
    check_privileges(changes, identity, "")
    if changes.get("partition"):
        rules.limits.require_partitions(changes["partition"].split(","), "partition")


async def _checked(
    connection: AsyncConnection,
    rules: Rules,
    identity: Identity,
    job_id: str,
    changes: Mapping[str, Any],
    *,
    lock: bool = True,
) -> tuple[list[JobRow], list[JobRow]]:
    """(要改的行, 不必改的行)；有一行不许这样改就抛出来。"""
    chosen, skipped = _pick(job_id, await find_rows(connection, job_id, lock=lock), changes, identity)
    if _weighed(changes):
        specs = {spec["job_id"]: spec for spec in await _specs(connection, [row.job_id for row in chosen])}
        _check_specs(chosen, specs, changes, rules, identity)
    if changes.get("dependency"):
        await _check_circular(connection, chosen, changes["dependency"])
    return chosen, skipped


def _pick(
    job_id: str, rows: Sequence[JobRow], changes: Mapping[str, Any], identity: Identity
) -> tuple[list[JobRow], list[JobRow]]:
    """(要改的行, 不必改的行)，只看行本身；不许的抛出来。"""
    require_owner(rows, identity)
    chosen = [row for row in rows if row.state == JobState.PENDING or row.state in ACTIVE_STATES]
    if not chosen:
        raise Conflict(f"作业 {job_id} 已经结束（{rows[0].state}），不能修改", code="job_finished")
    chosen, skipped = _changeable(chosen, changes)
    for row in chosen:
        _check_row(row, changes, identity)
    return chosen, skipped


def _weighed(changes: Mapping[str, Any]) -> bool:
    """要看作业原来的要求才知道行不行的。"""
    return bool({"reservation", *ACCOUNTED, *REQUIREMENTS, *TIMES} & changes.keys())


def _check_specs(
    rows: Sequence[JobRow],
    specs: Mapping[int, Mapping[str, Any]],
    changes: Mapping[str, Any],
    rules: Rules,
    identity: Identity,
) -> None:
    """连同原来的要求（specs：作业号 -> 它）看：预留、记账、放不放得下。"""
    if changes.get("reservation"):
        for row in rows:
            spec = specs[row.job_id]
            account = {**spec, **changes}["account"]
            rules.limits.require_reservation(changes["reservation"], spec["user_name"], account, "reservation")
    if not (ACCOUNTED | set(REQUIREMENTS) | set(TIMES)) & changes.keys():
        return
    for row in rows:
        if row.state == JobState.PENDING:
            if ACCOUNTED & changes.keys():
                rules.admission.recheck({**specs[row.job_id], **changes}, admin=identity.privileged)
            _check_possible(specs[row.job_id], changes, rules.limits, rules.defaults)


async def _specs(connection: AsyncConnection, job_ids: list[int]) -> list[dict[str, Any]]:
    rows = await connection.execute(jobs_select(job_ids))
    return [dict(row) for row in rows.mappings()]


def _changeable(rows: list[JobRow], changes: Mapping[str, Any]) -> tuple[list[JobRow], list[JobRow]]:
    """(要改的，改不了的)：数组已经启动的任务改不了而别的还在排队，就只改排队的（scontrol 逐个任务报错）。"""
    if not set(changes) - WHILE_RUNNING:
        return rows, []
    pending = [row for row in rows if row.state == JobState.PENDING]
    return (pending, [row for row in rows if row.state in ACTIVE_STATES]) if pending else (rows, [])


def _check_row(row: JobRow, changes: Mapping[str, Any], identity: Identity) -> None:
    if row.state in ACTIVE_STATES:
        resizes = RESIZES if row.state == JobState.RUNNING else frozenset[str]()
        frozen = sorted(set(changes) - WHILE_RUNNING - resizes)
        if frozen:
            raise Conflict(f"作业 {row.label} 正在运行，{frozen[0]} 不能再改", code="job_running")
        if "time_limit" in changes and not identity.privileged:
            wanted = changes["time_limit"]
            if row.time_limit is not None and (wanted is None or wanted > row.time_limit):
                raise Forbidden("time_limit：运行中的作业，本人只能调低时限；请联系管理员", code="admin_required")
    if row.hold == "admin" and "hold" in changes and not identity.oversees(row.account):
        raise Forbidden(f"作业 {row.label} 是管理员保留的；请联系管理员放行", code="admin_required")


def _check_possible(
    spec: Mapping[str, Any], changes: Mapping[str, Any], limits: ClusterLimits, defaults: Defaults
) -> None:
    """改了之后永远不能启动的不许改；与资源、时刻无关的修改不看。"""
    changed = {**spec, **changes}
    if not changes.keys().isdisjoint(TIMES):
        require_possible_times(changed, utc_now(), "")
    if not changes.keys().isdisjoint(REQUIREMENTS):
        require_feasible(changed, limits, defaults, "")


async def _check_circular(connection: AsyncConnection, rows: Sequence[JobRow], text: str) -> None:
    """依赖绕回自己的，谁也启动不了：不许。沿着排队的作业的依赖一层一层地找。"""
    own = {number for row in rows for number in (row.job_id, row.array_job_id) if number is not None}
    waiting = set(parse_dependency(text).job_ids)
    if waiting & own:
        raise InvalidRequest("dependency", "作业不能依赖自己", code="dependency_self")
    seen: set[int] = set()
    while waiting:
        seen |= waiting
        found: set[int] = set()
        for row in await connection.execute(DEPENDENCIES_OF, {"job_ids": sorted(waiting)}):
            targets = parse_dependency(row.dependency).job_ids
            if targets & own:
                raise InvalidRequest(
                    "dependency",
                    f"成了循环：作业 {row.job_id} 依赖着这个作业；请先改掉它的依赖",
                    code="dependency_circular",
                )
            found |= targets
        waiting = found - seen


def _with_hold_reason(changes: Mapping[str, Any], rows: list[JobRow], identity: Identity) -> dict[str, Any]:
    values = dict(changes)
    if values.get("priority") == 0:
        values["hold"] = "admin" if identity.privileged else "user"
    if "hold" in values and all(row.state == JobState.PENDING for row in rows):
        values["reason"] = HOLD_REASONS.get(values["hold"], "None")
    return values
