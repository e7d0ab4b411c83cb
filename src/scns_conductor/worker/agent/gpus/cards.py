"""本节点此刻的卡，与作业怎样看见它们。卡变了（不见了、MIG 重新划分）就整个换掉。"""

from collections.abc import Callable, Sequence

from scns_conductor.worker.agent.gpus.card import Accelerator

# 厂商 -> 作业里说看得见哪几块的变量；none 是声明的、没有设备的。
VARIABLES = {
    "nvidia": "CUDA_VISIBLE_DEVICES",
    "none": "CUDA_VISIBLE_DEVICES",
    "amd": "ROCR_VISIBLE_DEVICES",
    "ascend": "ASCEND_RT_VISIBLE_DEVICES",
}


class Cards:
    """confined 说设备此刻有没有被 cgroup 圈住：圈住的作业里，驱动只数得到自己的卡，从 0 数起。"""

    def __init__(self, cards: Sequence[Accelerator] = (), confined: Callable[[], bool] = lambda: False) -> None:
        self._confined = confined
        self._by_index: dict[int, Accelerator] = {}
        self.replace(cards)

    def replace(self, cards: Sequence[Accelerator]) -> None:
        """换成这些。"""
        self._by_index = {card.index: card for card in cards}

    @property
    def all(self) -> tuple[Accelerator, ...]:
        """全部的卡。"""
        return tuple(self._by_index.values())

    @property
    def relative(self) -> bool:
        """作业里的序号是不是从自己的第一块数起（srun(1) 的 --gpu-bind=map_gpu 也照它）。"""
        return any(card.devices for card in self._by_index.values()) and self._confined()

    def variables(self, mine: Sequence[int], seen: Sequence[int]) -> dict[str, str]:
        """作业的卡是 mine，其中看得见 seen：各家的变量。本节点有而一块也看不见的写成空，免得无意中用了别人的。"""
        relative = self.relative
        words: dict[str, list[str]] = {VARIABLES[card.vendor]: [] for card in self._by_index.values()}
        for index in seen:
            card = self._by_index.get(index)
            if card is not None:
                own = [each for each in mine if self._variable_of(each) == VARIABLES[card.vendor]]
                word = card.visible or str(index)
                if word.isdigit() and relative and card.devices and index in own:
                    word = str(own.index(index))
                words[VARIABLES[card.vendor]].append(word)
            elif len(words) == 1:
                # 刚刚不见了的、--gpu-bind 里写的别的号：照写。
                next(iter(words.values())).append(str(index))
        return {name: ",".join(listed) for name, listed in words.items()}

    def denied(self, mine: Sequence[int]) -> list[str]:
        """作业碰不得的设备：别的卡的；几个 MIG 实例在一块卡上，卡的设备是公用的。"""
        own = {rule for index in mine if index in self._by_index for rule in self._by_index[index].devices}
        every = dict.fromkeys(rule for card in self._by_index.values() for rule in card.devices)
        return [rule for rule in every if rule not in own]

    def _variable_of(self, index: int) -> str | None:
        card = self._by_index.get(index)
        return None if card is None else VARIABLES[card.vendor]
