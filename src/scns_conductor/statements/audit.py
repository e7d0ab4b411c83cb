"""审计：写一条，列出。"""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

# 写一条；before、after 是 JSON 的文字。
AUDIT_INSERT = sa.text(
    "INSERT INTO audit_log (actor, role, method, token_id, address, request_id, action, target, before, after) "
    "VALUES (:actor, :role, :method, :token_id, :address, :request_id, :action, :target, "
    "CAST(:before AS jsonb), CAST(:after AS jsonb))"
)


def command_entry(actor: str, action: str, target: str, after: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """AUDIT_INSERT 的值：系统用户 actor 在这台机器上运行的命令。"""
    return {
        "actor": actor,
        "role": "administrator",
        "method": "command",
        "token_id": None,
        "address": None,
        "request_id": None,
        "action": action,
        "target": target,
        "before": None,
        "after": None if after is None else json.dumps(after, ensure_ascii=False, default=str),
    }


# 号比 :before 小的，新的在前；:action 是开头，如 node。
AUDIT_PAGE = sa.text(
    "SELECT * FROM audit_log WHERE audit_id < :before AND (CAST(:actor AS text) IS NULL OR actor = :actor) "
    "AND (CAST(:action AS text) IS NULL OR action = :action OR starts_with(action, :action || '.')) "
    "AND (CAST(:target AS text) IS NULL OR target = :target) "
    "AND (CAST(:since AS timestamptz) IS NULL OR at >= :since) "
    "AND (CAST(:until AS timestamptz) IS NULL OR at < :until) ORDER BY audit_id DESC LIMIT :limit"
)
# 号比 :after 大的，旧的在前；settled 是过了 :settled_s 秒，比它早的都已经提交了。
AUDIT_AFTER = sa.text(
    "SELECT *, at < clock_timestamp() - make_interval(secs => :settled_s) AS settled FROM audit_log "
    "WHERE audit_id > :after ORDER BY audit_id LIMIT :limit"
)
