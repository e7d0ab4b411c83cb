"""后台进程的 webhook：事情顺着读下来，定下要送的，一个地址一个地址地送，记下结果。"""

import sqlalchemy as sa

# 没有停着的订阅。
ACTIVE_WEBHOOKS = sa.text(
    "SELECT webhook_id, user_name, scope, account, as_coordinator, events, after_job_event, after_cluster_event, "
    "created_at FROM webhooks WHERE active ORDER BY webhook_id"
)
# job_events 发出去的号到了哪里。
JOB_EVENTS_REACHED = sa.text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM job_events_event_id_seq")
# cluster_events 发出去的号到了哪里。
CLUSTER_EVENTS_REACHED = sa.text(
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cluster_events_event_id_seq"
)
# 正在写这张表的事务：写之前先锁表，拿号在锁之后，所以拿了号而没有提交的都在其中。
WRITERS = sa.text(
    """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
      AND relation = to_regclass(:table_name)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)
# 定到了哪里；别的进程正在定就没有这一行。
LOCK_CURSOR = sa.text(
    "SELECT job_event, cluster_event, looked_at, clock_timestamp() AS now FROM webhook_cursor FOR UPDATE SKIP LOCKED"
)
# 往前移到这里。
MOVE_CURSOR = sa.text(
    "UPDATE webhook_cursor SET job_event = :job_event, cluster_event = :cluster_event, looked_at = :looked_at"
)
# 作业的事，状态变了的（从别的系统搬来的历史不算）；everyone 为假时只要这些人的、这些账户的。
JOB_EVENTS_AFTER = sa.text(
    """
    SELECT e.event_id, e.job_id, e.restart_count, e.event_time, e.from_state, e.to_state, e.cause, e.actor, e.message,
      j.name, j.user_name, j.account, j.partition, j.qos, j.array_job_id, j.array_task_id, j.het_job_id,
      j.submit_time, j.start_time, j.end_time, j.suspended_s, j.time_limit, j.node_list, j.allocated_cpus,
      j.allocated_memory, j.exit_status, j.exit_signal, j.max_rss_kb, j.cpu_user_s, j.cpu_system_s,
      j.state AS state_now
    FROM job_events AS e JOIN jobs AS j USING (job_id)
    WHERE e.event_id > :after AND e.event_id <= :until AND e.from_state IS DISTINCT FROM e.to_state
      AND e.cause <> 'import'
      AND (:everyone OR j.user_name = ANY(CAST(:user_names AS text[])) OR j.account = ANY(CAST(:accounts AS text[])))
    ORDER BY e.event_id LIMIT :most
    """
)
# 集群的事。
CLUSTER_EVENTS_AFTER = sa.text(
    """
    SELECT event_id, created_at, event, subject, detail FROM cluster_events
    WHERE event_id > :after AND event_id <= :until ORDER BY event_id LIMIT :most
    """
)
# 领导者很久（silent_s 秒）没有续租，也没有别人接任：记下它不见了，一任一件。锁着它的行，接任的（触发器）不会也记。
NOTE_LOST_SCHEDULER = sa.text(
    """
    WITH gone AS (
      SELECT epoch, holder, renewed_at FROM scheduler_leader
      WHERE holder IS NOT NULL AND renewed_at < clock_timestamp() - make_interval(secs => :silent_s)
      FOR NO KEY UPDATE SKIP LOCKED
    )
    INSERT INTO cluster_events (event, subject, detail)
    SELECT 'scheduler.failed', holder, jsonb_build_object('epoch', epoch, 'last_seen', renewed_at) FROM gone
    WHERE NOT EXISTS (SELECT FROM cluster_events AS e WHERE e.subject = gone.holder AND e.event = 'scheduler.failed'
      AND e.detail @> jsonb_build_object('epoch', gone.epoch))
    """
)
# 还会有下一次、或刚刚结束的预留。
RESERVATIONS_NOW = sa.text("SELECT * FROM reservations WHERE end_time > :since OR cardinality(flags) > 0")
# 账户树。
ACCOUNT_PARENTS = sa.text("SELECT name, parent FROM accounts")
# 谁是哪个账户的协调人。
COORDINATORS = sa.text("SELECT user_name, account FROM account_coordinators")
# 定下要送的；积压满了的不记，数着。
ADD_DELIVERIES = sa.text(
    """
    WITH wanted AS (
      SELECT *, row_number() OVER (PARTITION BY webhook_id ORDER BY position) AS rank FROM unnest(
        CAST(:webhook_ids AS bigint[]), CAST(:events AS text[]), CAST(:payloads AS text[])
      ) WITH ORDINALITY AS w(webhook_id, event, payload, position)
    ), waiting AS (
      SELECT webhook_id, count(*) AS total FROM webhook_deliveries
      WHERE state = 'QUEUED' AND webhook_id = ANY(CAST(:webhook_ids AS bigint[])) GROUP BY webhook_id
    ), ranked AS (
      SELECT w.*, w.rank + coalesce(waiting.total, 0) > :most AS too_many
      FROM wanted AS w LEFT JOIN waiting USING (webhook_id)
      WHERE EXISTS (SELECT FROM webhooks WHERE webhooks.webhook_id = w.webhook_id)
    ), added AS (
      INSERT INTO webhook_deliveries (webhook_id, message_id, event, payload)
      SELECT webhook_id, 'msg_' || replace(CAST(gen_random_uuid() AS text), '-', ''), event, payload
      FROM ranked WHERE NOT too_many ORDER BY position
    )
    UPDATE webhooks AS w SET dropped = w.dropped + lost.total
    FROM (SELECT webhook_id, count(*) AS total FROM ranked WHERE too_many GROUP BY webhook_id) AS lost
    WHERE lost.webhook_id = w.webhook_id
    """
)
# 到时候的地址；租着，没有送完就死了的，租期过了别的再来。
TAKE_DUE_WEBHOOKS = sa.text(
    """
    UPDATE webhooks SET leased_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE webhook_id IN (
      SELECT webhook_id FROM webhooks AS w
      WHERE active AND coalesce(leased_until, '-infinity') <= clock_timestamp()
        AND coalesce(resume_at, '-infinity') <= clock_timestamp()
        AND EXISTS (SELECT FROM webhook_deliveries AS d WHERE d.webhook_id = w.webhook_id AND d.state = 'QUEUED'
          AND d.next_try_at <= clock_timestamp())
      FOR UPDATE SKIP LOCKED)
    RETURNING webhook_id, user_name
    """
)
# 接着送之前续租；停了、删了、还不到时候的没有这一行。
RENEW_WEBHOOK_LEASE = sa.text(
    """
    UPDATE webhooks SET leased_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE webhook_id = :webhook_id AND active AND coalesce(resume_at, '-infinity') <= clock_timestamp()
    RETURNING url, format, secret, failures
    """
)
# 送完了（或该等了）：下一次谁都可以。
RELEASE_WEBHOOK_LEASE = sa.text("UPDATE webhooks SET leased_until = NULL WHERE webhook_id = :webhook_id")
# 一个地址到时候的，从早到晚。
DUE_OF_WEBHOOK = sa.text(
    """
    SELECT delivery_id, message_id, event, payload, attempts,
      extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s
    FROM webhook_deliveries WHERE webhook_id = :webhook_id AND state = 'QUEUED' AND next_try_at <= clock_timestamp()
    ORDER BY delivery_id LIMIT :most
    """.replace("::", r"\:\:")
)
# 一次请求的结果（群里的一条消息说着几件）：没有 error 的送到了；retry_s 为负的不再试。
DELIVERED = sa.text(
    """
    UPDATE webhook_deliveries AS d SET
      attempts = attempts + 1, error = CAST(:error AS text), status_code = :status_code,
      state = CASE WHEN CAST(:error AS text) IS NULL THEN 'SENT' WHEN r.retry_s < 0 THEN 'DEAD' ELSE 'QUEUED' END,
      sent_at = CASE WHEN CAST(:error AS text) IS NULL THEN clock_timestamp() END,
      next_try_at = clock_timestamp() + make_interval(secs => greatest(r.retry_s, 0))
    FROM unnest(CAST(:delivery_ids AS bigint[]), CAST(:retries_s AS float8[])) AS r(delivery_id, retry_s)
    WHERE d.delivery_id = r.delivery_id
    """
)
# 这个地址接连几次没有送到，多久之后再试；active 为假是那边说再也不要了。
BACK_OFF = sa.text(
    """
    UPDATE webhooks SET failures = :failures, active = active AND :active,
      resume_at = CASE WHEN :wait_s > 0 THEN clock_timestamp() + make_interval(secs => :wait_s) END
    WHERE webhook_id = :webhook_id
    """
)
# 等了太久的，不再一件一件地试。
GIVE_UP = sa.text(
    """
    UPDATE webhook_deliveries SET state = 'DEAD', error = :error
    WHERE webhook_id = :webhook_id AND state = 'QUEUED'
      AND created_at < clock_timestamp() - make_interval(secs => :age_s)
    """
)
