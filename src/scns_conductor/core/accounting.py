"""账户树与 QOS 的一份快照：谁在哪个账户里、继承到什么、许用哪些 QOS。纯的值，API 与调度器共用。

继承照 Slurm：Max…、QOS、缺省 QOS、优先级没有写的取最近的上级；Grp… 不继承，每一级各管自己的子树。
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

ROOT_ACCOUNT = "root"
NORMAL_QOS = "normal"

Tres = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """关联与 QOS 都有的上限；None 与没有写的 TRES 是不限。"""

    grp_tres: Tres = field(default_factory=dict)
    grp_tres_mins: Tres = field(default_factory=dict)
    grp_tres_run_mins: Tres = field(default_factory=dict)
    grp_jobs: int | None = None
    grp_submit_jobs: int | None = None
    grp_wall: int | None = None
    max_tres_per_job: Tres = field(default_factory=dict)
    max_tres_per_node: Tres = field(default_factory=dict)
    max_tres_mins_per_job: Tres = field(default_factory=dict)
    max_wall: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationFacts(Limits):
    """一个关联；user_name 为空的是账户自己的。"""

    account: str
    user_name: str = ""
    partition: str = ""
    shares: int = 1
    priority: int | None = None
    default_qos: str | None = None
    qos: tuple[str, ...] | None = None
    max_jobs: int | None = None
    max_submit_jobs: int | None = None

    @property
    def key(self) -> str:
        """账户、账户/用户、账户/用户/分区。"""
        return "/".join(part for part in (self.account, self.user_name, self.partition) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class QosFacts(Limits):
    """一个 QOS。"""

    name: str
    priority: int = 0
    flags: frozenset[str] = frozenset()
    preempt: frozenset[str] = frozenset()
    preempt_mode: str | None = None
    preempt_exempt_time: int | None = None
    grace_time: int = 0
    usage_factor: float = 1.0
    max_tres_per_user: Tres = field(default_factory=dict)
    max_jobs_per_user: int | None = None
    max_submit_jobs_per_user: int | None = None
    max_tres_per_account: Tres = field(default_factory=dict)
    max_jobs_per_account: int | None = None
    max_submit_jobs_per_account: int | None = None
    min_tres_per_job: Tres = field(default_factory=dict)


_INHERITED_TRES = ("max_tres_per_job", "max_tres_per_node", "max_tres_mins_per_job")
_INHERITED = ("priority", "default_qos", "qos", "max_jobs", "max_submit_jobs", "max_wall")


@dataclass(frozen=True, slots=True)
class Accounting:
    """快照。parents 是 账户 -> 上级（root 是 None）。"""

    parents: Mapping[str, str | None] = field(default_factory=dict)
    associations: Mapping[tuple[str, str, str], AssociationFacts] = field(default_factory=dict)
    qos: Mapping[str, QosFacts] = field(default_factory=dict)
    default_accounts: Mapping[str, str] = field(default_factory=dict)
    admin_levels: Mapping[str, str] = field(default_factory=dict)
    # 协调人 -> 他管的账户，连同各级下级。
    coordinated: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def chain(self, account: str) -> Iterator[str]:
        """账户与它的各级上级，从近到远，最后是 root。"""
        name: str | None = account
        for _ in range(len(self.parents) + 1):
            if name is None or name not in self.parents:
                return
            yield name
            name = self.parents[name]

    def ancestors(self, found: AssociationFacts) -> list[AssociationFacts]:
        """这个关联与它的各级上级的关联，从近到远。"""
        above = [self.associations.get((name, "", "")) for name in self.chain(found.account)]
        return [found, *(each for each in above if each is not None and each is not found)]

    def find(self, account: str | None, user: str, partition: str) -> AssociationFacts | None:
        """用户在账户里的关联：写明了这个分区的优先，其次是不分区的；没有是 None。"""
        if account is None:
            return None
        return self.associations.get((account, user, partition)) or self.associations.get((account, user, ""))

    def effective(self, found: AssociationFacts) -> AssociationFacts:
        """补上继承来的；TRES 逐种继承。"""
        values: dict[str, Any] = {name: getattr(found, name) for name in _INHERITED}
        tres: dict[str, Any] = {name: {} for name in _INHERITED_TRES}
        for each in self.ancestors(found):
            for name in _INHERITED:
                if values[name] is None:
                    values[name] = getattr(each, name)
            for name in _INHERITED_TRES:
                tres[name] = {**getattr(each, name), **tres[name]}
        return replace(found, **values, **tres)

    def default_qos(self, found: AssociationFacts) -> str | None:
        """没有写 QOS 的作业用哪个：写明的缺省；只许一个就是它；许用 normal 就是 normal。"""
        own = self.effective(found)
        if own.default_qos is not None:
            return own.default_qos
        allowed = own.qos or ()
        if len(allowed) == 1:
            return allowed[0]
        return NORMAL_QOS if NORMAL_QOS in allowed else None

    def allows(self, found: AssociationFacts, qos: str) -> bool:
        """关联许不许用这个 QOS；缺省 QOS 总许。"""
        own = self.effective(found)
        return qos in (own.qos or ()) or qos == own.default_qos


def accounting_of(
    accounts: Sequence[Mapping[str, Any]],
    associations: Sequence[Mapping[str, Any]],
    qos: Sequence[Mapping[str, Any]],
    users: Sequence[Mapping[str, Any]],
) -> Accounting:
    """四个查询（statements.accounting）的行 -> 快照。"""
    facts = [
        AssociationFacts(**{**row, "qos": None if row["qos"] is None else tuple(row["qos"])}) for row in associations
    ]
    names = QosFacts.__dataclass_fields__.keys()
    services = [
        QosFacts(
            **{
                **{name: row[name] for name in names},
                "flags": frozenset(row["flags"]),
                "preempt": frozenset(row["preempt"]),
            }
        )
        for row in qos
    ]
    parents = {row["name"]: row["parent"] for row in accounts}
    return Accounting(
        parents,
        {(each.account, each.user_name, each.partition): each for each in facts},
        {each.name: each for each in services},
        {row["name"]: row["default_account"] for row in users if row["default_account"] is not None},
        {row["name"]: row["admin_level"] for row in users},
        {row["name"]: _subtrees(parents, row["coordinates"]) for row in users if row["coordinates"]},
    )


def _subtrees(parents: Mapping[str, str | None], tops: Sequence[str]) -> frozenset[str]:
    """这些账户与它们的各级下级。"""
    tree = Accounting(parents)
    return frozenset(name for name in parents if not set(tops).isdisjoint(tree.chain(name)))


def populated(accounting: Accounting) -> bool:
    """管理员建过账户没有；没有就当作不用记账。"""
    return any(name != ROOT_ACCOUNT for name in accounting.parents)
