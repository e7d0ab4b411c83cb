"""接力的链：一条链上的作业都在运行，份额只有一份——先到的占着，它结束了归下一个（docs/decisions/0011-relay.md）。"""

from dataclasses import dataclass, field, replace

from scns_conductor.scheduling.cluster_facts import NodeShare

Shares = tuple[NodeShare, ...]


@dataclass(slots=True)
class RelayChains:
    """链 -> 链上还没有结束的，先占着份额的在前，各自要的份额。"""

    _members: dict[int, dict[int, Shares]] = field(default_factory=dict)
    _chain_of: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._members) + len(self._chain_of)

    def clear(self) -> None:
        """全忘掉。"""
        self._members.clear()
        self._chain_of.clear()

    def join(self, job_id: int, chain: int, shares: Shares) -> Shares:
        """job_id 在链上，要的是 shares；返回它此刻占着的：前面还有别的就是零。"""
        members = self._members.setdefault(chain, {})
        members.setdefault(job_id, shares)
        self._chain_of[job_id] = chain
        if next(iter(members)) == job_id:
            return shares
        return tuple(replace(share, cpus=0, memory=0) for share in shares)

    def wanted(self, job_id: int) -> Shares | None:
        """它要的份额（此刻也许还没有轮到）；不在链上的是 None。"""
        chain = self._chain_of.get(job_id)
        return None if chain is None else self._members[chain][job_id]

    def leave(self, job_id: int) -> tuple[int, Shares] | None:
        """它结束了：它占着的归谁，是多少；没有占着、后面没有了的是 None。"""
        chain = self._chain_of.pop(job_id, None)
        if chain is None:
            return None
        members = self._members[chain]
        held = next(iter(members)) == job_id
        del members[job_id]
        if not members:
            del self._members[chain]
            return None
        return next(iter(members.items())) if held else None
