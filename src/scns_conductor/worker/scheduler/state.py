"""调度进程的各部分共用的：记忆、计划、钟、绕开的行、统计。都只在主循环的线程里碰。"""

import threading
from dataclasses import dataclass, field

from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.settings import Settings
from scns_conductor.scheduling.job_requirements import Defaults
from scns_conductor.scheduling.plan import Plan
from scns_conductor.scheduling.planner import Planner
from scns_conductor.scheduling.policy import Policy
from scns_conductor.scheduling.time_slices import TurnClock
from scns_conductor.worker.scheduler.configured_rules import policy_of, rules_of
from scns_conductor.worker.scheduler.database_clock import DatabaseClock
from scns_conductor.worker.scheduler.limit_pools import JobLimits
from scns_conductor.worker.scheduler.locked_rows import LockedRows
from scns_conductor.worker.scheduler.memory import QueueMemory
from scns_conductor.worker.scheduler.priority_factors import JobPriority
from scns_conductor.worker.scheduler.reasons import ReasonWriter
from scns_conductor.worker.scheduler.relay_offers import RelayOffers
from scns_conductor.worker.scheduler.reservation_upkeep import ReservationUpkeep
from scns_conductor.worker.scheduler.run_history import RunHistory
from scns_conductor.worker.scheduler.standing import StandingOrders
from scns_conductor.worker.scheduler.statistics import SchedulerStatistics
from scns_conductor.worker.scheduler.timings import SchedulerTimings

# 取了作业的变化之后至少隔这么久再取下一批：分别提交的来得密时，一个周期的固定花费由几个作业分担。
REST_S = 0.002
# 只有接力的消息时多歇一会儿：节点手里还有后继，一圈多带几个作业。
RELAY_REST_S = 0.02


@dataclass(slots=True)
class SchedulerState:
    """plan 是最近一次的计划；reprioritise 是记账变了、优先级要重算；resettled 是运行时改了设置、要整个重装。

    notified 是听到过通知；rest_until 见 REST_S；leading 是在任。
    """

    settings: Settings
    memory: QueueMemory
    policy: Policy
    planner: Planner
    statistics: SchedulerStatistics
    clock: DatabaseClock
    locked: LockedRows
    relay: RelayOffers
    stopping: threading.Event = field(default_factory=threading.Event)
    reasons: ReasonWriter = field(default_factory=ReasonWriter)
    standing: StandingOrders = field(default_factory=StandingOrders)
    upkeep: ReservationUpkeep = field(default_factory=ReservationUpkeep)
    timings: SchedulerTimings = field(default_factory=SchedulerTimings)
    incarnation: str | None = None
    plan: Plan | None = None
    leading: bool = False
    reprioritise: bool = False
    resettled: bool = False
    notified: bool = False
    rest_until: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "SchedulerState":
        """刚启动的样子；记忆还没有装载。"""
        clock, locked, policy = DatabaseClock(), LockedRows(), policy_of(settings)
        memory = _memory_of(settings, policy, clock, locked)
        statistics = SchedulerStatistics(clock.now())
        return cls(settings, memory, policy, Planner(policy), statistics, clock, locked, _relay_of(settings, policy))

    def adopt(self, settings: Settings) -> None:
        """换一套设置（运行时改的）：记忆、计划器从头来，调用者随即重装。"""
        if settings == self.settings:
            return
        self.settings, self.policy = settings, policy_of(settings)
        self.memory = _memory_of(settings, self.policy, self.clock, self.locked)
        self.planner = Planner(self.policy)
        self.relay = _relay_of(settings, self.policy)
        self.plan, self.reprioritise = None, True


def _memory_of(settings: Settings, policy: Policy, clock: DatabaseClock, locked: LockedRows) -> QueueMemory:
    return QueueMemory(
        Defaults(settings.default_memory_mb_per_cpu, settings.max_switch_wait_s),
        dict(parse_licenses(settings.licenses)),
        JobPriority(settings),
        JobLimits.of(settings),
        settings.kill_wait_s,
        rules_of(settings),
        settings.preempt_gang,
        settings.suspend_frees == "cpus",
        RunHistory() if policy.shortest_first else None,
        locked_jobs=locked.jobs,
        locked_nodes=locked.nodes,
        clock=clock.now,
        boot_s=settings.resume_timeout_s if settings.elastic else None,
        turns=TurnClock(settings.scheduler_time_slice_s),
    )


def _relay_of(settings: Settings, policy: Policy) -> RelayOffers:
    # 短的先回填时，队首之后的次序不是队列的次序：不接力。
    return RelayOffers(settings.relay and not policy.shortest_first)
