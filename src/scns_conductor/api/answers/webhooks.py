"""webhook。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of, row_of
from scns_conductor.core.models import Webhook, WebhookDelivery
from scns_conductor.services.webhooks import HIDDEN

_QUEUED = {"queued": field(int, "等着送的有几件")}
WEBHOOK = row_of(Webhook, "Webhook", omit=HIDDEN, added=_QUEUED)
NEW_WEBHOOK = row_of(
    Webhook,
    "NewWebhook",
    omit=HIDDEN,
    added={**_QUEUED, "secret": field(str | None, "签名的密钥，只在这里看得到")},
)
WEBHOOKS = page_of("Webhooks", "webhooks", WEBHOOK, "订阅")
DELIVERY = row_of(WebhookDelivery, "WebhookDelivery", added={"user_name": field(str, "谁的")})
DELIVERIES = page_of("WebhookDeliveries", "deliveries", DELIVERY, "要送的，新的在前")
DELIVERY_ID = answer("WebhookDeliveryId", "排上的一件。", {"delivery_id": field(int, "编号")})
DELIVERY_IDS = answer("WebhookDeliveryIds", "排上的几件。", {"delivery_ids": field(list[int], "编号")})

WebhookAnswer = Annotated[dict[str, Any], Shown(WEBHOOK)]
NewWebhookAnswer = Annotated[dict[str, Any], Shown(NEW_WEBHOOK)]
WebhooksAnswer = Annotated[dict[str, Any], Shown(WEBHOOKS)]
DeliveriesAnswer = Annotated[dict[str, Any], Shown(DELIVERIES)]
DeliveryIdAnswer = Annotated[dict[str, Any], Shown(DELIVERY_ID)]
DeliveryIdsAnswer = Annotated[dict[str, Any], Shown(DELIVERY_IDS)]
