"""预留：列出、新建、修改、删除。"""

from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scns_conductor.api.answers.cluster import ReservationAnswer, ReservationsAnswer
from scns_conductor.api.dependencies import IdentityDep, Parts, PartsDep
from scns_conductor.api.field_forms import Instant, Name, PositiveInt, Text, TimeLimit
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.licenses import parse_licenses
from scns_conductor.services import reservations

# 可以写 null 去掉的。
_CLEARABLE = frozenset({"comment", "licenses", "partition", "node_cpus"})
_YEAR_S = 365 * 86400

router = SegmentRouter(prefix="/reservations", tags=["预留"])


def _words(value: Any) -> Any:
    return [word.upper() if isinstance(word, str) else word for word in value] if isinstance(value, list) else value


class ReservationValues(BaseModel):
    """预留的内容；写了 duration 就不必写 end_time。"""

    model_config = ConfigDict(extra="forbid")

    start_time: Instant = Field(None, description="开始：ISO 8601、Unix 秒、now、now+1hour 等；缺省是现在")
    end_time: Instant = Field(None, description="结束")
    duration: TimeLimit = Field(None, description="长度，写法同 --time")
    nodes: Text | None = Field(None, description="节点列表，如 n[1-4]；ALL 是全部")
    users: list[Name] | None = Field(None, description="许用的用户")
    accounts: list[Name] | None = Field(None, description="许用的账户；用户与账户都不写是维护，谁也不许用")
    groups: list[Name] | None = Field(None, description="许用的组：里面的用户都许；与 users 只能写一样")
    core_count: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1, max_length=65_536)] | None = Field(
        None,
        description="按核留：一共几个核（写了 node_count、nodes 的平分），或 nodes 里各几个；其余的 CPU 照常给别人",
    )
    node_cpus: Annotated[dict[Name, PositiveInt], Field(min_length=1, max_length=65_536)] | None = Field(
        None, description="按核留的另一种写法：节点 -> 几个 CPU；null 改成整个节点"
    )
    node_count: PositiveInt | None = Field(
        None, description="要几个节点：先从 nodes（修改时是原来的节点）里挑，再挑分区里最空的"
    )
    partition: Name | None = Field(
        None,
        description="节点取自这个分区；没有写 nodes、node_count 的是它的全部节点。用预留而没有写分区的作业也用它",
    )
    licenses: Text | None = Field(None, description="预留的许可证，如 matlab:2,ansys；只有许可证的要写 LICENSE_ONLY")
    flags: Annotated[list[str], BeforeValidator(_words)] | None = Field(
        None,
        description="MAINT、IGNORE_JOBS（不管正在跑的作业）、OVERLAP（可与别的预留重叠）；HOURLY、DAILY、WEEKDAY、WEEKEND、"
        "WEEKLY（在同样的时刻重复）；PART_NODES（与 partition、nodes=ALL 同用，节点跟着分区变）；"
        "LICENSE_ONLY（同 ANY_NODES，只预留许可证）；FLEX（里面的作业可以早到、晚走、用外面的节点）、"
        "MAGNETIC（许用的人不指名也用得上）、REPLACE、REPLACE_DOWN（节点坏了、被占用了就换一个）、STATIC_ALLOC（系统挑的节点停了也不换）、"
        "NO_HOLD_JOBS_AFTER（结束之后，排队的作业不再等它）、USER_DELETE（许用它的人也可以删除它）、"
        "PURGE_COMP[=时长]（闲这么久就删掉，缺省 5 分钟）、TIME_FLOAT（开始总是此刻之后那么久）",
    )
    comment: Text | None = Field(None, description="备注")

    def changes(self) -> dict[str, Any]:
        """写了的字段；duration 是秒，不限的是一年（Slurm 也是）。"""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        if "duration" in found and found["duration"] is None:
            found["duration"] = _YEAR_S
        return {name: value for name, value in found.items() if value is not None or name in _CLEARABLE}


async def _licenses(parts: Parts) -> dict[str, int]:
    return dict(parse_licenses((await parts.live.get()).licenses))


class NewReservation(ReservationValues):
    """新预留。"""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")] = Field(description="名字")


@router.get("", summary="全部预留")
async def list_(parts: PartsDep, _identity: IdentityDep) -> ReservationsAnswer:
    """state 是 INACTIVE（还没有开始）、ACTIVE 或 ENDED。"""
    return {"reservations": await reservations.list_reservations(parts.engine)}


@router.get("/{name}", summary="一个预留")
async def show(name: str, parts: PartsDep, _identity: IdentityDep) -> ReservationAnswer:
    """时刻是 ISO 8601。"""
    return (await reservations.list_reservations(parts.engine, name))[0]


@router.post("", summary="新建预留（管理员、Operator）", status_code=201)
async def create(body: NewReservation, parts: PartsDep, identity: IdentityDep) -> ReservationAnswer:
    """节点不得与别的预留重叠（OVERLAP 除外），也不得有到时跑不完的作业（IGNORE_JOBS 除外）。"""
    return await reservations.create_reservation(parts.engine, identity, body.changes(), await _licenses(parts))


@router.patch("/{name}", summary="修改预留（管理员、Operator）")
async def update(name: str, body: ReservationValues, parts: PartsDep, identity: IdentityDep) -> ReservationAnswer:
    """duration 从预留的开始算起；已经开始的不能再改开始。"""
    return await reservations.update_reservation(parts.engine, identity, name, body.changes(), await _licenses(parts))


@router.delete("/{name}", summary="删除预留（管理员、Operator；写了 USER_DELETE 的，许用的人）", status_code=204)
async def delete(name: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """还有作业指名要用它时不能删。"""
    await reservations.delete_reservation(parts.engine, identity, name)
    return Response(status_code=204)
