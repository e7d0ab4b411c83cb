"""幂等键：占住、读出、填上作业号。"""

import sqlalchemy as sa

# 占住这些键，返回占住了的。并发的同一个键在唯一索引上互相等待，只有一个占得住；按键的次序占，不会死锁。
CLAIM_KEYS = sa.text(
    "INSERT INTO idempotency_keys (user_name, key, request_hash, job_ids) "
    "SELECT n.user_name, n.key, n.request_hash, '{}' "
    "FROM unnest(CAST(:user_names AS text[]), CAST(:keys AS text[]), CAST(:hashes AS text[])) "
    "AS n(user_name, key, request_hash) ORDER BY 1, 2 ON CONFLICT DO NOTHING RETURNING user_name, key"
)
# 这些键当时的内容与作业号。
READ_KEYS = sa.text(
    "SELECT k.user_name, k.key, k.request_hash, k.job_ids FROM idempotency_keys AS k "
    "JOIN unnest(CAST(:user_names AS text[]), CAST(:keys AS text[])) AS n(user_name, key) USING (user_name, key)"
)
# 记下这些键产生的作业号。
FILL_KEYS = sa.text(
    "UPDATE idempotency_keys AS k SET job_ids = CAST(n.job_ids AS bigint[]) "
    "FROM unnest(CAST(:user_names AS text[]), CAST(:keys AS text[]), CAST(:job_ids AS text[])) "
    "AS n(user_name, key, job_ids) WHERE k.user_name = n.user_name AND k.key = n.key"
)
# 没有写成的，键还可以再用。
DROP_KEYS = sa.text(
    "DELETE FROM idempotency_keys AS k "
    "USING unnest(CAST(:user_names AS text[]), CAST(:keys AS text[])) AS n(user_name, key) "
    "WHERE k.user_name = n.user_name AND k.key = n.key"
)
