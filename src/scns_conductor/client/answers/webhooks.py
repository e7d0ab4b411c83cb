"""webhook。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from scns_conductor.client.answer import Answer, Convert, instant


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class NewWebhook(Answer):
    """一个订阅。"""

    webhook_id: int
    """编号"""
    user_name: str
    """谁定的"""
    scope: str
    """user 自己的作业，account 一个账户（连同下级）的作业，cluster 整个集群"""
    account: str | None
    """scope 是 account 时，哪个账户"""
    url: str
    """往哪里说；知道它就能往那里说话，所以只给本人与管理员看"""
    format: str
    """json 一件一个请求；slack、feishu、dingtalk、wecom 是群里的一条消息"""
    events: tuple[str, ...]
    """哪些事，照写的样子，如 job.ended、node.*"""
    active: bool
    """假的是停着，停着时的事不补"""
    failures: int
    """接连几次没有送到"""
    resume_at: datetime | None
    """在这之前不再试"""
    dropped: int
    """积压太多而没有记下的事有几件"""
    created_at: datetime
    """何时定下"""
    queued: int
    """等着送的有几件"""
    secret: str | None
    """签名的密钥，只在这里看得到"""

    _convert: ClassVar[Mapping[str, Convert]] = {"events": tuple, "resume_at": instant, "created_at": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Webhook(Answer):
    """一个订阅。"""

    webhook_id: int
    """编号"""
    user_name: str
    """谁定的"""
    scope: str
    """user 自己的作业，account 一个账户（连同下级）的作业，cluster 整个集群"""
    account: str | None
    """scope 是 account 时，哪个账户"""
    url: str
    """往哪里说；知道它就能往那里说话，所以只给本人与管理员看"""
    format: str
    """json 一件一个请求；slack、feishu、dingtalk、wecom 是群里的一条消息"""
    events: tuple[str, ...]
    """哪些事，照写的样子，如 job.ended、node.*"""
    active: bool
    """假的是停着，停着时的事不补"""
    failures: int
    """接连几次没有送到"""
    resume_at: datetime | None
    """在这之前不再试"""
    dropped: int
    """积压太多而没有记下的事有几件"""
    created_at: datetime
    """何时定下"""
    queued: int
    """等着送的有几件"""

    _convert: ClassVar[Mapping[str, Convert]] = {"events": tuple, "resume_at": instant, "created_at": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class WebhookDelivery(Answer):
    """要往一个地址说的一件事。"""

    delivery_id: int
    """编号，越晚越大"""
    webhook_id: int
    """哪个订阅"""
    message_id: str
    """请求的 webhook-id：重试、重送都是同一个，收的一方照它认出重的"""
    event: str
    """什么事"""
    payload: str
    """请求体：定下时写好，重试时不变"""
    state: str
    """QUEUED 等着送，SENT 送到了，DEAD 不再试"""
    attempts: int
    """试过几次"""
    status_code: int | None
    """最近一次那边答的 HTTP 状态码"""
    error: str | None
    """最近一次为什么没有送到"""
    created_at: datetime
    """何时定下"""
    next_try_at: datetime
    """下一次何时试"""
    sent_at: datetime | None
    """何时送到"""
    user_name: str
    """谁的"""

    _convert: ClassVar[Mapping[str, Convert]] = {"created_at": instant, "next_try_at": instant, "sent_at": instant}
