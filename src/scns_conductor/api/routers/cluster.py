"""节点、分区、总览。"""

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from scns_conductor.api.answers.cluster import (
    DashboardAnswer,
    NodeAnswer,
    NodeEventsAnswer,
    NodesAnswer,
    PartitionAnswer,
    PartitionsAnswer,
)
from scns_conductor.api.answers.reports import NodeMapAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import NOT_FLAG, Flag, Memory, Name, NodeList, Text
from scns_conductor.api.partition_request import NewPartition, PartitionValues
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.gres import parse_gres
from scns_conductor.services import node_power
from scns_conductor.services import nodes as node_services
from scns_conductor.services import partitions as partition_services
from scns_conductor.services.node_map import node_map
from scns_conductor.services.node_reboot import NEXT_STATES, cancel_reboot, request_reboot

router = SegmentRouter(tags=["集群"])


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class NodeTraits(BaseModel):
    """节点的特性、权重、位置。"""

    weight: Annotated[int, Field(ge=0, le=2**31 - 1), NOT_FLAG] | None = Field(None, description="权重，放置时先用小的")
    features: list[Name] | None = Field(None, description="特性")
    topology: Annotated[str, Field(max_length=1024, pattern=r"^[\w./-]*$")] | None = Field(
        None,
        description="所在的交换机路径，从根到叶，如 core/rack1/leaf3；代理重新登记时以它的设置为准，"
        "除非 scns apply 写定过",
    )

    def traits(self) -> dict[str, Any]:
        """写了的。"""
        found = {name: getattr(self, name) for name in NodeTraits.model_fields}
        return {name: value for name, value in found.items() if value is not None}


class NodeUpdate(NodeTraits):
    """对节点的修改。"""

    model_config = ConfigDict(extra="forbid")

    state: (
        Annotated[str, BeforeValidator(_upper), Field(json_schema_extra={"enum": list(node_services.ACTIONS)})] | None
    ) = Field(
        None,
        description="DRAIN 排空、RESUME 恢复、DOWN 下线（其上的作业按节点故障结束）；POWER_UP 开机，"
        "POWER_DOWN 空了就关，POWER_DOWN_ASAP 不接新作业、空了就关，POWER_DOWN_FORCE 当即结束作业、关机",
    )
    reason: Text | None = Field(None, description="原因；DRAIN 与 DOWN 必须写")


@router.get("/nodes", summary="全部节点")
async def list_nodes(parts: PartsDep, _identity: IdentityDep) -> NodesAnswer:
    """资源、用量、状态、心跳、约束是否生效、其上的作业。"""
    return {"nodes": await node_services.list_nodes(parts.engine)}


@router.get("/nodemap", summary="节点的简表")
async def show_node_map(parts: PartsDep, _identity: IdentityDep) -> NodeMapAnswer:
    """一个节点一行数，画节点图用；几千个节点时比 GET /nodes 小十几倍。"""
    return await node_map(parts.engine)


@router.get("/nodes/{name}", summary="一个节点")
async def show_node(name: str, parts: PartsDep, _identity: IdentityDep) -> NodeAnswer:
    """内存的单位是 MiB。"""
    return (await node_services.list_nodes(parts.engine, name))[0]


@router.get("/nodes/{name}/events", summary="一个节点出过的事")
async def show_node_events(
    name: str,
    parts: PartsDep,
    _identity: IdentityDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="至多几件")] = 100,
) -> NodeEventsAnswer:
    """上线、下线、排空、恢复，各因为什么；新的在前，留三十天。"""
    return {"events": await node_services.node_events(parts.engine, name, limit)}


@router.patch("/nodes/{name}", summary="排空、恢复、下线（管理员）")
async def update_node(name: str, body: NodeUpdate, parts: PartsDep, identity: IdentityDep) -> NodeAnswer:
    """排空不影响运行中的作业。"""
    return await node_services.update_node(
        parts.engine,
        identity,
        name,
        state=body.state,
        reason=body.reason,
        weight=body.weight,
        features=body.features,
        topology=body.topology,
        elastic=parts.settings.elastic,
    )


@router.delete("/nodes/{name}", summary="删除节点（管理员）", status_code=204)
async def delete_node(name: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """name 可写 n[1-3]。还有作业的、还在接作业的（没有排空，代理也没有停）、预留用着的不能删；作业与用量的历史不动。"""
    await node_services.delete_nodes(parts.engine, identity, name, node_timeout_s=parts.settings.node_timeout_s)
    return Response(status_code=204)


class NewNodes(BaseModel):
    """要声明的节点：一样大的几个。"""

    model_config = ConfigDict(extra="forbid")

    name: NodeList = Field(description="节点名，可写 n[1-3]")
    cpus: Annotated[int, Field(ge=1, le=2**20), NOT_FLAG] = Field(description="CPU 数")
    memory: Memory = Field(description="内存（MiB，或 64G）")
    gres: Text | None = Field(None, description="通用资源，如 gpu:a100:4")
    features: list[Name] = Field([], description="特性")
    weight: Annotated[int, Field(ge=0, le=2**31 - 1), NOT_FLAG] = Field(1, description="权重，放置时先用小的")
    topology: Annotated[str, Field(max_length=1024, pattern=r"^[\w./-]*$")] | None = Field(
        None, description="所在的交换机路径"
    )

    @field_validator("memory")
    @classmethod
    def _sized(cls, value: int | None) -> int:
        if not value or value > 2**40:
            raise ValueError("要写明节点有多少内存")
        return value

    @field_validator("gres")
    @classmethod
    def _known_gres(cls, value: str | None) -> str | None:
        parse_gres(value or "")
        return value


@router.post("/nodes", summary="声明节点（管理员）", status_code=201)
async def declare_nodes(body: NewNodes, parts: PartsDep, identity: IdentityDep) -> NodesAnswer:
    """预先声明、要用时才有的节点（Slurm 的 State=CLOUD）：关着，分配了作业才由 resume_program 开起来。"""
    values = body.model_dump(exclude={"name"}) | {"gres": dict(parse_gres(body.gres or ""))}
    return {"nodes": await node_power.declare_nodes(parts.engine, identity, body.name, values)}


class RebootRequest(BaseModel):
    """怎样重启。"""

    model_config = ConfigDict(extra="forbid")

    asap: Flag = Field(False, description="从此不接新作业，运行中的跑完就重启；假则等它自己空下来")
    next_state: Annotated[str, BeforeValidator(_upper), Field(json_schema_extra={"enum": list(NEXT_STATES)})] | None = (
        Field(None, description="回来之后：RESUME 恢复（撤掉排空），DOWN 下线；不写是照旧")
    )
    reason: Text | None = Field(None, description="为什么重启")

    @field_validator("next_state")
    @classmethod
    def _known_state(cls, value: str | None) -> str | None:
        if value is not None and value not in NEXT_STATES:
            raise ValueError(f"只能是 {'、'.join(NEXT_STATES)}")
        return value


@router.post("/nodes/{name}/reboot", summary="重启节点（管理员）")
async def reboot_node(name: str, body: RebootRequest, parts: PartsDep, identity: IdentityDep) -> NodesAnswer:
    """name 可写 n[1-3]。节点空下来之后由它的代理运行 reboot_program；超过 resume_timeout_s 没有回来的标为下线。"""
    return {
        "nodes": await request_reboot(
            parts.engine, identity, name, asap=body.asap, next_state=body.next_state, reason=body.reason
        )
    }


@router.delete("/nodes/{name}/reboot", summary="撤销重启（管理员）")
async def cancel_node_reboot(name: str, parts: PartsDep, identity: IdentityDep) -> NodesAnswer:
    """name 可写 n[1-3]；已经在重启的撤销不了。"""
    return {"nodes": await cancel_reboot(parts.engine, identity, name)}


@router.get("/partitions", summary="全部分区")
async def list_partitions(parts: PartsDep, _identity: IdentityDep) -> PartitionsAnswer:
    """时间的单位是秒，内存是 MiB。"""
    return {"partitions": await partition_services.list_partitions(parts.engine)}


@router.get("/partitions/{name}", summary="一个分区")
async def show_partition(name: str, parts: PartsDep, _identity: IdentityDep) -> PartitionAnswer:
    """时间的单位是秒，内存是 MiB。"""
    return (await partition_services.list_partitions(parts.engine, name))[0]


@router.post("/partitions", summary="新建分区（管理员）", status_code=201)
async def create_partition(body: NewPartition, parts: PartsDep, identity: IdentityDep) -> PartitionAnswer:
    """缺省包含全部节点。"""
    return await partition_services.create_partition(parts.engine, identity, body.changes())


@router.patch("/partitions/{name}", summary="修改分区（管理员）")
async def update_partition(name: str, body: PartitionValues, parts: PartsDep, identity: IdentityDep) -> PartitionAnswer:
    """下一个调度周期生效。"""
    return await partition_services.update_partition(parts.engine, identity, name, body.changes())


@router.delete("/partitions/{name}", summary="删除分区（管理员）", status_code=204)
async def delete_partition(name: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """还有作业在用时不能删。"""
    await partition_services.delete_partition(parts.engine, identity, name)
    return Response(status_code=204)


@router.get("/dashboard", summary="总览")
async def dashboard(parts: PartsDep, _identity: IdentityDep) -> DashboardAnswer:
    """各状态的作业数（数组按任务计）、资源总量与用量、运行与排队中的作业、领导者。"""
    return await parts.dashboard.overview()
