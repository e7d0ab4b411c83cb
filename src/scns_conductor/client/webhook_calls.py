"""webhook 的端点。"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scns_conductor.client.cluster_calls import nothing
from scns_conductor.client.request import Request, many, one, plain

if TYPE_CHECKING:
    from scns_conductor.client.answers import NewWebhook, Webhook, WebhookDelivery


class WebhookCalls:
    """出了事就往一个地址说。"""

    @many
    def webhooks(self) -> "Request[Webhook]":
        """自己的订阅（管理员是全部的）。"""
        return Request("GET", "/webhooks", within="webhooks")

    @one
    def create_webhook(self, url: str, /, **values: Any) -> "Request[NewWebhook]":
        """定一个，回答里有密钥；values 是 events、scope、account、format、secret，见 docs/webhooks.md。"""
        return Request("POST", "/webhooks", body={"url": url, **values})

    @one
    def update_webhook(self, webhook_id: int, changes: Mapping[str, Any]) -> "Request[Webhook]":
        """改 url、events、active、secret。"""
        return Request("PATCH", f"/webhooks/{webhook_id}", body=dict(changes))

    @plain
    def delete_webhook(self, webhook_id: int) -> "Request[None]":
        """删除。"""
        return Request("DELETE", f"/webhooks/{webhook_id}", read=nothing)

    @plain
    def ping_webhook(self, webhook_id: int) -> "Request[int]":
        """送一件试一试的，返回它的编号。"""
        path = f"/webhooks/{webhook_id}/ping"
        return Request("POST", path, read=lambda answer: int(answer.json()["delivery_id"]))

    @plain
    def redeliver_webhook(self, webhook_id: int, delivery_ids: Sequence[int] | None = None) -> "Request[list[int]]":
        """重送这几件；不写是全部不再试的。返回编号。"""
        body = {} if delivery_ids is None else {"delivery_ids": list(delivery_ids)}
        path = f"/webhooks/{webhook_id}/redeliver"
        return Request("POST", path, body=body, read=lambda answer: list(answer.json()["delivery_ids"]))

    @many
    def webhook_deliveries(
        self, *, webhook_id: int | None = None, state: str | None = None, limit: int = 100, before: int | None = None
    ) -> "Request[WebhookDelivery]":
        """要送的、送到的、送不到的，新的在前；state 是 QUEUED、SENT、DEAD。"""
        query = {"webhook_id": webhook_id, "state": state, "limit": limit, "before": before}
        return Request(
            "GET", "/webhooks/deliveries", within="deliveries",
            query={name: value for name, value in query.items() if value is not None},
        )  # fmt: skip
