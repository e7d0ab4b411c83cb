"""节点没有做到的约束与怎样补上：scns health、scns nodes NODE。"""

from typing import Any

REMEDY = (
    "修好说明里说的（见 docs/execution.md 的“约束”），再在那台机器上 kill -9 工作目录里 shepherd.lock 写着的牧守进程："
    "代理另起一个，接上运行中的作业"
)


def weak_nodes(containments: dict[str, Any]) -> list[str]:
    """一个没有做到的节点一句：哪些没有做到，用的是什么。"""
    return [
        f"{node}：{'、'.join(found['not_enforced'])}（{found.get('detail', '')}）"
        for node, found in containments.items()
        if isinstance(found, dict) and found.get("not_enforced")
    ]


def shortfall(containments: dict[str, Any]) -> str:
    """各节点没有做到的与怎样补上；都做到了是空的。"""
    weak = weak_nodes(containments)
    return "；".join([*weak, REMEDY]) if weak else ""
