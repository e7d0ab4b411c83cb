"""池（许可证、QOS 与关联的上限）不够时怎么说：中文，写明是哪一个、要多少、还剩多少。纯函数。"""

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.shape import LICENSE, Shape

_MINUTES = ("GrpTRESRunMins", "GrpTRESMins", "GrpWall")


def lacking_pool(cluster: Cluster, shape: Shape) -> tuple[str, int, int] | None:
    """此刻第一个不够的池：（名字，要多少，还剩多少）；都够是 None。"""
    for name, count in shape.pools:
        left = cluster.pools.get(name, 0)
        if left < count:
            return name, count, max(0, left)
    return None


def pool_title(name: str) -> str:
    """qos:gold:MaxJobsPerUser:alice -> QOS gold 的上限 MaxJobsPerUser（alice）。"""
    if name.startswith(LICENSE):
        return f"许可证 {name.removeprefix(LICENSE)}"
    side, owner, limit, *rest = name.split(":", 3)
    title = f"{'QOS' if side == 'qos' else '关联'} {owner} 的上限 {limit}"
    return f"{title}（{rest[0].replace(':', '，')}）" if rest else title


def shortage_text(name: str, count: int, left: int) -> str:
    """哪一个池、要多少、还剩多少。"""
    title = pool_title(name)
    if not any(f":{limit}" in name for limit in _MINUTES):
        return f"{title}：要 {count}，只剩 {left}"
    if count <= 1:
        return f"{title}用完了"
    return f"{title}：要 {count / 60:g} 分钟，只剩 {left / 60:g} 分钟"
