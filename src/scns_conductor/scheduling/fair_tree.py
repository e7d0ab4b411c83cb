"""公平树（Slurm 的 fair_tree）：账户树上按份额与用量的比排出用户的名次，得出 0 到 1 的公平份额因子。

规则见 Slurm 文档 fair_tree：LF = S / U（同胞之间归一化），没有用量是无穷；按 LF 从大到小深度优先；
LF 相同的账户合并子女一起排；与账户同 LF 的用户取那个账户里最好的用户的名次。
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """一个关联（用户在某账户里）；usage 是衰减过的用量，单位任意但全树一致。"""

    name: str
    account: str
    shares: int = 1
    usage: float = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """账户；parent 为 None 的在根之下。用量是子树之和，不必给。"""

    name: str
    parent: str | None = None
    shares: int = 1


def fair_share(accounts: Sequence[Account], users: Sequence[User]) -> dict[tuple[str, str], float]:
    """(账户, 用户) -> 因子，最好的是 1，最差的是 1/人数。上级不存在或成环抛 ValueError（中文原因）。"""
    tree = _Tree(accounts, users)
    order: list[list[User]] = []
    tree.visit([None], order)
    factors: dict[tuple[str, str], float] = {}
    rank = len(users)
    for tied in order:
        for user in tied:
            factors[user.account, user.name] = rank / len(users)
        rank -= len(tied)
    return factors


class _Tree:
    def __init__(self, accounts: Sequence[Account], users: Sequence[User]) -> None:
        known = {account.name: account for account in accounts}
        self.children: dict[str | None, list[Account | User]] = {None: [], **{name: [] for name in known}}
        self.usage: dict[str | None, float] = dict.fromkeys(self.children, 0.0)
        for account in accounts:
            if account.parent is not None and account.parent not in known:
                raise ValueError(f"账户 {account.name} 的上级 {account.parent} 不存在")
            self.children[account.parent].append(account)
        for user in users:
            if user.account not in known:
                raise ValueError(f"用户 {user.name} 的账户 {user.account} 不存在")
            self.children[user.account].append(user)
            self._charge(user, known)

    def _charge(self, user: User, known: dict[str, Account]) -> None:
        name: str | None = user.account
        seen: set[str] = set()
        while name is not None:
            if name in seen:
                raise ValueError(f"账户 {name} 的上级成环")
            seen.add(name)
            self.usage[name] += user.usage
            name = known[name].parent
        self.usage[None] += user.usage

    def level_fair_share(self, parent: str | None) -> list[tuple[float, Account | User]]:
        """一个账户的直接子女的 LF。"""
        children = self.children[parent]
        total_shares = sum(child.shares for child in children)
        used = {id(c): c.usage if isinstance(c, User) else self.usage[c.name] for c in children}
        total_usage = math.fsum(used.values())
        found: list[tuple[float, Account | User]] = []
        for child in children:
            if child.shares == 0:
                found.append((0.0, child))
            elif used[id(child)] == 0:
                found.append((math.inf, child))
            else:
                found.append(((child.shares / total_shares) / (used[id(child)] / total_usage), child))
        return found

    def visit(self, parents: Sequence[str | None], order: list[list[User]]) -> None:
        """把这些（并列而合并的）账户的子女按 LF 排好，依次写进 order；每项是同名次的用户。"""
        levels: dict[float, tuple[list[User], list[str]]] = {}
        for parent in parents:
            for value, child in self.level_fair_share(parent):
                tied_users, tied_accounts = levels.setdefault(value, ([], []))
                if isinstance(child, User):
                    tied_users.append(child)
                else:
                    tied_accounts.append(child.name)
        for value in sorted(levels, reverse=True):
            tied_users, tied_accounts = levels[value]
            below: list[list[User]] = []
            if tied_accounts:
                self.visit(tied_accounts, below)
            if tied_users:
                order.append(tied_users + (below[0] if below else []))
                order.extend(below[1:])
            else:
                order.extend(below)
