"""调度器的计时：一个周期各步多久、一次启动几个、作业等了多久、数据库与总线。"""

from dataclasses import dataclass, field

from scns_conductor.timing import COUNTS, WAITS, Timing, Trouble

PHASES = ("inbox", "wake", "plan", "preempt", "commit", "dispatch", "explain", "reconcile")


@dataclass(frozen=True, slots=True)
class SchedulerTimings:
    """phases 的键是 PHASES；cycle 是一个周期从头到尾。"""

    cycle: Timing = field(default_factory=Timing)
    phases: dict[str, Timing] = field(default_factory=lambda: {name: Timing() for name in PHASES})
    starts: Timing = field(default_factory=lambda: Timing(COUNTS))
    waits: Timing = field(default_factory=lambda: Timing(WAITS))
    database: Trouble = field(default_factory=Trouble)
    bus: Trouble = field(default_factory=Trouble)
