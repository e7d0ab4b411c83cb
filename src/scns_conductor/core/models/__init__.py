"""全部数据表。一个 SQLModel 类既是表，也是 Pydantic 模型；每个字段的类型、缺省值、含义与单位只写在这里。

时间一律 timestamptz，需要比较的都取数据库的时钟；单位写在 description 的括号里。
字段名沿用 Slurm（slurmrestd 的 job_desc_msg 与 job_info）。
"""

import sqlalchemy as sa
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from scns_conductor.core.models.accounting import Account, Association, LimitColumns, Qos, User
from scns_conductor.core.models.cluster_setting import ClusterSetting
from scns_conductor.core.models.columns import MAX_NAME_LENGTH, UNITS, unit_of
from scns_conductor.core.models.device_login import DeviceLogin
from scns_conductor.core.models.identity import AccessToken, AuditEntry, Coordinator, RevokedUser
from scns_conductor.core.models.job import FIXED_AT_SUBMIT, Job, JobSpec
from scns_conductor.core.models.job_record import (
    ALLOCATION_COLUMNS,
    EVENT_COLUMNS,
    JobEvent,
    JobOutput,
    ResourceAllocation,
)
from scns_conductor.core.models.job_samples import JobSamples
from scns_conductor.core.models.leadership import SchedulerLeader, SystemIncarnation
from scns_conductor.core.models.messages import IdempotencyKey, RequestAnswer, SchedulerInbox
from scns_conductor.core.models.node import Node
from scns_conductor.core.models.notification import JobNotice, Notification, NotificationState
from scns_conductor.core.models.partition import DEFAULT_PARTITION, Partition
from scns_conductor.core.models.reservation import Reservation, ReservationVersion
from scns_conductor.core.models.retention import RetentionPolicy
from scns_conductor.core.models.standing import CronEntry, Crontab, Trigger
from scns_conductor.core.models.step import JobStep
from scns_conductor.core.models.usage import UsageBackfill, UsageDue, UsageRollup
from scns_conductor.core.models.webhook import (
    ClusterEvent,
    Webhook,
    WebhookCursor,
    WebhookDelivery,
    WebhookFormat,
    WebhookScope,
)

__all__ = [
    "ALLOCATION_COLUMNS",
    "DEFAULT_PARTITION",
    "EVENT_COLUMNS",
    "FIXED_AT_SUBMIT",
    "MAX_NAME_LENGTH",
    "UNITS",
    "AccessToken",
    "Account",
    "Association",
    "AuditEntry",
    "ClusterEvent",
    "ClusterSetting",
    "Coordinator",
    "CronEntry",
    "Crontab",
    "DeviceLogin",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "JobNotice",
    "JobOutput",
    "JobSamples",
    "JobSpec",
    "JobStep",
    "LimitColumns",
    "Node",
    "Notification",
    "NotificationState",
    "Partition",
    "Qos",
    "RequestAnswer",
    "Reservation",
    "ReservationVersion",
    "ResourceAllocation",
    "RetentionPolicy",
    "RevokedUser",
    "SchedulerInbox",
    "SchedulerLeader",
    "SystemIncarnation",
    "Trigger",
    "UsageBackfill",
    "UsageDue",
    "UsageRollup",
    "User",
    "Webhook",
    "WebhookCursor",
    "WebhookDelivery",
    "WebhookFormat",
    "WebhookScope",
    "metadata",
    "unit_of",
]

metadata = SQLModel.metadata
# PostgreSQL 里 text 与 varchar(n) 一样快；长度由模型与 API 校验，不放进列类型。
for _table in metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, AutoString):
            _column.type = sa.Text()
        elif type(_column.type) is sa.Float:
            # 迁移里写的、PostgreSQL 报的名字。
            _column.type = sa.Double()
