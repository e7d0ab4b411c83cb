"""webhook：出了事就往一个地址说。"""

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.webhooks import (
    DeliveriesAnswer,
    DeliveryIdAnswer,
    DeliveryIdsAnswer,
    NewWebhookAnswer,
    WebhookAnswer,
    WebhooksAnswer,
)
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import Flag, Name
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.models import NotificationState, WebhookFormat, WebhookScope
from scns_conductor.services import webhooks

router = SegmentRouter(prefix="/webhooks", tags=["webhook"])

_MOST = 1000
_MOST_ID = 2**62
Url = Annotated[str, Field(min_length=8, max_length=2048, pattern=r"^https?://[!-~]+$")]
Events = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=32)]
Secret = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
DeliveryIds = Annotated[list[Annotated[int, Field(ge=1, le=_MOST_ID)]], Field(min_length=1, max_length=_MOST)]
WebhookId = Annotated[int, Path(ge=1, le=_MOST_ID, description="编号")]


class WebhookRequest(BaseModel):
    """要定下的订阅。"""

    model_config = ConfigDict(extra="forbid")

    url: Url = Field(description="往哪里说：https://… 或 http://…；不跟重定向，本机与内网的地址要管理员许了才行")
    events: Events = Field(
        default_factory=lambda: ["job.ended"],
        description="哪些事：job.submitted、job.started、job.failed……；job.ended 是各种结束，job.unsuccessful 是"
        "没有成功的，job.*、node.*、reservation.*、scheduler.* 是各种，* 是全部（node.idle 要写明）。缺省 job.ended",
    )
    scope: WebhookScope = Field(
        WebhookScope.USER,
        description="user 自己的作业；account 一个账户连同下级的作业（协调人、Operator、管理员）；"
        "cluster 全部作业，与节点、预留、调度器、设置（管理员）",
    )
    account: Name | None = Field(None, description="scope 是 account 时，哪个账户")
    format: WebhookFormat = Field(
        WebhookFormat.JSON, description="json 一件一个请求，签名；slack、feishu、dingtalk、wecom 是群机器人的一条消息"
    )
    secret: Secret | None = Field(
        None, description="json：whsec_ 加 base64，不写就造一个；feishu、dingtalk：机器人的签名密钥，没有打开签名的不写"
    )


class WebhookChanges(BaseModel):
    """要改的。"""

    model_config = ConfigDict(extra="forbid")

    url: Url | None = Field(None, description="往哪里说")
    events: Events | None = Field(None, description="哪些事")
    active: Flag | None = Field(None, description="假的停着：不记、不送；再打开时从那一刻算起")
    secret: Secret | None = Field(None, description="换一个密钥")

    def changes(self) -> dict[str, Any]:
        """写了的。"""
        return {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}


class RedeliverRequest(BaseModel):
    """要重送的。"""

    model_config = ConfigDict(extra="forbid")

    delivery_ids: DeliveryIds | None = Field(None, description="哪几件，送到了的也行；不写是全部不再试的（DEAD）")


@router.get("", summary="列出 webhook 订阅")
async def list_(parts: PartsDep, identity: IdentityDep) -> WebhooksAnswer:
    """自己的，管理员是全部的。"""
    return {"webhooks": await webhooks.list_webhooks(parts.engine, identity)}


@router.post("", summary="定一个 webhook 订阅", status_code=201)
async def create(body: WebhookRequest, parts: PartsDep, identity: IdentityDep) -> NewWebhookAnswer:
    """从此刻起的事。回答里的 secret 只这一次看得到；签名怎样核对见 docs/webhooks.md。"""
    wants = webhooks.NewWebhook(body.url, body.events, body.scope, body.account, body.format, body.secret)
    return await webhooks.create_webhook(parts.engine, parts.settings, await parts.accounting.get(), identity, wants)


@router.get("/deliveries", summary="webhook 送了没有")
async def deliveries(
    parts: PartsDep,
    identity: IdentityDep,
    webhook_id: Annotated[int | None, Query(ge=1, le=_MOST_ID, description="这个订阅的")] = None,
    state: Annotated[NotificationState | None, Query(description="只要这种状态的；DEAD 是不再试的")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="至多几件")] = 100,
    before: Annotated[int | None, Query(ge=1, le=_MOST_ID, description="只要号比它小的：上一页最后一个的号")] = None,
) -> DeliveriesAnswer:
    """自己的，管理员是全部的；新的在前。送不到的，error 说明为什么。留十四天。"""
    found = await webhooks.list_deliveries(
        parts.engine, identity, webhook_id=webhook_id, state=state, limit=limit, before=before
    )
    return {"deliveries": found}


@router.get("/{webhook_id:int}", summary="一个 webhook 订阅")
async def show(webhook_id: WebhookId, parts: PartsDep, identity: IdentityDep) -> WebhookAnswer:
    """别人的也是 404，管理员除外。"""
    return (await webhooks.list_webhooks(parts.engine, identity, webhook_id))[0]


@router.patch("/{webhook_id:int}", summary="改、停、打开一个 webhook 订阅")
async def update(webhook_id: WebhookId, body: WebhookChanges, parts: PartsDep, identity: IdentityDep) -> WebhookAnswer:
    """没有写的不变；等着送的照新的地址送。"""
    return await webhooks.update_webhook(parts.engine, parts.settings, identity, webhook_id, body.changes())


@router.delete("/{webhook_id:int}", summary="删除 webhook 订阅", status_code=204)
async def delete(webhook_id: WebhookId, parts: PartsDep, identity: IdentityDep) -> Response:
    """还没有送的也没有了。"""
    await webhooks.delete_webhook(parts.engine, identity, webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id:int}/ping", summary="往 webhook 送一件试一试的", status_code=202)
async def ping(webhook_id: WebhookId, parts: PartsDep, identity: IdentityDep) -> DeliveryIdAnswer:
    """马上就送；送到没有看 GET /webhooks/deliveries。"""
    return {"delivery_id": await webhooks.ping_webhook(parts.engine, parts.settings, identity, webhook_id)}


@router.post("/{webhook_id:int}/redeliver", summary="重送 webhook", status_code=202)
async def redeliver(
    webhook_id: WebhookId, body: RedeliverRequest, parts: PartsDep, identity: IdentityDep
) -> DeliveryIdsAnswer:
    """webhook-id 与内容不变。"""
    return {"delivery_ids": await webhooks.redeliver(parts.engine, identity, webhook_id, body.delivery_ids)}
