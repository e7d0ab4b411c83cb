"""代理的计时与计数。"""

from dataclasses import dataclass, field

from scns_conductor.timing import Timing, Trouble


@dataclass(slots=True)
class AgentTimings:
    """dispatch 是调度器写下启动到这里认领多久，spawn 是送去牧守进程到进程起来多久；messages 的键是消息的名字。"""

    dispatch: Timing = field(default_factory=Timing)
    spawn: Timing = field(default_factory=Timing)
    ends: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    # 最近一次看牧守进程：它手里几个作业、几步，几个结束还没有确认。
    jobs: int = 0
    steps: int = 0
    unacknowledged: int = 0
    commit: Trouble = field(default_factory=Trouble)
    database: Trouble = field(default_factory=Trouble)

    def count(self, into: dict[str, int], name: str) -> None:
        """某一种又来了一个；名字都是程序里写定的，种类有限。"""
        into[name] = into.get(name, 0) + 1
