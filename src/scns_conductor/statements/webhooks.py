"""webhook 的订阅：列出、新建、修改、删除；要送的：列出、试一试、重送。"""

import sqlalchemy as sa

from scns_conductor.core.models import Webhook

# 本人的（user_name 为空是所有人的）。
WEBHOOKS = sa.text(
    """
    SELECT w.*, (SELECT count(*) FROM webhook_deliveries AS d WHERE d.webhook_id = w.webhook_id AND d.state = 'QUEUED')
      AS queued
    FROM webhooks AS w
    WHERE (CAST(:user_name AS text) IS NULL OR w.user_name = :user_name)
      AND (CAST(:webhook_id AS bigint) IS NULL OR w.webhook_id = :webhook_id)
    ORDER BY w.webhook_id
    """
)
# 一个人的订阅不能同时加：数着加到上限。
LOCK_WEBHOOKS_OF = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('scns webhooks ' || :user_name, 0))")
# 一个人有几个。
COUNT_WEBHOOKS_OF = sa.text("SELECT count(*) FROM webhooks WHERE user_name = :user_name")
# 历史到了哪里：订阅从此刻算起。
EVENTS_SO_FAR = sa.text(
    """
    SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM job_events_event_id_seq) AS job_event,
      (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cluster_events_event_id_seq) AS cluster_event
    """
)
# 一个开着的也没有的时候，到时候的事（预留开始、结束）没有人看着：从此刻看起。
LOOK_FROM_NOW = sa.text(
    "UPDATE webhook_cursor SET looked_at = clock_timestamp() WHERE NOT EXISTS (SELECT FROM webhooks WHERE active)"
)
# 停下这些人的、不是作为协调人定的这些范围的订阅。
PAUSE_WEBHOOKS = sa.text(
    "UPDATE webhooks SET active = false WHERE active AND NOT as_coordinator "
    "AND user_name = ANY(CAST(:user_names AS text[])) AND scope = ANY(CAST(:scopes AS text[])) RETURNING webhook_id"
)
# 到时候了就试一次；重送、试一试的不等隔多久。
WAKE = sa.text("UPDATE webhooks SET failures = 0, resume_at = NULL WHERE webhook_id = :webhook_id")
# 要送的一件，不论订阅了没有。
PING_INSERT = sa.text(
    """
    INSERT INTO webhook_deliveries (webhook_id, message_id, event, payload)
    VALUES (:webhook_id, 'msg_' || replace(CAST(gen_random_uuid() AS text), '-', ''), :event, :payload)
    RETURNING delivery_id
    """
)
# 一个人的（user_name 为空是所有人的），新的在前。
DELIVERIES = sa.text(
    """
    SELECT d.*, w.user_name FROM webhook_deliveries AS d JOIN webhooks AS w USING (webhook_id)
    WHERE (CAST(:user_name AS text) IS NULL OR w.user_name = :user_name)
      AND (CAST(:webhook_id AS bigint) IS NULL OR d.webhook_id = :webhook_id)
      AND (CAST(:state AS text) IS NULL OR d.state = :state)
      AND d.delivery_id < :before
    ORDER BY d.delivery_id DESC LIMIT :limit
    """
)
# 再送一遍：指明的不论送到没有，没有指明的是全部 DEAD 的。从头算两天。
REDELIVER = sa.text(
    """
    UPDATE webhook_deliveries SET state = 'QUEUED', attempts = 0, error = NULL, status_code = NULL, sent_at = NULL,
      created_at = clock_timestamp(), next_try_at = clock_timestamp()
    WHERE webhook_id = :webhook_id
      AND CASE WHEN CAST(:delivery_ids AS bigint[]) IS NULL THEN state = 'DEAD'
          ELSE delivery_id = ANY(:delivery_ids) AND state <> 'QUEUED' END
    RETURNING delivery_id
    """
)


def webhook_insert(values: dict[str, object]) -> sa.Insert:
    """新订阅，返回它的行。"""
    return sa.insert(Webhook).values(**values).returning(*sa.inspect(Webhook).columns)


def webhook_update(webhook_id: int, values: dict[str, object]) -> sa.Update:
    """改这些列。"""
    return sa.update(Webhook).where(sa.column("webhook_id") == webhook_id).values(**values)


def webhook_delete(webhook_id: int) -> sa.Delete:
    """删除，要送的也没有了。"""
    return sa.delete(Webhook).where(sa.column("webhook_id") == webhook_id)
