"""节点、分区、总览、令牌。"""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from scns_conductor.api.answers.cluster import (
    DashboardAnswer,
    NodeAnswer,
    NodesAnswer,
    PartitionAnswer,
    PartitionsAnswer,
)
from scns_conductor.api.answers.reports import NodeMapAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import NOT_FLAG, Flag, Name, Text
from scns_conductor.api.partition_request import NewPartition, PartitionValues
from scns_conductor.core.tokens import USER_NAME_PATTERN
from scns_conductor.services import nodes as node_services
from scns_conductor.services import partitions as partition_services
from scns_conductor.services.node_map import node_map
from scns_conductor.services.user_tokens import issue_user_token

router = APIRouter(tags=["集群"])


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
    ) = Field(None, description="DRAIN 排空、RESUME 恢复、DOWN 下线（其上的作业按节点故障结束）")
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
    )


@router.delete("/nodes/{name}", summary="删除节点（管理员）", status_code=204)
async def delete_node(name: str, parts: PartsDep, identity: IdentityDep) -> Response:
    """name 可写 n[1-3]。还有作业的、还在接作业的（没有排空，代理也没有停）、预留用着的不能删；作业与用量的历史不动。"""
    await node_services.delete_nodes(parts.engine, identity, name, node_timeout_s=parts.settings.node_timeout_s)
    return Response(status_code=204)


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


class TokenRequest(BaseModel):
    """要签发的令牌。"""

    model_config = ConfigDict(extra="forbid")

    user_name: Annotated[str, Field(pattern=USER_NAME_PATTERN)] | None = Field(None, description="给谁；缺省是自己")
    admin: Flag = Field(False, description="管理员令牌")
    lifetime_s: Annotated[int, Field(ge=1, le=10 * 365 * 86400), NOT_FLAG] | None = Field(
        None, description="有效期（秒）"
    )


class IssuedToken(BaseModel):
    """签发的令牌。"""

    token: str


@router.post("/tokens", summary="签发令牌", status_code=201)
async def create_token(body: TokenRequest, parts: PartsDep, identity: IdentityDep) -> IssuedToken:
    """自己的令牌谁都能签；别人的、管理员的要管理员。"""
    return IssuedToken(
        token=issue_user_token(parts.settings, identity, body.user_name, admin=body.admin, lifetime_s=body.lifetime_s)
    )
