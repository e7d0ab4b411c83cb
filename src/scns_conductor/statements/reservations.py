"""预留：列出、新建、修改、删除。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.recurrence import RECURRING
from scns_conductor.core.reservation_flags import FLOAT, NO_HOLD
from scns_conductor.statements.conditions import LIVE

# reservations 的条件：没有结束的；重复的、TIME_FLOAT 的没有结束。
RESERVATION_LIVES = (
    f"(end_time > clock_timestamp() OR flags && CAST(ARRAY[{', '.join(map(repr, RECURRING))}] AS text[])"
    f" OR EXISTS (SELECT FROM unnest(flags) AS f(flag) WHERE flag LIKE '{FLOAT}=%'))"
)
# 全部预留，或叫 :name 的，连同数据库的此刻。
LIST_RESERVATIONS = sa.text(
    "SELECT *, clock_timestamp() AS now FROM reservations WHERE CAST(:name AS text) IS NULL OR name = :name "
    "ORDER BY start_time, name"
)
# 没有结束的预留里提交要看的：许谁用，哪个分区。
RESERVATION_ACCESS = sa.text(
    f"SELECT name, users, accounts, partition, groups FROM reservations WHERE {RESERVATION_LIVES}"
)
# 改预留的一个一个来：重叠要看全部的行；不挡读。
LOCK_RESERVATIONS = sa.text("LOCK TABLE reservations IN SHARE ROW EXCLUSIVE MODE")
# 到预留开始时还可能在这些节点上的作业，不算在这个预留里的；不限时的总算。没有是 NULL。
FIRST_JOB_IN_THE_WAY = sa.text(
    """
    SELECT min(j.job_id) FROM resource_allocations AS a JOIN jobs AS j USING (job_id)
    WHERE a.released_at IS NULL AND a.node_name = ANY(CAST(:nodes AS text[]))
      AND :name <> ALL(string_to_array(coalesce(j.reservation, ''), ','))
      AND (j.time_limit IS NULL OR j.start_time + make_interval(secs => j.time_limit) > :start_time)
    """
)
# 到预留开始时还可能占着这些节点的 CPU（按核留的看它），不算在这个预留里的；不限时的总算。
CPUS_IN_THE_WAY = sa.text(
    """
    SELECT a.node_name, CAST(sum(a.cpus + a.lent_cpus) AS integer) AS cpus
    FROM resource_allocations AS a JOIN jobs AS j USING (job_id)
    WHERE a.released_at IS NULL AND :name <> ALL(string_to_array(coalesce(j.reservation, ''), ','))
      AND (j.time_limit IS NULL OR j.start_time + make_interval(secs => j.time_limit) > :start_time)
    GROUP BY a.node_name
    """
)
# 预留改了：计划时看到的是从前的那些启动从此不成立。到事务结束，启动都等着它：所以放在核对之前。
ADVANCE_VERSION = sa.text("UPDATE reservation_version SET version = version + 1")
# 启动等着的事务不许闲着。
DO_NOT_IDLE = sa.text("SET LOCAL idle_in_transaction_session_timeout = '5s'")
# 预留改过几次。
CURRENT_VERSION = sa.text("SELECT version FROM reservation_version")
_NAMES_IT = "string_to_array(reservation, ',') @> ARRAY[CAST(:name AS text)]"
# 指名要用它的没有结束的作业数。
COUNT_JOBS_IN_RESERVATION = sa.text(f"SELECT count(*) FROM jobs WHERE state IN {LIVE} AND {_NAMES_IT}")
# 没有结束的预留写明的节点。
RESERVED_NODES = sa.text(f"SELECT name, nodes FROM reservations WHERE nodes NOT IN ('', 'ALL') AND {RESERVATION_LIVES}")

# 有作业（在跑的、排队指名的）的预留。
RESERVATIONS_USED = sa.text(
    f"SELECT DISTINCT unnest(string_to_array(reservation, ',')) FROM jobs WHERE state IN {LIVE} AND reservation <> ''"
)
# 结束了、写了 NO_HOLD_JOBS_AFTER 的。
LETTING_GO = sa.text(
    f"SELECT name FROM reservations WHERE '{NO_HOLD}' = ANY(flags) AND NOT {RESERVATION_LIVES} ORDER BY name"
)
# 指名 :name 的排队的作业不再等它；别人锁着的下次再说（返回的不算它们）。
LET_GO = sa.text(
    f"""
    UPDATE jobs SET reservation = nullif(array_to_string(
        array_remove(string_to_array(reservation, ','), CAST(:name AS text)), ','), ''), revision = revision + 1
    WHERE job_id IN (SELECT job_id FROM jobs WHERE state = 'PENDING' AND {_NAMES_IT} FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING job_id
    """
)


def reservation_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个预留。"""
    # 只有 API 写预留：导入这里的调度器不必有模型。
    from scns_conductor.core.models import Reservation

    return sa.insert(Reservation).values(**values)


def reservation_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个预留。"""
    from scns_conductor.core.models import Reservation

    return sa.update(Reservation).where(sa.column("name") == name).values(**values)


def reservation_delete(name: str) -> sa.Delete:
    """删除一个预留。"""
    from scns_conductor.core.models import Reservation

    return sa.delete(Reservation).where(sa.column("name") == name)
