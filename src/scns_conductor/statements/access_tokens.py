"""签发过的令牌：登记、列出、作废、记下最近一次用。"""

import sqlalchemy as sa

# 登记一个刚签发的；exp 是 Unix 秒。
TOKEN_INSERT = sa.text(
    "INSERT INTO access_tokens (token_id, user_name, name, role, scopes, account, created_by, expires_at) "
    "VALUES (:token_id, :user_name, :name, :role, CAST(:scopes AS text[]), :account, :created_by, "
    "to_timestamp(CAST(:expires AS double precision)))"
)
# 没有到期的（一个用户的，或 NULL 是全部的），新的在前；号比 :before 的那一个旧的。
TOKENS = sa.text(
    "SELECT * FROM access_tokens WHERE (CAST(:user_name AS text) IS NULL OR user_name = :user_name) "
    "AND expires_at > clock_timestamp() ORDER BY created_at DESC, token_id LIMIT :limit"
)
# 作废一个，返回它的主人；:user_name 不是 NULL 时只作废这个用户的。作废过的保持原样。
TOKEN_REVOKE = sa.text(
    "UPDATE access_tokens SET revoked_at = coalesce(revoked_at, clock_timestamp()), "
    "revoked_by = coalesce(revoked_by, :actor) WHERE token_id = :token_id "
    "AND (CAST(:user_name AS text) IS NULL OR user_name = :user_name) RETURNING user_name, name"
)
# 作废这些用户的全部登记过的令牌，返回作废了的。
TOKENS_OF_USERS_REVOKE = sa.text(
    "UPDATE access_tokens SET revoked_at = clock_timestamp(), revoked_by = :actor "
    "WHERE user_name = ANY(CAST(:user_names AS text[])) AND revoked_at IS NULL AND expires_at > clock_timestamp() "
    "RETURNING token_id"
)
# 这些用户此刻之前签发的、没有登记的也不认。
USERS_REVOKE = sa.text(
    "INSERT INTO revoked_users (user_name) SELECT unnest(CAST(:user_names AS text[])) "
    "ON CONFLICT (user_name) DO UPDATE SET revoked_at = clock_timestamp()"
)
# 作废了而没有到期的令牌，与作废了全部令牌的用户（Unix 秒）：各 API 进程一会儿读一次，一条语句。
REVOKED = sa.text(
    "SELECT token_id, NULL AS user_name, NULL AS revoked_at FROM access_tokens "
    "WHERE revoked_at IS NOT NULL AND expires_at > clock_timestamp() "
    "UNION ALL SELECT NULL, user_name, CAST(floor(extract(epoch FROM revoked_at)) AS bigint) FROM revoked_users"
)
# 记下最近一次用，一批一条。
TOKENS_USED = sa.text(
    "UPDATE access_tokens AS t SET last_used_at = to_timestamp(u.at), last_used_from = u.address "
    "FROM unnest(CAST(:token_ids AS text[]), CAST(:moments AS double precision[]), CAST(:addresses AS text[])) "
    "AS u (token_id, at, address) WHERE t.token_id = u.token_id "
    "AND (t.last_used_at IS NULL OR t.last_used_at < to_timestamp(u.at))"
)
