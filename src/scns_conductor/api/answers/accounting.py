"""账户、用户、关联、QOS、优先级、公平份额。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of, row_of
from scns_conductor.core.models import Account, Association, Qos, User

ACCOUNT = row_of(Account, "Account", added={"coordinators": field(list[str], "协调人")})
ACCOUNTS = page_of("Accounts", "accounts", ACCOUNT, "全部账户")
USER = row_of(User, "User", added={"coordinates": field(list[str], "作协调人的账户")})
USERS = page_of("Users", "users", USER, "有关联的用户")
ASSOCIATION = row_of(
    Association,
    "Association",
    added={
        "parent_account": field(str | None, "上级账户"),
        "effective": field(dict[str, Any], "补上继承之后真正生效的"),
    },
)
ASSOCIATIONS = page_of("Associations", "associations", ASSOCIATION, "关联")
QOS = row_of(Qos, "Qos")
QOS_PAGE = page_of("QosPage", "qos", QOS, "全部 QOS")
PRIORITY = answer(
    "Priority",
    "一个排队的作业的优先级。",
    {
        "job_id": field(str, "作业号"),
        "user_name": field(str, "用户"),
        "account": field(str | None, "账户"),
        "partition": field(str, "分区"),
        "priority": field(int, "优先级，大者先"),
        "factors": field(dict[str, float], "各因子乘以权重之后的值；basic 时是空的"),
    },
)
PRIORITIES = answer(
    "Priorities",
    "排队的作业的优先级，从高到低。",
    {
        "priorities": field(list[PRIORITY], "各个作业"),  # type: ignore[valid-type]
        "weights": field(dict[str, Any], "各因子的权重"),
        "priority_type": field(str, "basic 或 multifactor"),
    },
)
SHARE = answer(
    "Share",
    "一个用户在一个账户里的公平份额。",
    {
        "account": field(str, "账户"),
        "user_name": field(str, "用户"),
        "shares": field(int, "份额"),
        "usage": field(float, "衰减过的 CPU 数乘以时长（秒）"),
        "factor": field(float, "公平份额因子，0–1"),
    },
)
SHARES = answer(
    "Shares",
    "公平份额；priority_type 为 basic 时是空的。",
    {
        "shares": field(list[SHARE], "各用户的"),  # type: ignore[valid-type]
        "accounts": field(list[dict[str, Any]], "公平树里的账户，上级在前：{name, parent, shares}"),
    },
)

AccountAnswer = Annotated[dict[str, Any], Shown(ACCOUNT)]
AccountsAnswer = Annotated[dict[str, Any], Shown(ACCOUNTS)]
UserAnswer = Annotated[dict[str, Any], Shown(USER)]
UsersAnswer = Annotated[dict[str, Any], Shown(USERS)]
AssociationAnswer = Annotated[dict[str, Any], Shown(ASSOCIATION)]
AssociationsAnswer = Annotated[dict[str, Any], Shown(ASSOCIATIONS)]
QosAnswer = Annotated[dict[str, Any], Shown(QOS)]
QosListAnswer = Annotated[dict[str, Any], Shown(QOS_PAGE)]
PrioritiesAnswer = Annotated[dict[str, Any], Shown(PRIORITIES)]
SharesAnswer = Annotated[dict[str, Any], Shown(SHARES)]
