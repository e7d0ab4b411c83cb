"""QOS：列出、新建、修改、删除。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.models import Qos
from scns_conductor.statements.conditions import LIVE

# 全部 QOS，或叫 :name 的。
LIST_QOS = sa.text("SELECT * FROM qos WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name")
# 全部 QOS 的名字。
QOS_NAMES = sa.text("SELECT name FROM qos")
# 用着它的没有结束的最小的作业号；没有是 NULL。
FIRST_LIVE_JOB_OF_QOS = sa.text(f"SELECT min(job_id) FROM jobs WHERE state IN {LIVE} AND qos = :name")
# 关联里许用它的，去掉（slurmdbd 也是）。
FORGET_IN_ASSOCIATIONS = sa.text("UPDATE associations SET qos = array_remove(qos, :name) WHERE :name = ANY(qos)")
# 别的 QOS 里能抢占它的，去掉。
FORGET_IN_PREEMPT = sa.text("UPDATE qos SET preempt = array_remove(preempt, :name) WHERE :name = ANY(preempt)")


def qos_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个 QOS。"""
    return sa.insert(Qos).values(**values)


def qos_lock(name: str) -> sa.Select[Any]:
    """一个 QOS 的行，加锁。"""
    return sa.select(Qos).where(sa.column("name") == name).with_for_update()


def qos_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个 QOS。"""
    return sa.update(Qos).where(sa.column("name") == name).values(**values)


def qos_delete(name: str) -> sa.Delete:
    """删除一个 QOS。"""
    return sa.delete(Qos).where(sa.column("name") == name)
