"""混沌测试的故障：每一种都真的发生。选哪个、打谁、隔多久，全由种子决定。"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chaos_system import QUICK_SETTINGS, ChaosSystem

LEASE_S = float(QUICK_SETTINGS["SCNS_SCHEDULER_LEASE_S"])
NODE_TIMEOUT_S = float(QUICK_SETTINGS["SCNS_NODE_TIMEOUT_S"])
LEAST_GAP_S, MOST_GAP_S = 0.5, 3.0


@dataclass
class Faults:
    """故障的发生器；counts 是发生过的，名字 -> 次数。"""

    system: ChaosSystem
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    timeline: list[tuple[float, str]] = field(default_factory=list)
    _resume: list[tuple[float, list[int]]] = field(default_factory=list)

    def run(self, running: Callable[[], bool]) -> None:
        """隔一会儿来一次，直到 running 为假；离开时放开全部停住的。"""
        began = time.monotonic()
        choices = list(self._choices())
        while running():
            action, name = self.rng.choice(choices)
            if action():
                self.counts[name] += 1
                self.timeline.append((round(time.monotonic() - began, 2), name))
            self._pass(self.rng.uniform(LEAST_GAP_S, MOST_GAP_S), running)
            self.system.keep_standby()
        self.system.resume_all()

    def _pass(self, gap_s: float, running: Callable[[], bool]) -> None:
        deadline = time.monotonic() + gap_s
        while time.monotonic() < deadline and running():
            self._resume_due()
            time.sleep(0.05)

    def _resume_due(self) -> None:
        now = time.monotonic()
        for due, pids in list(self._resume):
            if now >= due:
                self._resume.remove((due, pids))
                self.system.send(pids, signal.SIGCONT)

    def _pause(self, pids: list[int], pause_s: float) -> bool:
        if not self.system.send(pids, signal.SIGSTOP):
            return False
        self._resume.append((time.monotonic() + pause_s, pids))
        return True

    def _kill(self, what: str, number: signal.Signals = signal.SIGKILL) -> Callable[[], bool]:
        def kill() -> bool:
            node = self.rng.choice(self.system.nodes) if what in ("agent", "shepherd") else None
            return self.system.send(self.system.pids(what, node), number)

        return kill

    def _end_postgres(self, number: signal.Signals) -> Callable[[], bool]:
        """内嵌的由 scns up 再起；一主一备的由 PairKeeper。"""
        pair = self.system.pair
        return self._kill("postgres", number) if pair is None else lambda: pair.restart(number)

    def _fail_over(self) -> bool:
        """主库 kill -9，备库过一会儿接任。"""
        pair = self.system.pair
        return pair is not None and pair.fail_over(self.rng.uniform(0.5, 3))

    def _kill_node(self) -> bool:
        """代理与牧守进程同时没了；作业照跑。"""
        node = self.rng.choice(self.system.nodes)
        return self.system.send(self.system.pids("agent", node) + self.system.pids("shepherd", node), signal.SIGKILL)

    def _lose_node(self) -> bool:
        """代理与牧守进程停住，久到节点被判失联；之后回来。"""
        node = self.rng.choice(self.system.nodes)
        pids = self.system.pids("agent", node) + self.system.pids("shepherd", node)
        return self._pause(pids, NODE_TIMEOUT_S + self.rng.uniform(2, 5))

    def _pause_one(self, what: str, least_s: float, most_s: float) -> Callable[[], bool]:
        def pause() -> bool:
            node = self.rng.choice(self.system.nodes) if what in ("agent", "shepherd") else None
            pids = self.system.pids(what, node)
            if what == "postgres":
                pids = self.system.with_children(pids)
            return self._pause(pids, self.rng.uniform(least_s, most_s))

        return pause

    def _choices(self) -> Iterator[tuple[Callable[[], bool], str]]:
        yield self._kill("api"), "kill-api"
        yield self._kill("scheduler"), "kill-scheduler"
        yield self._kill("standby"), "kill-standby"
        yield self._kill("agent"), "kill-agent"
        yield self._kill("agent"), "kill-agent"
        yield self._kill("shepherd"), "kill-shepherd"
        yield self._kill("shepherd"), "kill-shepherd"
        yield self._kill_node, "kill-agent+shepherd"
        yield self._kill("valkey"), "kill-valkey"
        yield self.system.flush_valkey, "flushall"
        yield self._end_postgres(signal.SIGQUIT), "postgres-immediate-stop"
        yield self._end_postgres(signal.SIGKILL), "kill-postgres"
        yield self._pause_one("scheduler", LEASE_S + 1, LEASE_S + 3), "pause-scheduler"
        yield self._pause_one("standby", LEASE_S + 1, LEASE_S + 3), "pause-standby"
        yield self._pause_one("agent", 0.5, 3), "pause-agent"
        yield self._pause_one("shepherd", 0.5, 3), "pause-shepherd"
        yield self._pause_one("valkey", 1, 4), "pause-valkey"
        yield self._pause_one("postgres", 0.5, 3), "pause-postgres"
        yield self._pause_one("api", 0.5, 2), "pause-api"
        yield self._lose_node, "lose-node"
        if self.system.pair is not None:
            # 一分钟里总要有几次：它是这一套要看的。
            yield from [(self._fail_over, "failover")] * 3
