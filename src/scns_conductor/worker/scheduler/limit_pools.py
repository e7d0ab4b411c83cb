"""上限接到线上：账户树、QOS 与累计用量从数据库来，池见 scheduling.limit_pools。

SCNS_ACCOUNTING_STORAGE_ENFORCE 不含 limits 时什么也不做。
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from scns_conductor.core.accounting import accounting_of
from scns_conductor.core.job_limits import NO_DECAY
from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.limit_pools import LimitPools
from scns_conductor.statements.accounting import SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS
from scns_conductor.statements.end_requests import END_OVERRUN
from scns_conductor.statements.usage import UNDECAYED_USAGE, USAGE_AGAINST_LIMITS, decay_values


@dataclass(slots=True)
class JobLimits(LimitPools):
    """见模块的说明。"""

    @classmethod
    def of(cls, settings: Settings) -> "JobLimits":
        """按设置。"""
        words = settings.accounting_storage_enforce
        return cls(
            "limits" in words,
            "safe" in words,
            "associations" in words,
            settings.default_memory_mb_per_cpu,
            settings.priority_decay_half_life_s,
        )

    def load(self, connection: Connection, now: float) -> None:
        """重读记账的表；池从头来，调用者要重装集群与队列。"""
        parts = [
            [dict(row) for row in connection.execute(statement).mappings()]
            for statement in (SELECT_ACCOUNTS, SELECT_ASSOCIATIONS, SELECT_QOS, SELECT_USERS)
        ]
        self.accounting = accounting_of(*parts)
        self.reset()
        self.refresh_usage(connection, now)

    def refresh_usage(self, connection: Connection, now: float) -> None:
        """从汇总重算累计用量；没有这样的上限就不查。"""
        self.forget_usage()
        if not self.enforced or not self.counts_usage():
            return
        self.add_usage(connection.execute(USAGE_AGAINST_LIMITS, decay_values(now, self.half_life_s)), kept=False)
        kept = [name for name, qos in self.accounting.qos.items() if NO_DECAY in qos.flags]
        if kept:
            self.add_usage(connection.execute(UNDECAYED_USAGE, {"kept": kept}), kept=True)


def end_overrun(connection: Connection, epoch: int, overrun: Mapping[int, str]) -> list[int]:
    """请节点结束把累计用量用完了的作业（TIMEOUT，Slurm 也是）；返回作业号。在调用者的事务里执行。"""
    if not overrun:
        return []
    messages = [f"{pool} 用完了；请联系管理员" for pool in overrun.values()]
    values = {"epoch": epoch, "job_ids": list(overrun), "messages": messages}
    return list(connection.scalars(END_OVERRUN, values))
