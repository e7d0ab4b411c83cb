"""账户、用户、关联与 QOS（sacctmgr 管的那些）。"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scns_conductor.api.answers.accounting import (
    AccountAnswer,
    AccountsAnswer,
    AssociationAnswer,
    AssociationsAnswer,
    QosAnswer,
    QosListAnswer,
    UserAnswer,
    UsersAnswer,
)
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import NOT_FLAG, Name, Text, TimeLimit
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.sharing import QOS_PREEMPT_MODE
from scns_conductor.core.tres import known_tres, parse_tres, tres_amount
from scns_conductor.core.units import parse_duration
from scns_conductor.services import account_users, accounts, associations, qos

router = SegmentRouter(tags=["记账"])

_MOST = 2**31 - 1
_WITHOUT_NUL = r"^[^\x00]*$"
# 名字不能有会弄混 sacctmgr 的写法的字符。
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}$")]
Count = Annotated[int, Field(ge=0, le=_MOST), NOT_FLAG]


def _tres(value: Any) -> Any:
    if isinstance(value, str):
        return parse_tres(value)
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str) or not known_tres(name):
                raise ValueError(f"无法识别的 TRES {name!r}；有 cpu、mem、node、gres/名字、license/名字")
            if isinstance(value[name], bool) or not isinstance(value[name], int | str | None):
                raise ValueError(f"TRES {name} 的数目 {value[name]!r} 不对；应是整数，或 null 去掉")  # noqa: TRY004 - pydantic 只认 ValueError
        return {name: None if amount is None else tres_amount(name, amount) for name, amount in value.items()}
    return value


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Tres = Annotated[
    dict[str, int | None] | None,
    BeforeValidator(_tres),
    Field(json_schema_extra={"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]}),
]
Seconds = Annotated[
    Annotated[int, Field(ge=0, le=_MOST), NOT_FLAG] | None,
    BeforeValidator(_seconds),
    Field(json_schema_extra={"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}),
]
NamePath = Annotated[str, Path(pattern=_WITHOUT_NUL, description="名字")]


class LimitValues(BaseModel):
    """关联与 QOS 都有的上限；TRES 写成 "cpu=8,mem=4G" 或 {"cpu": 8}，只改写到的那几种，null 是去掉。"""

    model_config = ConfigDict(extra="forbid")

    grp_tres: Tres = Field(None, description="同时占用的总量（GrpTRES）")
    grp_tres_mins: Tres = Field(None, description="累计用量，分钟（GrpTRESMins）")
    grp_tres_run_mins: Tres = Field(None, description="运行中的作业剩余的用量，分钟（GrpTRESRunMins）")
    grp_jobs: Count | None = Field(None, description="同时运行的作业数（GrpJobs）")
    grp_submit_jobs: Count | None = Field(None, description="排队与运行的作业数（GrpSubmit）")
    grp_wall: TimeLimit = Field(None, description="累计的运行时长（GrpWall），写法同 --time")
    max_tres_per_job: Tres = Field(None, description="每个作业的总量（MaxTRES）")
    max_tres_per_node: Tres = Field(None, description="每个作业在一个节点上的量（MaxTRESPerNode）")
    max_tres_mins_per_job: Tres = Field(None, description="每个作业的量乘以时限，分钟（MaxTRESMins）")
    max_wall: TimeLimit = Field(None, description="每个作业的时限（MaxWall），写法同 --time")

    @model_validator(mode="after")
    def _without_nul(self) -> "LimitValues":
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{name} 含有 NUL 字节")
        return self

    def changes(self) -> dict[str, Any]:
        """写了的字段；不能为空的列写成 null 等于没有写。"""
        found = {name: getattr(self, name) for name in self.model_fields_set - {"name", "account", "user", "partition"}}
        return {name: value for name, value in found.items() if value is not None or name not in _REQUIRED}


_REQUIRED = frozenset(
    {"parent", "description", "organization", "shares", "flags", "preempt", "grace_time", "usage_factor"}
)


class AssociationValues(LimitValues):
    """关联的份额、QOS 与上限；账户上的由其下的继承。"""

    shares: Count | None = Field(None, description="公平份额（Fairshare），缺省 1")
    priority: Count | None = Field(None, description="多因子优先级里的关联因子")
    default_qos: Slug | None = Field(None, description="缺省 QOS")
    qos: list[Slug] | None = Field(None, description="许用的 QOS；null 由上级继承")
    max_jobs: Count | None = Field(None, description="每个用户同时运行的作业数（MaxJobs）")
    max_submit_jobs: Count | None = Field(None, description="每个用户排队与运行的作业数（MaxSubmitJobs）")
    comment: Text | None = Field(None, description="备注")


class AccountValues(AssociationValues):
    """账户。"""

    parent: Slug | None = Field(None, description="上级账户，缺省 root")
    description: Text | None = Field(None, description="说明")
    organization: Text | None = Field(None, description="单位")


class NewAccount(AccountValues):
    """新账户。"""

    name: Slug = Field(description="名字")


class NewAssociation(AssociationValues):
    """把用户加进账户。"""

    account: Slug = Field(description="账户")
    user: Slug = Field(description="用户")
    partition: Slug | None = Field(None, description="只管这个分区；缺省是全部分区")


class UserUpdate(BaseModel):
    """对用户的修改。"""

    model_config = ConfigDict(extra="forbid")

    admin_level: Annotated[str, Field(pattern="^(None|Operator|Administrator|Auditor)$")] | None = Field(
        None,
        description="None、Operator（管记账的表、预留与别人的作业）、Administrator（等于管理员令牌）、Auditor（只看）",
    )
    default_account: Slug | None = Field(None, description="缺省账户")


class QosValues(LimitValues):
    """QOS。"""

    description: Text | None = Field(None, description="说明")
    priority: Count | None = Field(None, description="多因子优先级里的 QOS 因子")
    flags: list[Name] | None = Field(None, description="DenyOnLimit、NoDecay、RequiresReservation")
    preempt: list[Slug] | None = Field(None, description="能抢占哪些 QOS 的作业（要 SCNS_PREEMPT_TYPE=qos）")
    preempt_mode: Annotated[str, Field(pattern=QOS_PREEMPT_MODE), BeforeValidator(_lower)] | None = Field(
        None, description="被抢占时怎么办，加 within 是同一个 QOS 里优先级高的也抢占；null 按 SCNS_PREEMPT_MODE"
    )
    preempt_exempt_time: Seconds = Field(None, description="运行满多久才许被抢占（秒，或 --time 的写法）")
    grace_time: Seconds = Field(None, description="被抢占时的宽限（秒，或 --time 的写法）")
    usage_factor: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), NOT_FLAG] | None = Field(
        None, description="用量按几倍计"
    )
    max_tres_per_user: Tres = Field(None, description="每个用户同时占用的总量（MaxTRESPerUser）")
    max_jobs_per_user: Count | None = Field(None, description="每个用户同时运行的作业数（MaxJobsPerUser）")
    max_submit_jobs_per_user: Count | None = Field(None, description="每个用户排队与运行的作业数（MaxSubmitPerUser）")
    max_tres_per_account: Tres = Field(None, description="每个账户同时占用的总量（MaxTRESPerAccount）")
    max_jobs_per_account: Count | None = Field(None, description="每个账户同时运行的作业数（MaxJobsPerAccount）")
    max_submit_jobs_per_account: Count | None = Field(
        None, description="每个账户排队与运行的作业数（MaxSubmitPerAccount）"
    )
    min_tres_per_job: Tres = Field(None, description="每个作业至少要多少（MinTRES）")

    def changes(self) -> dict[str, Any]:
        """QOS 的优先级不能为空。"""
        found = super().changes()
        if found.get("priority", 0) is None:
            del found["priority"]
        return found


class NewQos(QosValues):
    """新 QOS。"""

    name: Slug = Field(description="名字")


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# ---- 账户 ----


@router.get("/accounts", summary="全部账户")
async def list_accounts(parts: PartsDep, _identity: IdentityDep) -> AccountsAnswer:
    """账户树；root 是根。份额与上限在 /associations 里（user_name 为空的行）。"""
    return {"accounts": await accounts.list_accounts(parts.engine)}


@router.get("/accounts/{name}", summary="一个账户")
async def show_account(name: NamePath, parts: PartsDep, _identity: IdentityDep) -> AccountAnswer:
    """说明、单位、上级。"""
    return (await accounts.list_accounts(parts.engine, name))[0]


@router.post("/accounts", summary="新建账户（管理员、Operator、上级的协调人）", status_code=201)
async def create_account(body: NewAccount, parts: PartsDep, identity: IdentityDep) -> AccountAnswer:
    """连同它自己的份额与上限。"""
    values = _without_nulls(body.changes())
    found = await accounts.create_account(parts.engine, identity, body.name, values)
    parts.accounting.forget()
    return found


@router.patch("/accounts/{name}", summary="修改账户（管理员、Operator、上级的协调人）")
async def update_account(name: NamePath, body: AccountValues, parts: PartsDep, identity: IdentityDep) -> AccountAnswer:
    """下一个调度周期生效。"""
    found = await accounts.update_account(parts.engine, identity, name, body.changes())
    parts.accounting.forget()
    return found


@router.delete("/accounts/{name}", summary="删除账户与它的下级（管理员、Operator、上级的协调人）")
async def delete_account(name: NamePath, parts: PartsDep, identity: IdentityDep) -> dict[str, Any]:
    """还有没结束的作业时不能删；返回删掉的账户。"""
    found = await accounts.delete_account(parts.engine, identity, name)
    parts.accounting.forget()
    return {"deleted": found}


@router.put("/accounts/{name}/coordinators/{user}", summary="添协调人（管理员、Operator、协调人）", status_code=204)
async def add_coordinator(name: NamePath, user: NamePath, parts: PartsDep, identity: IdentityDep) -> Response:
    """协调人管这个账户与各级下级里的人、上限与作业。用户要先有关联；已经是的不变。"""
    await account_users.set_coordinator(parts.engine, identity, name, user, on=True)
    parts.accounting.forget()
    return Response(status_code=204)


@router.delete(
    "/accounts/{name}/coordinators/{user}", summary="去掉协调人（管理员、Operator、协调人）", status_code=204
)
async def remove_coordinator(name: NamePath, user: NamePath, parts: PartsDep, identity: IdentityDep) -> Response:
    """本来不是的不变。"""
    await account_users.set_coordinator(parts.engine, identity, name, user, on=False)
    parts.accounting.forget()
    return Response(status_code=204)


# ---- 用户 ----


@router.get("/users", summary="有关联的用户")
async def list_users(parts: PartsDep, _identity: IdentityDep) -> UsersAnswer:
    """管理级别与缺省账户。"""
    return {"users": await account_users.list_users(parts.engine)}


@router.patch("/users/{name}", summary="改管理级别与缺省账户（管理员、Operator、协调人）")
async def update_user(name: NamePath, body: UserUpdate, parts: PartsDep, identity: IdentityDep) -> UserAnswer:
    """管理级别只有管理员能改。"""
    changes = _without_nulls({each: getattr(body, each) for each in body.model_fields_set})
    found = await account_users.update_user(parts.engine, identity, name, changes)
    parts.accounting.forget()
    return found


@router.delete("/users/{name}", summary="删除用户的全部关联（管理员、Operator、协调人）", status_code=204)
async def delete_user(name: NamePath, parts: PartsDep, identity: IdentityDep) -> Response:
    """还有没结束的作业时不能删。"""
    await account_users.delete_user(parts.engine, identity, name)
    parts.accounting.forget()
    return Response(status_code=204)


# ---- 关联 ----

AssociationId = Annotated[int, Path(ge=1, le=2**63 - 1, description="关联的号")]


@router.get("/associations", summary="关联")
async def list_associations(
    parts: PartsDep,
    _identity: IdentityDep,
    account: Annotated[str | None, Query(description="只要这个账户的", pattern=_WITHOUT_NUL)] = None,
    user: Annotated[str | None, Query(description="只要这个用户的；空的是账户自己的", pattern=_WITHOUT_NUL)] = None,
) -> AssociationsAnswer:
    """effective 是补上继承之后真正生效的。"""
    return {"associations": await associations.list_associations(parts.engine, account, user)}


@router.post("/associations", summary="把用户加进账户（管理员、Operator、协调人）", status_code=201)
async def create_association(body: NewAssociation, parts: PartsDep, identity: IdentityDep) -> AssociationAnswer:
    """第一个关联的账户就是用户的缺省账户。"""
    values = _without_nulls(body.changes())
    found = await associations.create_association(
        parts.engine, identity, body.account, body.user, body.partition or "", values
    )
    parts.accounting.forget()
    return found


@router.patch("/associations/{association_id}", summary="改份额、QOS 与上限（管理员、Operator、协调人）")
async def update_association(
    association_id: AssociationId, body: AssociationValues, parts: PartsDep, identity: IdentityDep
) -> AssociationAnswer:
    """下一个调度周期生效；正在运行的作业不受影响。"""
    found = await associations.update_association(parts.engine, identity, association_id, body.changes())
    parts.accounting.forget()
    return found


@router.delete("/associations/{association_id}", summary="把用户移出账户（管理员、Operator、协调人）", status_code=204)
async def delete_association(association_id: AssociationId, parts: PartsDep, identity: IdentityDep) -> Response:
    """还有没结束的作业时不能删。"""
    await associations.delete_association(parts.engine, identity, association_id)
    parts.accounting.forget()
    return Response(status_code=204)


# ---- QOS ----


@router.get("/qos", summary="全部 QOS")
async def list_qos(parts: PartsDep, _identity: IdentityDep) -> QosListAnswer:
    """时间的单位是秒，内存是 MiB。"""
    return {"qos": await qos.list_qos(parts.engine)}


@router.get("/qos/{name}", summary="一个 QOS")
async def show_qos(name: NamePath, parts: PartsDep, _identity: IdentityDep) -> QosAnswer:
    """时间的单位是秒，内存是 MiB。"""
    return (await qos.list_qos(parts.engine, name))[0]


@router.post("/qos", summary="新建 QOS（管理员、Operator）", status_code=201)
async def create_qos(body: NewQos, parts: PartsDep, identity: IdentityDep) -> QosAnswer:
    """上限要 SCNS_ACCOUNTING_STORAGE_ENFORCE 含 limits 才生效。"""
    found = await qos.create_qos(parts.engine, identity, body.name, _without_nulls(body.changes()))
    parts.accounting.forget()
    return found


@router.patch("/qos/{name}", summary="修改 QOS（管理员、Operator）")
async def update_qos(name: NamePath, body: QosValues, parts: PartsDep, identity: IdentityDep) -> QosAnswer:
    """下一个调度周期生效；正在运行的作业不受影响。"""
    found = await qos.update_qos(parts.engine, identity, name, body.changes())
    parts.accounting.forget()
    return found


@router.delete("/qos/{name}", summary="删除 QOS（管理员、Operator）", status_code=204)
async def delete_qos(name: NamePath, parts: PartsDep, identity: IdentityDep) -> Response:
    """还有没结束的作业在用时不能删。"""
    await qos.delete_qos(parts.engine, identity, name)
    parts.accounting.forget()
    return Response(status_code=204)
