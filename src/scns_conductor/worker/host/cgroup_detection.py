"""探测：这台机器上用得了哪一种 cgroup。"""

from __future__ import annotations

from scns_conductor.worker.host import cgroup_v1, cgroup_v2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scns_conductor.worker.host.cgroup import CgroupTree


def detect(node_path: str) -> tuple[CgroupTree | None, str]:
    """找到可用的 cgroup，返回（子树，说明）；用不了时子树为 None，说明是中文原因。

    v1 的控制器优先：混合挂载时 v2 里没有控制器。两者都没有写权限时返回 None。
    """
    reasons = []
    for module in (cgroup_v1, cgroup_v2):
        try:
            tree = module.detect(node_path)
        except OSError as error:
            reasons.append(f"{error.strerror}（{error.filename}）" if error.filename else str(error))
            continue
        if tree is not None:
            return tree, f"cgroup v{tree.version}：{'、'.join(sorted(tree.controllers))}"
    return None, "没有可用的 cgroup：" + ("；".join(reasons) or "没有挂载")
