"""优先级、公平份额。"""

from typing import Annotated, Any, TypedDict

from scns_conductor.core.answers.writing import PLAIN


class Priority(TypedDict):
    """一个排队的作业的优先级。"""

    job_id: Annotated[str, "作业号"]
    user_name: Annotated[str, "用户"]
    account: Annotated[str | None, "账户"]
    partition: Annotated[str, "分区"]
    priority: Annotated[int, "优先级，大者先"]
    factors: Annotated[dict[str, float], "各因子乘以权重之后的值；basic 时是空的"]


class Ranked(TypedDict):
    """排队的作业的优先级，从高到低。"""

    priorities: Annotated[list[Priority], "各个作业"]


class Priorities(Ranked):
    """排队的作业的优先级，从高到低。"""

    weights: Annotated[dict[str, Any], "各因子的权重"]
    priority_type: Annotated[str, "basic 或 multifactor"]


class Share(TypedDict):
    """一个用户在一个账户里的公平份额。"""

    account: Annotated[str, "账户"]
    user_name: Annotated[str, "用户"]
    shares: Annotated[int, "份额"]
    usage: Annotated[float, "衰减过的 CPU 数乘以时长（秒）"]
    factor: Annotated[float, "公平份额因子，0–1"]


class TreeAccount(TypedDict):
    """公平树里的一个账户；parent 为 None 的在根之下。"""

    name: str
    parent: str | None
    shares: int


class Shares(TypedDict):
    """公平份额；priority_type 为 basic 时是空的。"""

    shares: Annotated[list[Share], "各用户的"]
    accounts: Annotated[list[TreeAccount], "公平树里的账户，上级在前：{name, parent, shares}", PLAIN]
