"""配置即代码：看差别、照文件改、导出。"""

from typing import Annotated, Any

from fastapi import Query

from scns_conductor.api.answers.cluster import ClusterAppliedAnswer
from scns_conductor.api.cluster_file import ClusterFile
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services.cluster_apply import apply_content
from scns_conductor.services.cluster_state import export

router = SegmentRouter(prefix="/cluster", tags=["集群"])


@router.post("/apply", summary="照 cluster.yaml 改集群（管理员；账户与 QOS Operator 也可以）")
async def apply(
    body: ClusterFile,
    parts: PartsDep,
    identity: IdentityDep,
    dry_run: Annotated[bool, Query(description="只看要改什么；真的做一遍再撤销，做不成的现在就说")] = False,
    prune: Annotated[bool, Query(description="写了的节里，文件没有写的对象要删除（节点与用户除外）")] = False,
    expect: Annotated[
        str | None, Query(description="dry_run 回答的 fingerprint：现在要改的不是那些了就 409", max_length=64)
    ] = None,
) -> ClusterAppliedAnswer:
    """一个事务，全部成功或什么也不改；同时来的一个一个办。已经是那样的不再改（changes 为空）。"""
    found = await apply_content(
        parts.engine, parts.settings, identity, body.content(), prune=prune, dry_run=dry_run, expect=expect
    )
    if found["applied"]:
        parts.accounting.forget()
        parts.live.forget()
    return found


@router.get("/export", summary="此刻的 cluster.yaml")
async def export_cluster(parts: PartsDep, _identity: IdentityDep) -> dict[str, Any]:
    """再拿去 apply 什么也不改；与缺省值相同的字段、结束了的预留不写。"""
    return await export(parts.engine)


@router.get("/schema", summary="cluster.yaml 的 JSON Schema")
async def schema(_identity: IdentityDep) -> dict[str, Any]:
    """给编辑器与 CI 用；仓库里是 docs/cluster.schema.json。"""
    return ClusterFile.model_json_schema()
