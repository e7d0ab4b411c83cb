"""站点的提交策略（Slurm 的 job_submit 插件）：收下之前问一遍插件，可以拒绝、可以改字段；改了的照请求一样核对。"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from scns_conductor.core.errors import ConductorError, Forbidden, InvalidRequest, ServiceUnavailable
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity
from scns_conductor.services.current_rules import Rules
from scns_conductor.services.policy_pool import PolicyBusy, PolicyFailed, PolicyPool

# 一批里每个作业另加这么久（秒）。
PER_JOB_S = 0.002
# 插件看到的与写的，同请求一样：时限是分钟，别的时长与列相同。
_MINUTES = ("time_limit", "time_minimum")
_MEMORIES = ("memory_per_node", "memory_per_cpu", "memory_per_gpu")
UNSET = object()
_PARTITION_MINUTES = ("max_time", "default_time")

logger = logging.getLogger(__name__)


class JobWants(Protocol):
    """作业的要求。"""

    @property
    def partition(self) -> str | None:
        """分区，逗号分隔。"""

    @property
    def reservation(self) -> str | None:
        """预留。"""

    @property
    def model_fields_set(self) -> set[str]:
        """写了的字段。"""

    def columns(self) -> dict[str, Any]:
        """写了的字段 -> JobSpec 的列。"""


@dataclass(frozen=True, slots=True)
class ShapedWants:
    """插件看过之后的要求。"""

    model_fields_set: set[str]
    found: dict[str, Any]

    @property
    def partition(self) -> str | None:
        """分区，逗号分隔。"""
        return self.found.get("partition")

    @property
    def reservation(self) -> str | None:
        """预留。"""
        return self.found.get("reservation")

    def columns(self) -> dict[str, Any]:
        """写了的字段 -> 列。"""
        return self.found


# 请求的写法 -> 列；不合法抛 ValueError（pydantic 的 ValidationError 也是）或 InvalidRequest。
Reader = Callable[[Mapping[str, Any]], dict[str, Any]]


class JobPolicy:
    """一个 API 进程的插件；submitted、modified 照请求的规矩读插件写的字段。"""

    def __init__(self, pool: PolicyPool, settings: Settings, submitted: Reader, modified: Reader) -> None:
        self._pool = pool
        self._settings = settings
        self._readers = {"submit": submitted, "modify": modified}

    async def warm(self) -> None:
        """先起一个进程；装不进来的写进日志，提交时再说。"""
        try:
            await self._pool.warm()
        except PolicyFailed as error:
            logger.error("policy_failed", extra={"error": str(error)})

    async def close(self) -> None:
        """结束各个进程。"""
        await self._pool.close()

    async def shape(
        self, drafts: Sequence[tuple[JobWants, str]], prefixes: Sequence[str], identity: Identity, rules: Rules
    ) -> list[JobWants]:
        """各个作业（要求，脚本）看过之后的要求，一次问完。

        插件拒绝的抛 Forbidden；它出了错的，照设置抛 ConductorError 或原样收下。prefixes 是字段的前缀（jobs[3].）。
        """
        columns = [wants.columns() for wants, _ in drafts]
        default = rules.limits.default_partition
        asked = [
            {
                "job": _written(found),
                "script": script,
                "partition": (found.get("partition") or default or "").split(",")[0],
            }
            for found, (_, script) in zip(columns, drafts, strict=True)
        ]
        results = await self._ask("submit", asked, identity, rules)
        shaped: list[JobWants] = []
        for index, (wants, _) in enumerate(drafts):
            changes = self._changes(results, index, prefixes[index], "submit", identity)
            found = _changed(columns[index], changes)
            if not changes or not self._consistent(found):
                shaped.append(wants)
            else:
                shaped.append(ShapedWants(wants.model_fields_set | changes.keys(), found))
        return shaped

    async def modify(
        self, current: Mapping[str, Any], changes: Mapping[str, Any], identity: Identity, rules: Rules
    ) -> dict[str, Any]:
        """修改 current（一个作业的列）看过之后的改法；抛出同 shape。"""
        asked = [{"job": _written(changes), "current": _written(current)}]
        results = await self._ask("modify", asked, identity, rules)
        found = _changed(changes, self._changes(results, 0, "", "modify", identity))
        return found if self._consistent(found) else dict(changes)

    async def _ask(
        self, kind: str, asked: list[dict[str, Any]], identity: Identity, rules: Rules
    ) -> list[dict[str, Any]]:
        accounting, known = rules.admission.accounting, rules.limits.partitions
        names = {each.get("partition", "") for each in asked}
        question = {
            "kind": kind,
            "jobs": asked,
            "user": {
                "name": identity.user_name,
                "role": identity.role,
                "admin": identity.admin,
                "default_account": accounting.default_accounts.get(identity.user_name),
            },
            "partitions": {name: _partition(asdict(known[name])) for name in names if name in known},
        }
        try:
            results = (await self._pool.ask(question, PER_JOB_S * len(asked)))["results"]
        except PolicyBusy as error:
            raise ServiceUnavailable("站点的提交策略忙不过来；请稍后再试", code="policy_busy") from error
        except PolicyFailed as error:
            self._failed(str(error))
            return []
        return list(results)

    def _changes(
        self, results: Sequence[Mapping[str, Any]], index: int, prefix: str, kind: str, identity: Identity
    ) -> dict[str, Any]:
        """第 index 个要改的列，UNSET 是去掉；插件拒绝它的抛 Forbidden。"""
        if index >= len(results):
            # 出了错而照设置收下的：没有回答。
            return {}
        result = results[index]
        if "refused" in result:
            said = str(result["refused"])[:1000]
            logger.info("policy_refused", extra={"user_name": identity.user_name, "said": said})
            raise Forbidden(f"{prefix}站点的策略不收：{said}", code="policy_refused")
        if "error" in result:
            self._failed(str(result["error"])[:1000])
            return {}
        changes = result["changes"]
        if not changes:
            return {}
        try:
            found = self._readers[kind](changes)
        except (ValueError, InvalidRequest) as error:
            self._failed(f"写的字段不合法：{_told(error)}")
            return {}
        # 写成 None 而这一列不能空的：当作没有写，取缺省值。
        gone = {name: UNSET for name, value in changes.items() if value is None and name not in found}
        return {**gone, **found}

    def _consistent(self, found: Mapping[str, Any]) -> bool:
        """请求里不能同时写的，插件加上之后也不能；不能的照设置抛 ConductorError，或返回 False。"""
        memories = [name for name in _MEMORIES if found.get(name) is not None]
        least, most = found.get("minimum_nodes"), found.get("maximum_nodes")
        if len(memories) > 1:
            self._failed(f"{'、'.join(memories)} 只能有一个；另一个写成 None")
        elif least and most and most < least:
            self._failed("maximum_nodes 小于 minimum_nodes")
        else:
            return True
        return False

    def _failed(self, why: str) -> None:
        """插件出了错：照设置拒绝（抛 ConductorError），或只记下。"""
        logger.error("policy_failed", extra={"error": why})
        if self._settings.job_submit_failure == "refuse":
            raise ConductorError(f"站点的提交策略出错了：{why}；请联系管理员", code="policy_failed", status=500)


def _changed(columns: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**columns, **changes}.items() if value is not UNSET}


def _written(columns: Mapping[str, Any]) -> dict[str, Any]:
    """列 -> 插件看到的，写法同请求：时限是分钟，时刻是 ISO 8601，hold 是真假。"""
    found: dict[str, Any] = {}
    for name, value in columns.items():
        if name in _MINUTES and value is not None:
            value = value // 60 if value % 60 == 0 else value / 60
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif name == "hold":
            value = value is not None
        found[name] = value
    return found


def _partition(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value / 60 if name in _PARTITION_MINUTES and value is not None else value for name, value in facts.items()
    }


def _told(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if callable(errors):
        return "；".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}" for each in errors())
    return str(error)
