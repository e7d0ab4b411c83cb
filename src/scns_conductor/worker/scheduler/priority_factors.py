"""多因子优先级接到线上（Slurm 的 priority/multifactor）：公平份额按公平树，因子定期重算。

用量是 CPU·秒（乘以 QOS 的 UsageFactor），按半衰期衰减；由汇总（usage_rollups）与还没有汇总的合起来，历史再长也一样快。
建过账户的按账户树分，没有建过的按 settings.fair_shares 只分一层；树外的账户（没有核对记账时）接在根下面。
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from scns_conductor.core.accounting import ROOT_ACCOUNT, Accounting, populated
from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.fair_tree import Account, User, fair_share
from scns_conductor.scheduling.job_requirements import priority_of
from scns_conductor.scheduling.priority import LEAST_PRIORITY, Standing, Weights, factors, normalised
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.statements.usage import DECAYED_USAGE, decay_values

# 没有写账户的作业算在这个账户里。
NO_ACCOUNT = "(none)"
_WEIGHT_NAMES = frozenset({"age", "fairshare", "job_size", "partition", "qos", "assoc"})


@dataclass(frozen=True, slots=True)
class Applicant:
    """算优先级要的、与形状无关的部分；许多作业共用一个。fixed 是管理员指定的优先级。"""

    user_name: str
    account: str
    partitions: tuple[str, ...]
    qos: str | None
    nice: int
    fixed: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Applicant":
        """jobs 的一行（COLUMNS）。"""
        return cls(
            row["user_name"],
            row["account"] or NO_ACCOUNT,
            tuple(row["partition"].split(",")),
            row["qos"],
            row["nice"],
            None if row["priority"] is None else priority_of(row),
        )


def age_from(row: Mapping[str, Any]) -> float:
    """从何时起算等待（Unix 秒）：提交与 --begin 的较晚者。"""
    return max(float(row["submit_time"]), row["begin_time"] or 0.0)


@dataclass(frozen=True, slots=True)
class Share:
    """一个用户在一个账户里：份额、衰减过的用量（CPU·秒）、公平份额因子。"""

    account: str
    user_name: str
    shares: int
    usage: float
    factor: float


class JobPriority:
    """settings.priority_type 为 basic 时 enabled 为假，什么也不算。"""

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.priority_type == "multifactor"
        self.period_s = settings.priority_calc_period_s
        weights = settings.priority_weights
        self.weights = Weights(
            **{name: weights[name] for name in _WEIGHT_NAMES if name in weights},
            tres={name.removeprefix("tres/"): value for name, value in weights.items() if name.startswith("tres/")},
            max_age_s=settings.priority_max_age_s,
            favor_small=settings.priority_favor_small,
        )
        self._half_life_s = settings.priority_decay_half_life_s
        self._shares = settings.fair_shares
        self.standings: dict[tuple[str, str], Share] = {}
        # 公平树里的账户，上级在前；parent 是 None 的在根之下。
        self.accounts: list[Account] = []
        self._accounting = Accounting()
        self._partition_factors: dict[str, float] = {}
        self._qos_factors: dict[str, float] = {}
        self._association_factors: dict[str, float] = {}
        self._totals: tuple[int, int] = (0, 0)

    def refresh(
        self,
        connection: Connection,
        cluster: Cluster,
        accounting: Accounting,
        waiting: set[tuple[str, str]],
        now: float,
    ) -> None:
        """重算用量与公平份额；waiting 是在排队的（账户, 用户），没有用量的也要有名次。"""
        self._accounting = accounting
        self._partition_factors = normalised(
            {name: float(partition.job_factor) for name, partition in cluster.partitions.items()}
        )
        self._qos_factors = normalised({name: float(qos.priority) for name, qos in accounting.qos.items()})
        self._association_factors = normalised(
            {each.key: float(accounting.effective(each).priority or 0) for each in accounting.associations.values()}
        )
        total = cluster.total[: cluster.count]
        self._totals = (int(total[:, 0].sum()) if cluster.count else 0, cluster.count)
        usage: dict[tuple[str, str], float] = dict.fromkeys(waiting, 0.0)
        if populated(accounting):
            usage |= {(account, user): 0.0 for account, user, _ in accounting.associations if user}
        values = {**decay_values(now, self._half_life_s), "none": NO_ACCOUNT}
        for row in connection.execute(DECAYED_USAGE, values):
            usage[row.account, row.user_name] = float(row.used)
        self.accounts = self._tree({account for account, _ in usage})
        users = [
            User(user, account, self._shares_of(account, user), used) for (account, user), used in sorted(usage.items())
        ]
        found = fair_share(self.accounts, users) if users else {}
        self.standings = {
            (user.account, user.name): Share(
                user.account, user.name, user.shares, user.usage, found[user.account, user.name]
            )
            for user in users
        }

    def _tree(self, used: set[str]) -> list[Account]:
        parents = self._accounting.parents if populated(self._accounting) else {}
        accounts = []
        for name in sorted(parents, key=lambda name: (len(list(self._accounting.chain(name))), name)):
            # root 自己也可能有用户；它就是根，在树里是一个普通的账户。
            parent = parents[name]
            if name != ROOT_ACCOUNT or ROOT_ACCOUNT in used:
                above = None if parent == ROOT_ACCOUNT else parent
                accounts.append(Account(name, above, self._shares_of(name, "")))
        return accounts + [Account(name, None, self._shares_of(name, "")) for name in sorted(used - parents.keys())]

    def _shares_of(self, account: str, user: str) -> int:
        """关联里写的；没有关联的取 settings.fair_shares。"""
        found = self._accounting.find(account, user, "") if populated(self._accounting) else None
        if found is None and user and populated(self._accounting):
            # 只有按分区的关联：取第一个。
            found = next(
                (each for key, each in self._accounting.associations.items() if key[:2] == (account, user)), None
            )
        if found is not None:
            return found.shares
        return self._shares.get(f"{account}/{user}" if user else account, 1)

    def factors_of(self, applicant: Applicant, job: PendingJob, age_from: float, now: float) -> dict[str, float]:
        """各因子乘以权重之后的值。"""
        shape = job.shape
        cpus = shape.tasks * shape.cpus_per_task
        share = self.standings.get((applicant.account, applicant.user_name))
        total_cpus, total_nodes = self._totals
        association = self._accounting.find(applicant.account, applicant.user_name, applicant.partitions[0])
        standing = Standing(
            eligible_time=age_from if job.reason is None else None,
            cpus=cpus,
            nodes=shape.minimum_nodes,
            # 还没有算进公平树的新面孔没有用量，名次最好。
            fairshare=1.0 if share is None else share.factor,
            partition_factor=max((self._partition_factors.get(name, 0.0) for name in applicant.partitions), default=0),
            qos_factor=0.0 if applicant.qos is None else self._qos_factors.get(applicant.qos, 0.0),
            assoc_factor=0.0 if association is None else self._association_factors.get(association.key, 0.0),
            tres_shares={"cpu": min(1.0, cpus / total_cpus) if total_cpus else 0.0},
            nice=applicant.nice,
        )
        return factors(standing, self.weights, now, total_cpus, total_nodes)

    def of(self, applicant: Applicant, job: PendingJob, age_from: float, now: float) -> float:
        """优先级：管理员指定的为准；不小于 1。"""
        if applicant.fixed is not None:
            return applicant.fixed
        return max(float(LEAST_PRIORITY), round(sum(self.factors_of(applicant, job, age_from, now).values())))
