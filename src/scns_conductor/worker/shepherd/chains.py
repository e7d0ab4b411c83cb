"""接力的链：一条链上的作业共用一份资源，按到来的次序一个接一个，任何时候至多一个在运行。

轮到之前只记在日志里，没有进程、没有 cgroup、没有脚本文件。轮不到的（前面的跑得比料想的久、牧守进程要停了）交还：
写一条 give_back 的结束，作业回到队列，从来没有跑过。docs/decisions/0011-relay.md。
"""

from __future__ import annotations

import math
from collections import deque

from scns_conductor.worker.host.process_table import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.shepherd.keeper import JobKeeper
    from scns_conductor.worker.shepherd.task import JobGroup, Task
    from scns_conductor.worker.wire.launch_spec import LaunchSpec


class Chains:
    """JobKeeper 的一部分。"""

    def __init__(self, keeper: JobKeeper) -> None:
        self._keeper = keeper
        # 链 -> 正在运行的；链 -> 等着的（等到何时，说明，作业步），先来的在前。
        self._running: dict[int, JobGroup] = {}
        self._waiting: dict[int, deque[tuple[float, LaunchSpec, Task]]] = {}
        # 有定时看着的链：一条至多一个，不论它空了又满多少回。
        self._watched: set[int] = set()

    def wait(self, spec: LaunchSpec, task: Task) -> bool:
        """前面还有没有做完的：等着，返回 True；轮到它了返回 False。"""
        chain, group = spec.chain, task.group
        if chain is None:
            return False
        group.chain = chain
        if chain not in self._running:
            self._running[chain] = group
            return False
        group.waiting = True
        group.tasks[task.step] = task
        line = self._waiting.setdefault(chain, deque())
        line.append((boot_now() + (spec.chain_wait_s or 0.0), spec, task))
        if chain not in self._watched:
            self._watch(chain)
        return True

    def adopt(self, group: JobGroup, chain: int) -> None:
        """接管来的，正在运行。"""
        group.chain = chain
        self._running[chain] = group

    def gone(self, group: JobGroup) -> bool:
        """它结束了：下一个开始；节点有毛病的不再往下试。返回有没有下一个。"""
        chain = group.chain
        if chain is None or self._running.get(chain) is not group:
            return False
        del self._running[chain]
        line = self._waiting.get(chain)
        if not line:
            return False
        fault = group.holder.fault if group.holder is not None else None
        if self._keeper.endings.left_behind(group) or (fault is not None and fault.on_node):
            self._give_back(chain, math.inf)
            return False
        _, spec, task = line.popleft()
        if not line:
            del self._waiting[chain]
        task.group.waiting = False
        self._running[chain] = task.group
        self._keeper.start_next(spec, task)
        return True

    def withdraw(self, group: JobGroup, cause: str, message: str | None) -> None:
        """还没有轮到它：就此结束，不再启动。"""
        chain = group.chain
        assert chain is not None
        line = self._waiting[chain]
        for entry in line:
            if entry[2].group is group:
                line.remove(entry)
                break
        if not line:
            del self._waiting[chain]
        self._end(group, cause, message)

    def _give_back(self, chain: int, now_boot_s: float) -> None:
        """等够了的交还；now_boot_s 是此刻（开机秒）。"""
        line = self._waiting[chain]
        while line and line[0][0] <= now_boot_s:
            self._end(line.popleft()[2].group, "give_back", "接力没有轮到它：前面的比料想的久")
        if not line:
            del self._waiting[chain]

    def _end(self, group: JobGroup, cause: str, message: str | None) -> None:
        # 没有启动过：停下服务不算取消它。
        group.cause, group.message = ("give_back" if cause == "shutdown" else cause), message
        group.waiting = False
        del self._keeper.groups[group.identity]
        for task in group.tasks.values():
            task.reaped = True
            self._keeper.endings.emit_end(task)

    def _watch(self, chain: int) -> None:
        self._watched.add(chain)
        self._keeper.timers.at(self._waiting[chain][0][0], self._on_patience, chain)

    def _on_patience(self, chain: int) -> None:
        self._watched.discard(chain)
        if chain in self._waiting:
            self._give_back(chain, boot_now())
        if chain in self._waiting:
            self._watch(chain)
