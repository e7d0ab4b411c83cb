"""记账、优先级的端点。"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scns_conductor.client.cluster_calls import nothing
from scns_conductor.client.request import Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import Account, Association, Priorities, Qos, Share, Shares, User


class AccountingCalls:
    """账户、用户、关联、QOS、优先级、公平份额。字段见 docs/accounting.md。"""

    @many
    def accounts(self) -> "Request[Account]":
        """全部账户。"""
        return Request("GET", "/accounts", within="accounts")

    @one
    def create_account(self, account: Mapping[str, Any]) -> "Request[Account]":
        """新建账户（管理员、Operator）。"""
        return Request("POST", "/accounts", body=dict(account))

    @one
    def update_account(self, name: str, changes: Mapping[str, Any]) -> "Request[Account]":
        """修改账户。"""
        return Request("PATCH", f"/accounts/{segment(name)}", body=dict(changes))

    @plain
    def delete_account(self, name: str) -> "Request[list[str]]":
        """删除账户与它的下级；返回删掉的。"""
        return Request("DELETE", f"/accounts/{segment(name)}", read=lambda answer: list(answer.json()["deleted"]))

    @plain
    def add_coordinator(self, account: str, user: str) -> "Request[None]":
        """让用户作账户的协调人。"""
        return Request("PUT", f"/accounts/{segment(account)}/coordinators/{segment(user)}", read=nothing)

    @plain
    def remove_coordinator(self, account: str, user: str) -> "Request[None]":
        """不再是协调人。"""
        return Request("DELETE", f"/accounts/{segment(account)}/coordinators/{segment(user)}", read=nothing)

    @many
    def users(self) -> "Request[User]":
        """有关联的用户。"""
        return Request("GET", "/users", within="users")

    @one
    def update_user(self, name: str, changes: Mapping[str, Any]) -> "Request[User]":
        """改管理级别与缺省账户。"""
        return Request("PATCH", f"/users/{segment(name)}", body=dict(changes))

    @plain
    def delete_user(self, name: str) -> "Request[None]":
        """删除用户的全部关联。"""
        return Request("DELETE", f"/users/{segment(name)}", read=nothing)

    @many
    def associations(self, account: str | None = None, user: str | None = None) -> "Request[Association]":
        """关联；user 为空文字只要账户自己的。"""
        return Request("GET", "/associations", query={"account": account, "user": user}, within="associations")

    @one
    def create_association(self, association: Mapping[str, Any]) -> "Request[Association]":
        """把用户加进账户。"""
        return Request("POST", "/associations", body=dict(association))

    @one
    def update_association(self, association_id: int, changes: Mapping[str, Any]) -> "Request[Association]":
        """改份额、QOS 与上限。"""
        return Request("PATCH", f"/associations/{association_id}", body=dict(changes))

    @plain
    def delete_association(self, association_id: int) -> "Request[None]":
        """把用户移出账户。"""
        return Request("DELETE", f"/associations/{association_id}", read=nothing)

    @many
    def qos(self) -> "Request[Qos]":
        """全部 QOS。"""
        return Request("GET", "/qos", within="qos")

    @one
    def create_qos(self, qos: Mapping[str, Any]) -> "Request[Qos]":
        """新建 QOS。"""
        return Request("POST", "/qos", body=dict(qos))

    @one
    def update_qos(self, name: str, changes: Mapping[str, Any]) -> "Request[Qos]":
        """修改 QOS。"""
        return Request("PATCH", f"/qos/{segment(name)}", body=dict(changes))

    @plain
    def delete_qos(self, name: str) -> "Request[None]":
        """删除 QOS。"""
        return Request("DELETE", f"/qos/{segment(name)}", read=nothing)

    @one
    def priorities(self, job_ids: Sequence[str] | None = None) -> "Request[Priorities]":
        """排队的作业的优先级与各因子。"""
        return Request("GET", "/priorities", query={} if job_ids is None else {"job_id": ",".join(job_ids)})

    @many
    def shares(self) -> "Request[Share]":
        """公平份额，各用户的。"""
        return Request("GET", "/shares", within="shares")

    @one
    def share_tree(self) -> "Request[Shares]":
        """公平份额与账户树。"""
        return Request("GET", "/shares")
