"""账户、用户、关联、QOS、优先级、公平份额。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from scns_conductor.client.answer import Answer, Convert, many_of


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Account(Answer):
    """账户；除了 root 都有上级。它自己的份额与上限写在 user_name 为空的关联里。"""

    name: str
    """名字"""
    parent: str | None
    """上级；root 没有"""
    description: str
    """说明"""
    organization: str
    """单位"""
    coordinators: tuple[str, ...]
    """协调人"""

    _convert: ClassVar[Mapping[str, Convert]] = {"coordinators": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class User(Answer):
    """有关联的用户。admin_level：Administrator 等于持有管理员令牌，Operator 管记账、预留与别人的作业，Auditor 只看。"""

    name: str
    """用户名"""
    admin_level: str
    """None、Operator、Administrator、Auditor"""
    default_account: str | None
    """没有写账户的作业算在哪个账户里"""
    coordinates: tuple[str, ...]
    """作协调人的账户"""

    _convert: ClassVar[Mapping[str, Convert]] = {"coordinates": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Association(Answer):
    """关联：用户在一个账户（的一个分区）里；user_name 为空的是账户自己的，它的上限由子账户与用户继承。"""

    grp_tres: Mapping[str, int]
    """同时占用的总量"""
    grp_tres_mins: Mapping[str, int]
    """累计用量（分钟），按半衰期衰减"""
    grp_tres_run_mins: Mapping[str, int]
    """运行中的作业剩余的用量（分钟）"""
    grp_jobs: int | None
    """同时运行的作业数"""
    grp_submit_jobs: int | None
    """排队与运行的作业数"""
    grp_wall: int | None
    """累计的运行时长（秒），按半衰期衰减"""
    max_tres_per_job: Mapping[str, int]
    """每个作业的总量"""
    max_tres_per_node: Mapping[str, int]
    """每个作业在一个节点上的量"""
    max_tres_mins_per_job: Mapping[str, int]
    """每个作业的量乘以时限（分钟）"""
    max_wall: int | None
    """每个作业的时限（秒）"""
    association_id: int
    """关联的号"""
    account: str
    """账户"""
    user_name: str
    """用户；空的是账户自己的"""
    partition: str
    """分区；空的是全部"""
    shares: int
    """公平份额"""
    priority: int | None
    """多因子优先级里的关联因子；空的由上级继承"""
    default_qos: str | None
    """没有写 QOS 的作业用哪个；空的由上级继承"""
    qos: tuple[str, ...] | None
    """许用的 QOS；空的由上级继承"""
    max_jobs: int | None
    """每个用户同时运行的作业数；空的由上级继承"""
    max_submit_jobs: int | None
    """每个用户排队与运行的作业数；空的由上级继承"""
    comment: str | None
    """备注"""
    parent_account: str | None
    """上级账户"""
    effective: Mapping[str, Any]
    """补上继承之后真正生效的"""

    _convert: ClassVar[Mapping[str, Convert]] = {"qos": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Qos(Answer):
    """服务质量。它写了的上限盖过关联的同一种。"""

    grp_tres: Mapping[str, int]
    """同时占用的总量"""
    grp_tres_mins: Mapping[str, int]
    """累计用量（分钟），按半衰期衰减"""
    grp_tres_run_mins: Mapping[str, int]
    """运行中的作业剩余的用量（分钟）"""
    grp_jobs: int | None
    """同时运行的作业数"""
    grp_submit_jobs: int | None
    """排队与运行的作业数"""
    grp_wall: int | None
    """累计的运行时长（秒），按半衰期衰减"""
    max_tres_per_job: Mapping[str, int]
    """每个作业的总量"""
    max_tres_per_node: Mapping[str, int]
    """每个作业在一个节点上的量"""
    max_tres_mins_per_job: Mapping[str, int]
    """每个作业的量乘以时限（分钟）"""
    max_wall: int | None
    """每个作业的时限（秒）"""
    name: str
    """名字"""
    description: str
    """说明"""
    priority: int
    """多因子优先级里的 QOS 因子"""
    flags: tuple[str, ...]
    """DenyOnLimit、NoDecay、RequiresReservation"""
    preempt: tuple[str, ...]
    """能抢占哪些 QOS 的作业"""
    preempt_mode: str | None
    """被抢占时怎么办：requeue、cancel、suspend、off，加 within 是同一个 QOS 里也抢占；空表示按全局设置"""
    preempt_exempt_time: int | None
    """运行满多久才许被抢占（秒）"""
    grace_time: int
    """被抢占时的宽限（秒）"""
    usage_factor: float
    """用量按几倍计"""
    max_tres_per_user: Mapping[str, int]
    """每个用户同时占用的总量"""
    max_jobs_per_user: int | None
    """每个用户同时运行的作业数"""
    max_submit_jobs_per_user: int | None
    """每个用户排队与运行的作业数"""
    max_tres_per_account: Mapping[str, int]
    """每个账户同时占用的总量"""
    max_jobs_per_account: int | None
    """每个账户同时运行的作业数"""
    max_submit_jobs_per_account: int | None
    """每个账户排队与运行的作业数"""
    min_tres_per_job: Mapping[str, int]
    """每个作业至少要多少"""

    _convert: ClassVar[Mapping[str, Convert]] = {"flags": tuple, "preempt": tuple}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Priority(Answer):
    """一个排队的作业的优先级。"""

    job_id: str
    """作业号"""
    user_name: str
    """用户"""
    account: str | None
    """账户"""
    partition: str
    """分区"""
    priority: int
    """优先级，大者先"""
    factors: Mapping[str, float]
    """各因子乘以权重之后的值；basic 时是空的"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Priorities(Answer):
    """排队的作业的优先级，从高到低。"""

    priorities: tuple[Priority, ...]
    """各个作业"""
    weights: Mapping[str, Any]
    """各因子的权重"""
    priority_type: str
    """basic 或 multifactor"""

    _convert: ClassVar[Mapping[str, Convert]] = {"priorities": many_of(Priority)}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Share(Answer):
    """一个用户在一个账户里的公平份额。"""

    account: str
    """账户"""
    user_name: str
    """用户"""
    shares: int
    """份额"""
    usage: float
    """衰减过的 CPU 数乘以时长（秒）"""
    factor: float
    """公平份额因子，0–1"""


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Shares(Answer):
    """公平份额；priority_type 为 basic 时是空的。"""

    shares: tuple[Share, ...]
    """各用户的"""
    accounts: tuple[Mapping[str, Any], ...]
    """公平树里的账户，上级在前：{name, parent, shares}"""

    _convert: ClassVar[Mapping[str, Convert]] = {"shares": many_of(Share), "accounts": tuple}
