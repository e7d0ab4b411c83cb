"""账户、用户与关联：列出、新建、修改、删除。"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.models import Account, Association, User
from scns_conductor.statements.conditions import LIVE

# 全部账户，或叫 :name 的，连同协调人。
LIST_ACCOUNTS = sa.text(
    "SELECT *, ARRAY(SELECT user_name FROM account_coordinators WHERE account = accounts.name ORDER BY user_name) "
    "AS coordinators FROM accounts WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name"
)
# 全部有关联的用户，或叫 :name 的，连同作协调人的账户。
LIST_USERS = sa.text(
    "SELECT *, ARRAY(SELECT account FROM account_coordinators WHERE user_name = users.name ORDER BY account) "
    "AS coordinates FROM users WHERE CAST(:name AS text) IS NULL OR name = :name ORDER BY name"
)
# 让用户作账户的协调人；已经是的不变。
COORDINATOR_INSERT = sa.text(
    "INSERT INTO account_coordinators (account, user_name) VALUES (:account, :user) ON CONFLICT DO NOTHING"
)
# 不再是协调人。
COORDINATOR_DELETE = sa.text("DELETE FROM account_coordinators WHERE account = :account AND user_name = :user")
# 关联，可以只要一个账户、一个用户的；:user 是空文字时只要账户自己的。
LIST_ASSOCIATIONS = sa.text(
    "SELECT * FROM associations WHERE (CAST(:account AS text) IS NULL OR account = :account) "
    "AND (CAST(:user AS text) IS NULL OR user_name = :user) ORDER BY account, user_name, partition"
)
# 这些账户里（这个用户的）没有结束的最小的作业号；没有是 NULL。
FIRST_LIVE_JOB_OF_ACCOUNTS = sa.text(
    f"SELECT min(job_id) FROM jobs WHERE state IN {LIVE} "
    "AND account = ANY(CAST(:accounts AS text[])) AND (CAST(:user AS text) IS NULL OR user_name = :user)"
)
# 账户连同它的各级下级。
ACCOUNT_SUBTREE = sa.text(
    "WITH RECURSIVE below AS (SELECT name FROM accounts WHERE name = :name "
    "UNION SELECT a.name FROM accounts AS a JOIN below ON a.parent = below.name) SELECT name FROM below"
)
# 改账户树的一个一个来；不挡读。
LOCK_ACCOUNTS = sa.text("LOCK TABLE accounts, associations, users IN SHARE ROW EXCLUSIVE MODE")
# 缺省账户没有了的用户，改用最早的另一个关联的。
ADOPT_DEFAULT_ACCOUNTS = sa.text(
    """
    UPDATE users AS u SET default_account = (
      SELECT account FROM associations AS a WHERE a.user_name = u.name ORDER BY association_id LIMIT 1)
    WHERE NOT EXISTS (SELECT FROM associations AS a WHERE a.user_name = u.name AND a.account = u.default_account)
    """
)
# 一个关联也没有的用户不再登记；返回他们。
DELETE_ORPHANS = sa.text(
    "DELETE FROM users AS u WHERE NOT EXISTS (SELECT FROM associations AS a WHERE a.user_name = u.name) RETURNING name"
)
# 登记用户；还没有缺省账户的，这个就是。
REGISTER_USER = sa.text(
    "INSERT INTO users (name, default_account) VALUES (:user, :account) ON CONFLICT (name) DO UPDATE "
    "SET default_account = coalesce(users.default_account, excluded.default_account)"
)


# 一个关联的各列与它们没有写时的值；号由数据库给。
ASSOCIATION_DEFAULTS = {
    name: field.get_default(call_default_factory=True)
    for name, field in Association.model_fields.items()
    if name not in ("association_id", "account")
}
# 新建许多关联：每组参数是 account 与 ASSOCIATION_DEFAULTS 的各列。
INSERT_ASSOCIATIONS = sa.insert(Association).values(
    {name: sa.bindparam(name) for name in ("account", *ASSOCIATION_DEFAULTS)}
)


def account_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个账户。"""
    return sa.insert(Account).values(**values)


def account_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个账户自己的列（上级、说明、单位）。"""
    return sa.update(Account).where(sa.column("name") == name).values(**values)


def accounts_delete(names: Sequence[str]) -> sa.Delete:
    """删除这些账户；其中的关联由外键一并删除。"""
    return sa.delete(Account).where(sa.column("name").in_(names))


def user_update(name: str, values: Mapping[str, Any]) -> sa.Update:
    """改一个用户的管理级别、缺省账户。"""
    return sa.update(User).where(sa.column("name") == name).values(**values)


def association_insert(values: Mapping[str, Any]) -> sa.Insert:
    """新建一个关联。"""
    return sa.insert(Association).values(**values)


def association_lock(association_id: int) -> sa.Select[Any]:
    """一个关联的行，加锁。"""
    return sa.select(Association).where(sa.column("association_id") == association_id).with_for_update()


def association_update(association_id: int, values: Mapping[str, Any]) -> sa.Update:
    """改一个关联的份额、QOS 与上限。"""
    return sa.update(Association).where(sa.column("association_id") == association_id).values(**values)


def association_delete(association_id: int) -> sa.Delete:
    """删除一个关联。"""
    return sa.delete(Association).where(sa.column("association_id") == association_id)


def associations_of_user_delete(user_name: str) -> sa.Delete:
    """删除一个用户的全部关联。"""
    return sa.delete(Association).where(sa.column("user_name") == user_name)
