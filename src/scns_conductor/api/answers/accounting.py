"""账户、用户、关联、QOS、优先级、公平份额。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, described, field, page_of, row_of
from scns_conductor.core.answers.accounting import Priorities, Priority, Share, Shares
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
PRIORITY = described(Priority)
PRIORITIES = described(Priorities)
SHARE = described(Share)
SHARES = described(Shares)
AccountAnswer = Annotated[dict[str, Any], Shown(ACCOUNT)]
AccountsAnswer = Annotated[dict[str, Any], Shown(ACCOUNTS)]
UserAnswer = Annotated[dict[str, Any], Shown(USER)]
UsersAnswer = Annotated[dict[str, Any], Shown(USERS)]
AssociationAnswer = Annotated[dict[str, Any], Shown(ASSOCIATION)]
AssociationsAnswer = Annotated[dict[str, Any], Shown(ASSOCIATIONS)]
QosAnswer = Annotated[dict[str, Any], Shown(QOS)]
QosListAnswer = Annotated[dict[str, Any], Shown(QOS_PAGE)]
PrioritiesAnswer = Annotated[Priorities, Shown(PRIORITIES)]
SharesAnswer = Annotated[Shares, Shown(SHARES)]
