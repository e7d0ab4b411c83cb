"""改了某些列之后的作业：形状、时限，与它那时的前景；要试哪些别的分区、QOS、账户。"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from scns_conductor.scheduling.eligibility import ineligible, open_partitions
from scns_conductor.scheduling.feasibility import impossible
from scns_conductor.scheduling.job_requirements import eligibility_request
from scns_conductor.scheduling.outlook import Outlook
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.queue import PendingJob
from scns_conductor.scheduling.shape import Shape
from scns_conductor.scheduling.suggestions import Change
from scns_conductor.worker.scheduler.memory import QueueMemory

# 分区、QOS、账户各至多试这么多个。
MOST_ALTERNATIVES = 5


@dataclass(slots=True)
class Alternatives:
    """层级、抢占关系不同的，前面的作业也不同：各有各的前景。"""

    memory: QueueMemory
    policy: Policy
    job: PendingJob
    row: dict[str, Any]
    outlook: Outlook
    now: float
    _elsewhere: dict[tuple[int, int], Outlook] = field(default_factory=dict)

    def build(self, columns: Mapping[str, Any]) -> tuple[Shape, float, Outlook] | None:
        """不许这样改（分区、上限）的是 None。"""
        changed = {**self.row, **columns}
        memory = self.memory
        request = eligibility_request({**changed, "deadline": None}, None)
        if ineligible(request, memory.cluster.partitions, self.now, memory.cluster.reservations) is not None:
            return None
        # 列了几个分区的，只有此刻许它启动的算数。
        changed["partition"] = ",".join(open_partitions(request, memory.cluster.partitions))
        shape, violation = memory.requirements(changed)
        if violation is not None or impossible(memory.cluster, shape) is not None:
            return None
        limit = math.inf if changed["time_limit"] is None else float(changed["time_limit"])
        tier = memory.tier_of(changed["partition"])
        return shape, limit, self._outlook(memory.precedence.get(changed["qos"], 0), tier)

    def others(self) -> list[Change]:
        """换分区、QOS、账户，去掉预留，放宽数组的 %：只试许用的。"""
        row, found = self.row, []
        own = row["partition"].split(",")
        open_to_it = (
            name
            for name in sorted(self.memory.cluster.partitions.keys() - set(own))
            if self.build({"partition": name}) is not None
        )
        for name in islice(open_to_it, MOST_ALTERNATIVES):
            found.append(Change(f"换到分区 {name}", {"partition": name}, {"partition": name}))
        accounting = self.memory.limits.accounting
        association = accounting.find(row["account"], row["user_name"], own[0])
        if association is not None:
            for name in sorted(accounting.qos.keys() - {row["qos"]})[:MOST_ALTERNATIVES]:
                if accounting.allows(association, name):
                    found.append(Change(f"换 QOS {name}", {"qos": name}, {"qos": name}))
            accounts = sorted({account for account, user, _ in accounting.associations if user == row["user_name"]})
            for name in [account for account in accounts if account != row["account"]][:MOST_ALTERNATIVES]:
                found.append(Change(f"换账户 {name}", {"account": name}, {"account": name}))
        if row["reservation"]:
            found.append(Change(f"不用预留 {row['reservation']}", {"reservation": None}, {"reservation": None}))
        return found

    def more_tasks(self) -> list[Change]:
        """数组同时运行的任务到了上限的：放宽一个。"""
        most = (self.row["array_max_tasks"] or 0) + 1
        return [Change(f"把同时运行的任务数放宽到 {most}", {"array_max_tasks": most}, {"array_max_tasks": most})]

    def _outlook(self, precedence: int, tier: int) -> Outlook:
        place = (precedence, tier)
        if place == (self.job.precedence, self.job.tier):
            return self.outlook
        if place not in self._elsewhere:
            moved = replace(self.job, precedence=precedence, tier=tier)
            self._elsewhere[place] = Outlook(self.memory.cluster, self.memory.queue, moved, self.now, self.policy)
        return self._elsewhere[place]
