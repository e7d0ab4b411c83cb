"""提交的受理：把请求补全、核对成要写的行，写下；或只试排。"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.jobs import Plan
from scns_conductor.core.async_database import DRIVER_ERRORS
from scns_conductor.core.errors import ConductorError, InvalidRequest
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.current_rules import CurrentRules, Rules, partition_names
from scns_conductor.services.het_job import MOST_COMPONENTS, together
from scns_conductor.services.job_admission import SUBMIT_LIMITS
from scns_conductor.services.job_policy import JobPolicy, JobWants
from scns_conductor.services.new_job import Submitter, new_job
from scns_conductor.services.scheduler_questions import ask_plan
from scns_conductor.services.submission import (
    IdempotencyClaim,
    SubmitQueue,
    require_dependencies,
    submit_batch,
    submit_components,
)
from scns_conductor.tracing import Tracer

MAX_KEY_LENGTH = 255
# 提交的回答为了一句提醒至多等这么久（秒）。
WARNING_WAIT_S = 3.0
# 一批分成这么大的段，边备边写；大得一段的固定花费可以不计，小得第一段很快就备好。
BATCH_PART = 500
# 一批里步长不一的数组列出的任务号合起来至多这么多字节，每个 4 个字节：它们都在内存里等着写。
MOST_LISTED_BYTES = 32 * 1024**2
_UNPLANNED = ("script", "environment", "argv", SUBMIT_LIMITS)


class Draft(Protocol):
    """要提交的一个作业：要求与整份脚本。"""

    @property
    def job(self) -> JobWants:
        """要求。"""

    @property
    def script(self) -> str:
        """脚本。"""


@dataclass(frozen=True, slots=True)
class _Component:
    """异构作业的一个部分（脚本各个部分是同一份），或站点的策略改过的作业。"""

    job: JobWants
    script: str


@dataclass(frozen=True, slots=True)
class _Maker:
    """按某一刻的集群与记账，把请求变成要写的行。"""

    submitter: Submitter
    rules: Rules

    def row(self, draft: Draft, prefix: str = "", script: str | None = None) -> dict[str, Any]:
        """不合法抛 InvalidRequest 等，字段名前加 prefix；script 代替请求里的。"""
        rules = self.rules
        script = draft.script if script is None else script
        row = new_job(draft.job.columns(), script, self.submitter, rules.limits, rules.settings, prefix)
        rules.admission.admit(row, draft.job.model_fields_set, f"{prefix}job.")
        return row

    def parts(self, drafts: Sequence[Draft]) -> Iterator[dict[str, dict[str, Any]]]:
        """一段一段的 字段的前缀 -> 要写的行。要数提交数的不分段：上限的锁要按次序一次取齐，免得两批互相等。"""
        size = len(drafts) if self.rules.settings.accounting_storage_enforce else BATCH_PART
        listed = 0
        for first in range(0, len(drafts), size):
            part = {}
            for index, draft in enumerate(drafts[first : first + size], first):
                row = part[f"jobs[{index}].job."] = self.row(draft, f"jobs[{index}].")
                listed += len(row["array_listed"] or b"")
                if listed > MOST_LISTED_BYTES:
                    raise InvalidRequest(
                        f"jobs[{index}].job.array",
                        f"一批里步长不一的数组合起来至多 {MOST_LISTED_BYTES // 4} 个任务；请分几批提交",
                        code="array_invalid",
                    )
            yield part


class SubmitDesk:
    """受理提交。"""

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        rules: CurrentRules,
        queue: SubmitQueue,
        desk: AnswerDesk,
        tracer: Tracer | None = None,
        policy: JobPolicy | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._rules = rules
        self._queue = queue
        self._desk = desk
        self._tracer = tracer
        self._policy = policy

    async def submit(self, draft: Draft, submitter: Submitter, key: str | None = None, digest: str = "") -> int:
        """提交一个，返回作业号；key 是幂等键，digest 是请求体的摘要。"""
        began = time.time()
        row = await self._row(draft, submitter)
        await require_dependencies(self._engine, {"job.": row})
        job_id = await self._queue.submit(row, _claim(submitter.identity.user_name, key, digest))
        self._trace(began, [job_id])
        return job_id

    def _trace(self, began: float, job_ids: Sequence[int]) -> None:
        if self._tracer is not None:
            now = time.time()
            for job_id in job_ids:
                self._tracer.span("submit", (job_id, 0), began, now)

    async def warnings(self, draft: Draft, identity: Identity, job_id: int) -> list[str]:
        """刚提交的作业值得当场说的：写了期限而照现在的计划赶不上的。作业已经收下：问不成、没有及时回答就不说。"""
        if "deadline" not in draft.job.model_fields_set:
            return []
        payload = {"job_id": job_id, "user_name": identity.user_name}
        try:
            answer = await self._desk.ask("explain", payload=payload, wait_s=WARNING_WAIT_S)
        except (ConductorError, SQLAlchemyError, asyncpg.PostgresError, *DRIVER_ERRORS, OSError):
            return []
        return [line for line in str(answer["text"]).split("\n") if answer.get("latest_start_time") and "期限" in line]

    async def submit_many(
        self, drafts: Sequence[Draft], submitter: Submitter, key: str | None = None, digest: str = ""
    ) -> list[int]:
        """提交一批，全部成功或全部不提交；返回作业号，次序与给的相同。"""
        claim, began = _claim(submitter.identity.user_name, key, digest), time.time()
        if self._policy is not None:
            drafts = await self._shaped(self._policy, drafts, submitter, [f"jobs[{at}]：" for at in range(len(drafts))])

        async def attempt(rules: Rules) -> list[int]:
            return await submit_batch(self._engine, _Maker(submitter, rules).parts(drafts), claim)

        job_ids = await self._rules.judge(_partitions(drafts), _reservations(drafts), attempt)
        self._trace(began, job_ids)
        return job_ids

    async def submit_together(
        self, wants: Sequence[JobWants], script: str, submitter: Submitter, key: str | None = None, digest: str = ""
    ) -> list[int]:
        """提交一个异构作业：wants 是各个部分的要求，脚本在第 0 个部分上运行；返回各个部分的作业号。"""
        if not 1 <= len(wants) <= MOST_COMPONENTS:
            raise InvalidRequest(
                "jobs", f"异构作业要有 1 到 {MOST_COMPONENTS} 个部分，给了 {len(wants)} 个", code="het_job_invalid"
            )
        drafts: Sequence[Draft] = [_Component(job, script) for job in wants]
        if self._policy is not None:
            drafts = await self._shaped(self._policy, drafts, submitter, [f"jobs[{at}]：" for at in range(len(drafts))])

        async def attempt(rules: Rules) -> list[dict[str, Any]]:
            maker = _Maker(submitter, rules)
            return [maker.row(draft, f"jobs[{index}].") for index, draft in enumerate(drafts)]

        rows = together(await self._rules.judge(_partitions(drafts), _reservations(drafts), attempt))
        return await submit_components(self._engine, rows, _claim(submitter.identity.user_name, key, digest))

    async def plan(self, draft: Draft, submitter: Submitter) -> Plan:
        """调度器真的按这份要求排一次，什么也不留下；没有写脚本也行。"""
        row = await self._row(draft, submitter, draft.script or "#!/bin/sh\n")
        return await ask_plan(self._desk, submitter.identity.user_name, _planned(row))

    async def checked(self, draft: Draft, submitter: Submitter, prefix: str) -> dict[str, Any]:
        """照提交的规矩核对、补全，不写下；字段名前加 prefix。"""
        return await self._row(draft, submitter, prefix=prefix)

    async def _row(
        self, draft: Draft, submitter: Submitter, script: str | None = None, prefix: str = ""
    ) -> dict[str, Any]:
        if self._policy is not None:
            (draft,) = await self._shaped(self._policy, [draft], submitter, [prefix])

        async def attempt(rules: Rules) -> dict[str, Any]:
            return _Maker(submitter, rules).row(draft, prefix, script)

        return await self._rules.judge(_partitions([draft]), _reservations([draft]), attempt)

    async def _shaped(
        self, policy: JobPolicy, drafts: Sequence[Draft], submitter: Submitter, prefixes: Sequence[str]
    ) -> list[Draft]:
        """站点的策略看过之后的，一次问完。"""
        asked = [(draft.job, draft.script) for draft in drafts]
        shaped = await policy.shape(asked, prefixes, submitter.identity, await self._rules.now(_partitions(drafts)))
        return [
            draft if wants is draft.job else _Component(wants, draft.script)
            for draft, wants in zip(drafts, shaped, strict=True)
        ]


def _claim(user_name: str, key: str | None, digest: str) -> IdempotencyClaim | None:
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_KEY_LENGTH:
        raise InvalidRequest("Idempotency-Key", f"应是 1 到 {MAX_KEY_LENGTH} 个字符", code="idempotency_key_invalid")
    return IdempotencyClaim(user_name, key, digest)


def _partitions(drafts: Sequence[Draft]) -> frozenset[str]:
    return frozenset(name for text in {draft.job.partition for draft in drafts} for name in partition_names(text))


def _reservations(drafts: Sequence[Draft]) -> frozenset[str]:
    return frozenset(name for draft in drafts if draft.job.reservation for name in draft.job.reservation.split(","))


def _planned(row: dict[str, Any]) -> dict[str, Any]:
    """能写进 JSON 的要求；时刻换成 Unix 秒，脚本与环境用不着。"""
    kept = {name: value for name, value in row.items() if name not in _UNPLANNED}
    kept |= {"array_remaining": None, "array_listed": None}
    return {name: value.timestamp() if hasattr(value, "timestamp") else value for name, value in kept.items()}
