"""在本节点上给每个作业挑具体的核与加速卡：各作业互不相交，作业结束才归还。"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scns_conductor.worker.devices import Accelerator


@dataclass(frozen=True, slots=True)
class Binding:
    """cpu_ids 为 None 表示不绑核；gres_ids 如 {'gpu:a100': [0, 1]}。"""

    cpu_ids: tuple[int, ...] | None
    gres_ids: dict[str, list[int]] = field(default_factory=dict)

    @property
    def accelerator_ids(self) -> list[int]:
        """全部加速卡的序号。"""
        return sorted(index for name, ids in self.gres_ids.items() if name.split(":")[0] == "gpu" for index in ids)


class CorePool:
    """空闲的核与卡。线程安全：认领的线程取，收尾的线程还。键是（作业号，尝试）。"""

    def __init__(self, cores: Sequence[int], accelerators: Sequence[Accelerator]) -> None:
        self._lock = threading.Lock()
        self._binds_cores = bool(cores)
        self._free_cores = set(cores)
        self._models = {card.index: card.model for card in accelerators}
        self._free_cards = set(self._models)
        self._held: dict[tuple[int, int], Binding] = {}

    @property
    def binds(self) -> bool:
        """有没有核或卡可绑；没有就不必记。"""
        return self._binds_cores or bool(self._models)

    def take(self, owner: tuple[int, int], cpus: int, gres: Mapping[str, int]) -> Binding:
        """取 cpus 个核与所要的卡，尽量取相邻的；核不够（共享、声明得比实有的多）时不绑核。"""
        with self._lock:
            held = self._held.get(owner)
            if held is not None:
                return held
            cores = self._pick_cores(cpus)
            gres_ids = {name: ids for name, count in gres.items() if (ids := self._pick_cards(name, count))}
            binding = Binding(cores, gres_ids)
            self._hold(owner, binding)
            return binding

    def restore(self, owner: tuple[int, int], cpu_ids: Iterable[int] | None, gres_ids: Mapping[str, list[int]]) -> None:
        """代理重启后，按数据库里的记录重新占住正在运行的作业的核与卡。"""
        with self._lock:
            if owner not in self._held:
                self._hold(owner, Binding(tuple(cpu_ids) if cpu_ids is not None else None, dict(gres_ids)))

    def give_back(self, owner: tuple[int, int]) -> None:
        """归还；没有占用的什么也不做。"""
        with self._lock:
            binding = self._held.pop(owner, None)
            if binding is None:
                return
            if self._binds_cores:
                self._free_cores.update(binding.cpu_ids or ())
            self._free_cards.update(set(binding.accelerator_ids) & self._models.keys())

    def keep_only(self, owners: set[tuple[int, int]], job_ids: Sequence[int] | None) -> None:
        """归还不在 owners 里的；job_ids 不为 None 时只看这些作业的。"""
        with self._lock:
            gone = [owner for owner in self._held if owner not in owners and (job_ids is None or owner[0] in job_ids)]
        for owner in gone:
            self.give_back(owner)

    def _hold(self, owner: tuple[int, int], binding: Binding) -> None:
        self._held[owner] = binding
        self._free_cores.difference_update(binding.cpu_ids or ())
        self._free_cards.difference_update(binding.accelerator_ids)

    def _pick_cores(self, count: int) -> tuple[int, ...] | None:
        if not self._binds_cores or count <= 0 or count > len(self._free_cores):
            return None
        ordered = sorted(self._free_cores)
        # 相邻的核多半同在一个 NUMA 节点、共享缓存：取跨度最小的一段。
        best = min(range(len(ordered) - count + 1), key=lambda at: ordered[at + count - 1] - ordered[at])
        return tuple(ordered[best : best + count])

    def _pick_cards(self, name: str, count: int) -> list[int]:
        kind, _, model = name.partition(":")
        if kind != "gpu":
            return []
        fitting = sorted(index for index in self._free_cards if not model or self._models[index] == model)[:count]
        self._free_cards.difference_update(fitting)
        return fitting
