"""池（许可证、QOS 与关联的上限）怎么说：中文的名字与数目。纯函数。"""

from scns_conductor.scheduling.cluster import Cluster
from scns_conductor.scheduling.shape import LICENSE, Shape

_MINUTES = ("GrpTRESRunMins", "GrpTRESMins", "GrpWall")


def lacking_pool(cluster: Cluster, shape: Shape) -> str | None:
    """此刻第一个不够的池；都够是 None。"""
    return next((name for name, count in shape.pools if cluster.pools.get(name, 0) < count), None)


def pool_title(name: str) -> str:
    """qos:gold:MaxJobsPerUser:alice -> QOS gold 的上限 MaxJobsPerUser（alice）。"""
    if name.startswith(LICENSE):
        return f"许可证 {name.removeprefix(LICENSE)}"
    side, owner, limit, *rest = name.split(":", 3)
    title = f"{'QOS' if side == 'qos' else '关联'} {owner} 的上限 {limit}"
    return f"{title}（{rest[0].replace(':', '，')}）" if rest else title


def pool_amount(name: str, count: int) -> str:
    """池里的数目；按时间计的上限换成分钟（量 × 分钟）。"""
    if not any(f":{limit}" in name for limit in _MINUTES):
        return str(count)
    return f"{count / 60:.2f}".rstrip("0").rstrip(".") + " 分钟"
