"""启动、结束、提交成败、归还、核对、重启的任意交错：没有一个核、一块卡同时属于两个还在的作业，等着的最后都等得到。

模型是代理的次序：启动、核对、重启在控制线程里，一件一件来；提交与归还在收尾线程里，可以插在核对的当中。
"""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.cpu_topology import plain_units
from scns_conductor.worker.agent.gpus.card import Accelerator

CORES, CARDS = 6, 3
Owner = tuple[int, int]


@dataclass
class Row:
    """数据库里没有释放的一条分配；binding 为 None 是还没有认领。"""

    cpus: int
    cards: int
    binding: Binding | None = None


class NodeLife(RuleBasedStateMachine):
    """一个节点：数据库、进程、收尾线程手里的，和核与卡的账。"""

    def __init__(self) -> None:
        super().__init__()
        self.pool = self.new_pool()
        self.rows: dict[Owner, Row] = {}
        # 进程还在的；正在写结束的（提交之前、之后还没有归还的）；它们各拿着什么。
        self.running: set[Owner] = set()
        self.ending: set[Owner] = set()
        self.committed: set[Owner] = set()
        self.using: dict[Owner, Binding] = {}
        # 接力的链：在哪条上；链上还没有轮到的，按次序。
        self.chain_of: dict[Owner, int] = {}
        self.queued: dict[int, list[Owner]] = {}
        self.next_job = 1

    def new_pool(self) -> CorePool:
        return CorePool(plain_units(range(CORES)), [Accelerator(index, "a100", "none") for index in range(CARDS)])

    def finish_some(self, choices: list[bool], *, relays: bool = False, depth: int = 1) -> None:
        """收尾线程：提交（成或不成），随后归还。"""
        for owner, lucky in zip(sorted(self.ending), choices, strict=False):
            if owner in self.committed:
                self.pool.give_back(owner)
                self.committed.discard(owner)
                self.ending.discard(owner)
                del self.using[owner]
            elif lucky:
                row = self.rows.pop(owner, None)
                self.committed.add(owner)
                if relays and row is not None and row.binding is not None and not row.cards:
                    for _ in range(depth):
                        self.hand_over(owner, row, depth)

    def hand_over(self, owner: Owner, row: Row, depth: int) -> None:
        """接力：写结束的同一个提交里，份额与核归后继；链上没有别的就马上在跑，否则排着。"""
        new = (self.next_job, 0)
        self.next_job += 1
        chain = self.chain_of.get(owner, owner[0] if depth > 1 else None)
        binding = self.pool.hand_over(owner, new, chain)
        assert binding == row.binding
        self.rows[new] = Row(row.cpus, 0, binding)
        self.using[new], self.using[owner] = binding, Binding(None)
        if chain is None:
            self.running.add(new)
            return
        alone = all(self.chain_of.get(other) != chain for other in self.running)
        self.chain_of[new] = chain
        if alone:
            self.running.add(new)
        else:
            self.queued.setdefault(chain, []).append(new)

    def gone(self, owner: Owner) -> None:
        """它的进程没有了：链上下一个开始。"""
        self.running.discard(owner)
        line = self.queued.get(self.chain_of.get(owner, 0))
        if line:
            self.running.add(line.pop(0))

    def leave(self, owner: Owner) -> None:
        """杀掉，或从链上撤下。"""
        for line in self.queued.values():
            if owner in line:
                line.remove(owner)
                return
        if owner in self.running:
            self.gone(owner)

    def share_of(self, owner: Owner) -> Owner:
        """占着哪一份：同一条链上的是同一份。"""
        chain = self.chain_of.get(owner)
        return owner if chain is None else (-chain, 0)

    def claim(self, owner: Owner) -> bool:
        row = self.rows[owner]
        unbound = self.pool.cores_within(self.ending) < row.cpus
        binding = self.pool.take(owner, row.cpus, {"gpu": row.cards}, unbound=unbound)
        if binding is None:
            return False
        row.binding = binding
        self.using[owner] = binding
        self.running.add(owner)
        return True

    @rule(cpus=st.integers(1, 3), cards=st.integers(0, 2))
    def launch(self, cpus: int, cards: int) -> None:
        """调度器看计数：够了才分配。"""
        free_cpus = CORES - sum({self.share_of(owner): row.cpus for owner, row in self.rows.items()}.values())
        free_cards = CARDS - sum(row.cards for row in self.rows.values())
        if cpus <= free_cpus and cards <= free_cards:
            owner = (self.next_job, 0)
            self.next_job += 1
            self.rows[owner] = Row(cpus, cards)
            self.claim(owner)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20))
    def end(self, which: int) -> None:
        owner = sorted(self.running)[which % len(self.running)]
        self.gone(owner)
        self.ending.add(owner)

    @precondition(lambda self: any(self.queued.values()))
    @rule(which=st.integers(0, 20))
    def give_back(self, which: int) -> None:
        """还没有轮到就取消了、交还了：没有进程，只有结束。"""
        waiting = sorted(owner for line in self.queued.values() for owner in line)
        owner = waiting[which % len(waiting)]
        self.queued[self.chain_of[owner]].remove(owner)
        self.ending.add(owner)

    @rule(choices=st.lists(st.booleans(), max_size=4))
    def finish(self, choices: list[bool]) -> None:
        self.finish_some(choices)

    @rule(choices=st.lists(st.booleans(), max_size=4), depth=st.integers(1, 3))
    def relay(self, choices: list[bool], depth: int) -> None:
        self.finish_some(choices, relays=True, depth=depth)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20))
    def released_elsewhere(self, which: int) -> None:
        """多节点作业在别的节点上结束、节点被判失联：数据库里释放了，这里的进程还在。"""
        self.rows.pop(sorted(self.running)[which % len(self.running)], None)

    @rule(choices=st.lists(st.booleans(), max_size=4), relays=st.booleans())
    def sync(self, choices: list[bool], relays: bool) -> None:
        self.pool.note_returns()
        held = {owner: row.binding for owner, row in self.rows.items()}
        known = set(self.running) | {owner for line in self.queued.values() for owner in line}
        self.finish_some(choices, relays=relays)
        for owner, binding in held.items():
            if binding is not None:
                chain = self.chain_of.get(owner)
                assert self.pool.restore(owner, binding.cpu_ids, binding.gres_ids, chain) == []
        # 中间接过来的，核对时还不知道。
        self.pool.keep_only(set(held) | known | self.ending, None)
        for owner in known - set(held):
            self.leave(owner)
            self.ending.add(owner)
        for owner in [owner for owner, row in self.rows.items() if row.binding is None]:
            self.claim(owner)

    @rule()
    def restart(self) -> None:
        """代理重启：账没有了，照数据库重来；没有确认的结束再送一遍，数据库里已经没有的先杀尽。"""
        self.pool = self.new_pool()
        for owner in self.committed | (self.running - self.rows.keys()) | (self.ending - self.rows.keys()):
            self.leave(owner)
            self.ending.discard(owner)
            self.committed.discard(owner)
            self.using.pop(owner, None)
        for owner, row in self.rows.items():
            if row.binding is not None:
                chain = self.chain_of.get(owner)
                assert self.pool.restore(owner, row.binding.cpu_ids, row.binding.gres_ids, chain) == []

    @invariant()
    def nothing_is_shared(self) -> None:
        shares = {self.share_of(owner): self.using[owner] for owner in self.running}
        # 在跑的与正在写结束的：同一条链上的是同一份。
        shares |= {self.share_of(owner): self.using[owner] for owner in self.ending if self.using[owner].cpu_ids}
        cores = [core for binding in shares.values() for core in binding.cpu_ids or ()]
        cards = [card for owner in self.running | self.ending for card in self.using[owner].accelerator_ids]
        assert len(cores) == len(set(cores)), self.using
        assert len(cards) == len(set(cards)), self.using

    @invariant()
    def every_running_job_has_all_its_cards(self) -> None:
        for row in self.rows.values():
            if row.binding is not None:
                assert len(row.binding.accelerator_ids) == row.cards

    def all_end(self) -> None:
        while self.running:
            owner = min(self.running)
            self.gone(owner)
            self.ending.add(owner)

    def teardown(self) -> None:
        """都结束、都写成之后，等着的都等到了，账上一个也没有少。"""
        for _ in range(3):
            self.all_end()
            for _ in range(2):
                self.finish_some([True] * len(self.ending))
            self.sync([], relays=False)
        self.all_end()
        for _ in range(2):
            self.finish_some([True] * len(self.ending))
        assert not self.rows
        assert self.pool.take((0, 0), CORES, {"gpu": CARDS}, unbound=False) is not None


TestNodeLife = NodeLife.TestCase
