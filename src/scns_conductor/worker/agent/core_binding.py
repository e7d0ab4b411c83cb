"""在本节点上给每个作业挑具体的核与加速卡：各作业互不相交，作业结束才归还。"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from scns_conductor.worker.agent.core_choice import arranged, choose
from scns_conductor.worker.agent.cpu_topology import CpuUnit
from scns_conductor.worker.agent.gpus.card import Accelerator
from scns_conductor.worker.agent.gpus.shares import KINDS as SHARED
from scns_conductor.worker.agent.gpus.shares import choose_shares

# 核要不要挨着卡：prefer 尽量，off 不管（--gres-flags=disable-binding），only 只用挨着的（enforce-binding）。
Locality = Literal["prefer", "off", "only"]
_CARD_KINDS = frozenset({"gpu", *SHARED})


@dataclass(frozen=True, slots=True)
class Binding:
    """cpu_ids 为 None 表示不绑核；gres_ids 如 {'gpu:a100': [0, 1]}，合用的一份一个序号：{'shard': [2, 2, 2]}。"""

    cpu_ids: tuple[int, ...] | None
    gres_ids: dict[str, list[int]] = field(default_factory=dict)

    @property
    def accelerator_ids(self) -> list[int]:
        """全部加速卡的序号，合用的也在。"""
        return sorted(
            {index for name, ids in self.gres_ids.items() if name.split(":")[0] in _CARD_KINDS for index in ids}
        )


def _link(chain: int) -> tuple[int, int]:
    """链占着的，记在这个键名下；作业号都是正的。"""
    return -chain, 0


class CorePool:
    """空闲的核与卡。线程安全：认领的线程取，收尾的线程在提交之后还。键是（作业号，尝试）。

    任何时候一个核、一块卡至多属于一个键：取不到、占不下的如实说，绝不两个作业各拿一份。
    核按份算：一份是一个线程，或整个的核（它的全部线程都归一个作业），记的是第一个 CPU 号。
    """

    def __init__(
        self,
        units: Sequence[CpuUnit],
        accelerators: Sequence[Accelerator],
        shares: Mapping[int, tuple[str, int]] = MappingProxyType({}),
    ) -> None:
        """shares 是合用的卡 -> （怎样合用, 几份）；它们不整块地给。"""
        self._lock = threading.Lock()
        self._units = {unit.ids[0]: unit for unit in units}
        self._unit_of = {cpu: unit.ids[0] for unit in units for cpu in unit.ids}
        self._numa_of = {cpu: unit.numa for unit in units for cpu in unit.ids}
        self._cores = frozenset(self._units)
        # 只有一个 NUMA 节点、没有超线程的（多数小机器）：挨着就好，不必细挑。
        places = {(unit.socket, unit.numa) for unit in units}
        self._uniform = len(places) <= 1 and len({unit.core for unit in units}) == len(units)
        self._free_cores = set(self._cores)
        self._set_cards(accelerators, shares)
        self._held: dict[tuple[int, int], Binding] = {}
        self._returned: set[tuple[int, int]] = set()
        self._handed: set[tuple[int, int]] = set()
        # 在接力的链上的 -> 链；链上还有谁。链占着的记在 _link(链) 名下，最后一个归还时才归还。
        self._chain_of: dict[tuple[int, int], int] = {}
        self._members: dict[int, set[tuple[int, int]]] = {}

    def _set_cards(self, cards: Sequence[Accelerator], shares: Mapping[int, tuple[str, int]]) -> None:
        self._near = {card.index: frozenset(card.local_cpus) for card in cards}
        self._all_models = {card.index: card.model for card in cards}
        self._models = {index: model for index, model in self._all_models.items() if index not in shares}
        self._free_cards = set(self._models)
        self._shares = dict(shares)
        self._free_shares = {index: count for index, (_, count) in shares.items()}

    def replace_cards(self, cards: Sequence[Accelerator], shares: Mapping[int, tuple[str, int]]) -> bool:
        """换成这些卡；有作业占着卡的时候不换，返回 False。"""
        with self._lock:
            if any(held.accelerator_ids for held in self._held.values()):
                return False
            self._set_cards(cards, shares)
            return True

    def holders_of(self, cards: Iterable[int]) -> list[tuple[int, int]]:
        """占着其中一些卡的键。"""
        wanted = set(cards)
        with self._lock:
            return [owner for owner, held in self._held.items() if wanted & set(held.accelerator_ids)]

    @property
    def share_counts(self) -> dict[int, int]:
        """合用的卡 -> 一共几份。"""
        return {index: count for index, (_, count) in self._shares.items()}

    @property
    def binds(self) -> bool:
        """有没有核或卡可绑；没有就不必记。"""
        return bool(self._cores or self._all_models)

    def take(
        self,
        owner: tuple[int, int],
        cpus: int,
        gres: Mapping[str, int],
        *,
        unbound: bool,
        locality: Locality = "prefer",
    ) -> Binding | None:
        """取 cpus 份核与所要的卡，核尽量在一个 NUMA 节点、挨着卡；已经占着的照旧。卡不够时什么也不取，返回 None。

        核不够：unbound 为真则不绑核，否则也是 None。要的比实有的还多（共享、声明得多）总是不绑核。
        locality 是 --gres-flags：off 不看卡在哪里；only 只用挨着卡的，一个空闲的也没有是 None，不够的有几个用几个。
        """
        with self._lock:
            held = self._held.get(self._holder(owner))
            if held is not None:
                return held
            if not unbound and len(self._free_cores) < cpus <= len(self._cores):
                return None
            gres_ids = self._pick_cards(gres)
            if gres_ids is None:
                return None
            cards = Binding(None, gres_ids).accelerator_ids
            local = self._local(cards) if locality == "only" else None
            if local is not None:
                if not local & self._free_cores:
                    return None
                cpus = min(cpus, len(local & self._free_cores))
            cores = self._pick_cores(cpus, [] if locality == "off" else cards, local)
            return self._hold(owner, Binding(cores, gres_ids))

    def _local(self, cards: Sequence[int]) -> set[int] | None:
        """挨着这些卡的核；没有卡、不知道挨着哪些的是 None。"""
        known = self._whole(cpu for card in cards for cpu in self._near[card])
        return known or None

    def cores_within(self, leaving: Iterable[tuple[int, int]]) -> int:
        """空闲的核，加上这些键占着的，一共几个。"""
        with self._lock:
            cores = set(self._free_cores)
            for owner in leaving:
                if owner in self._held and owner not in self._chain_of:
                    cores |= self._whole(self._held[owner].cpu_ids)
            return len(cores)

    def arranged(self, cpu_ids: Iterable[int], order: str, threads: int | None, chunk: int) -> list[int]:
        """这些 CPU 按一个任务一个任务地取时的次序（见 core_choice）；不认识的（不绑核）照原来的。"""
        known = list(cpu_ids)
        if not self._units or any(cpu not in self._unit_of for cpu in known):
            return known
        units = [self._units[self._unit_of[cpu]] for cpu in known]
        return arranged(
            (CpuUnit((cpu,), unit.core, unit.socket, unit.numa) for cpu, unit in zip(known, units, strict=True)),
            order,
            threads,
            chunk,
        )

    def near(self, cards: Iterable[int], cpu_ids: Iterable[int]) -> list[int]:
        """这些卡里与这些 CPU 在同一个 NUMA 节点的；一块也没有、不知道的是全部。"""
        known = list(cards)
        numa = set(self.numa_nodes(cpu_ids))
        close = [card for card in known if numa & set(self.numa_nodes(self._near.get(card, ())))]
        return close or known

    def numa_nodes(self, cpu_ids: Iterable[int]) -> list[int]:
        """这些 CPU 在哪些 NUMA 节点。"""
        return sorted({self._numa_of[cpu] for cpu in cpu_ids if cpu in self._numa_of})

    def binding_of(self, owner: tuple[int, int]) -> Binding:
        """它占着的；没有占的是空的。"""
        with self._lock:
            return self._held.get(self._holder(owner), Binding(None))

    def note_returns(self) -> None:
        """从这里起归还了的，restore 不再占：读数据库与占住之间，它也许已经结束；交过去的，keep_only 不归还。"""
        with self._lock:
            self._returned.clear()
            self._handed.clear()

    def restore(
        self,
        owner: tuple[int, int],
        cpu_ids: Iterable[int] | None,
        gres_ids: Mapping[str, list[int]],
        chain: int | None = None,
    ) -> list[tuple[int, int]]:
        """代理重启后，按数据库里的记录重新占住正在运行的作业的核与卡；返回已经占着其中一些的别的键。

        别人占着的不动，只占没有人占的那些：它们至少不会再给第三个。同一条链上的共用一份。
        """
        wanted = Binding(tuple(cpu_ids) if cpu_ids is not None else None, dict(gres_ids))
        with self._lock:
            if owner in self._returned:
                return []
            if chain is not None:
                self._join(owner, chain)
            owner = self._holder(owner)
            if owner in self._held:
                return []
            cores, cards = self._whole(wanted.cpu_ids), set(_cards(wanted)) & self._models.keys()
            rivals = [
                other
                for other, held in self._held.items()
                if cores & self._whole(held.cpu_ids) or cards & set(_cards(held))
            ]
            if rivals:
                taken = cards - self._free_cards
                wanted = Binding(
                    self._ids(cores & self._free_cores) if wanted.cpu_ids is not None else None,
                    {name: [index for index in ids if index not in taken] for name, ids in wanted.gres_ids.items()},
                )
            self._hold(owner, wanted)
            return rivals

    def give_back(self, owner: tuple[int, int]) -> bool:
        """归还；没有占用的什么也不做，返回 False。只在数据库里的份额释放之后才可以调用。"""
        with self._lock:
            self._returned.add(owner)
            holder = self._leave(owner)
            binding = None if holder is None else self._held.pop(holder, None)
            if binding is None:
                return False
            self._free_cores |= self._whole(binding.cpu_ids)
            self._free_cards.update(self._models.keys() & set(_cards(binding)))
            for index in self._shared(binding):
                self._free_shares[index] += 1
            return True

    def hand_over(self, old: tuple[int, int], new: tuple[int, int], chain: int | None = None) -> Binding:
        """old 占着的归 new（接力）；在数据库里的份额交过去之后。old 没有占用的，new 也没有。

        chain 是 new 在的链：链占着的归全链，老的在上面就等它自己归还。
        """
        holder = new if chain is None else _link(chain)
        with self._lock:
            self._handed.add(new)
            if chain is None or self._chain_of.get(old) != chain:
                self._returned.add(old)
                binding = self._held.pop(old, None)
                if binding is not None:
                    self._held[holder] = binding
            if chain is not None:
                self._join(new, chain)
            return self._held.get(holder, Binding(None))

    def keep_only(self, owners: set[tuple[int, int]], job_ids: Sequence[int] | None) -> None:
        """归还不在 owners 里的；job_ids 不为 None 时只看这些作业的。"""
        with self._lock:
            kept = owners | self._handed
            known = [owner for owner in self._held if owner[0] > 0] + list(self._chain_of)
            gone = [owner for owner in known if owner not in kept and (job_ids is None or owner[0] in job_ids)]
        for owner in gone:
            self.give_back(owner)

    def _holder(self, owner: tuple[int, int]) -> tuple[int, int]:
        """占着的记在谁的名下。"""
        chain = self._chain_of.get(owner)
        return owner if chain is None else _link(chain)

    def _join(self, owner: tuple[int, int], chain: int) -> None:
        self._chain_of[owner] = chain
        self._members.setdefault(chain, set()).add(owner)

    def _leave(self, owner: tuple[int, int]) -> tuple[int, int] | None:
        """它不占了：该归还谁名下的；链上还有别的就什么也不归还，返回 None。"""
        chain = self._chain_of.pop(owner, None)
        if chain is None:
            return owner
        members = self._members[chain]
        members.discard(owner)
        if members:
            return None
        del self._members[chain]
        return _link(chain)

    def _hold(self, owner: tuple[int, int], binding: Binding) -> Binding:
        self._held[owner] = binding
        self._free_cores -= self._whole(binding.cpu_ids)
        self._free_cards.difference_update(_cards(binding))
        for index in self._shared(binding):
            self._free_shares[index] -= 1
        return binding

    def _shared(self, binding: Binding) -> list[int]:
        """占着的各份在哪块卡；不再合用的不算。"""
        return [
            index
            for name, ids in binding.gres_ids.items()
            if name.split(":")[0] in SHARED
            for index in ids
            if index in self._free_shares
        ]

    def _whole(self, cpu_ids: Iterable[int] | None) -> set[int]:
        """这些 CPU 在哪些份里；不是本节点的不算。"""
        return {self._unit_of[cpu] for cpu in cpu_ids or () if cpu in self._unit_of}

    def _ids(self, cores: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(cpu for core in cores for cpu in self._units[core].ids))

    def _pick_cores(self, count: int, cards: Sequence[int], local: set[int] | None = None) -> tuple[int, ...] | None:
        free = self._free_cores if local is None else self._free_cores & local
        if count <= 0 or count > len(free):
            return None
        if self._uniform:
            ordered = sorted(free)
            best = min(range(len(ordered) - count + 1), key=lambda at: ordered[at + count - 1] - ordered[at])
            return self._ids(ordered[best : best + count])
        near = {self._numa_of[cpu] for card in cards for cpu in self._near[card] if cpu in self._numa_of}
        chosen = choose([self._units[core] for core in sorted(free)], count, near)
        return self._ids(unit.ids[0] for unit in chosen)

    def _pick_cards(self, gres: Mapping[str, int]) -> dict[str, list[int]] | None:
        """各取各的，指名型号的先挑；有一样不够就是 None。"""
        free, shares = set(self._free_cards), dict(self._free_shares)
        found: dict[str, list[int]] = {}
        for name, count in sorted(gres.items(), key=lambda item: ":" not in item[0]):
            kind, _, model = name.partition(":")
            # 没有设合用的卡而 GRES 里声明了 mps 的，只是一个数。
            if count > 0 and any(kind == share for share, _ in self._shares.values()):
                chosen = choose_shares(
                    {
                        index: left
                        for index, left in shares.items()
                        if self._shares[index][0] == kind and (not model or self._all_models[index] == model)
                    },
                    count,
                )
                if chosen is None:
                    return None
                for index in chosen:
                    shares[index] -= 1
                found[name] = chosen
                continue
            if kind != "gpu" or count <= 0:
                continue
            fitting = self._together([index for index in free if not model or self._models[index] == model], count)
            if len(fitting) < count:
                return None
            free.difference_update(fitting)
            found[name] = fitting
        return found

    def _together(self, cards: Sequence[int], count: int) -> list[int]:
        """尽量挨着同一些 CPU 的 count 块；不够的是全部。"""
        groups: dict[frozenset[int], list[int]] = {}
        for index in sorted(cards):
            groups.setdefault(self._near[index], []).append(index)
        enough = [group for group in groups.values() if len(group) >= count]
        if enough:
            return min(enough, key=len)[:count]
        return sorted(index for group in sorted(groups.values(), key=len, reverse=True) for index in group)[:count]


def _cards(binding: Binding) -> list[int]:
    """整块地占着的。"""
    return [index for name, ids in binding.gres_ids.items() if name.split(":")[0] == "gpu" for index in ids]
