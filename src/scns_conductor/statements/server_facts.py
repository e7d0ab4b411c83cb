"""数据库服务器此刻的样子：版本、只读与否、与耐久有关的设置、通知的队列。"""

import sqlalchemy as sa

# 数据库的现在。
DATABASE_NOW = sa.text("SELECT clock_timestamp()")
# instance：同一台服务器的同一次启动里的同一个数据库，别的都不同；用来认出一个 API 是不是连着这个库。
SERVER_FACTS = sa.text(
    """
    SELECT current_setting('server_version') AS version,
      CAST(current_setting('server_version_num') AS integer) / 10000 AS major,
      pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS read_only,
      current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
      current_setting('autovacuum') AS autovacuum, current_setting('track_counts') AS track_counts,
      current_setting('shared_buffers') AS shared_buffers,
      pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers_bytes,
      CAST(current_setting('max_connections') AS integer) AS max_connections,
      pg_notification_queue_usage() AS notify_usage,
      left(md5(CAST(pg_postmaster_start_time() AS text) || CAST(oid AS text)), 12) AS instance
    FROM pg_database WHERE datname = current_database()
    """
)
