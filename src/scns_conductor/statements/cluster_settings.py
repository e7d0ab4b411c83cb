"""运行时改过的设置；一次只有一个 scns apply。"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

# 一个一个来：后来的等前一个的事务结束，看到的是它改过之后的。
LOCK_APPLY = sa.text("SELECT pg_advisory_xact_lock(7236303)")
# 全部改过的设置。
SELECT_SETTINGS = sa.text("SELECT name, value FROM cluster_settings ORDER BY name")
# 同上，连同谁、何时改的。
SELECT_SETTINGS_WITH_AUTHORS = sa.text("SELECT name, value, changed_by, changed_at FROM cluster_settings ORDER BY name")
# 写下一项。
PUT_SETTING = sa.text(
    "INSERT INTO cluster_settings (name, value, changed_by) VALUES (:name, :value, :user) ON CONFLICT (name) "
    "DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by, changed_at = clock_timestamp()"
).bindparams(sa.bindparam("value", type_=JSONB))
# 又照环境变量与设置文件。
DELETE_SETTING = sa.text("DELETE FROM cluster_settings WHERE name = :name")
