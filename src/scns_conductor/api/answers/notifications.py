"""通知。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, field, page_of, row_of
from scns_conductor.core.models import Notification

NOTIFICATION = row_of(
    Notification,
    "Notification",
    changed={"job_id": (str, None)},
    added={"user_name": field(str, "谁的作业")},
)
NOTIFICATIONS = page_of("Notifications", "notifications", NOTIFICATION, "通知，新的在前")
NotificationsAnswer = Annotated[dict[str, Any], Shown(NOTIFICATIONS)]
