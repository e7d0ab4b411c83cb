"""过期的行：一次删一小批，不久占锁。"""

import sqlalchemy as sa


def _expired(table: str, kept: str) -> sa.TextClause:
    return sa.text(
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} "
        f"WHERE created_at < clock_timestamp() - interval '{kept}' LIMIT :most))"
    )


def _long_expired() -> sa.TextClause:
    return sa.text(
        "DELETE FROM access_tokens WHERE token_id = ANY(ARRAY(SELECT token_id FROM access_tokens "
        "WHERE expires_at < clock_timestamp() - interval '30 days' LIMIT :most))"
    )


# 没有人取走的回答（等着的 API 死了）；客户端早已不会再用的幂等键；旧的通知；没有配邮件服务器时触发器记下的变化；
# 旧的 webhook（两天之后早已不再试）；节点与预留旧的事；早已到期的令牌的登记。
EXPIRED = {
    "request_answers": _expired("request_answers", "1 hour"),
    "idempotency_keys": _expired("idempotency_keys", "1 day"),
    "notifications": _expired("notifications", "30 days"),
    "job_notices": _expired("job_notices", "3 days"),
    "webhook_deliveries": _expired("webhook_deliveries", "14 days"),
    "cluster_events": _expired("cluster_events", "30 days"),
    "access_tokens": _long_expired(),
}
