"""节点代理的指标页。"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from scns_conductor.metrics_page import Metric, gauge, histogram, serve_metrics, trouble
from scns_conductor.worker.agent.devices import NodeInventory, free_memory_mb
from scns_conductor.worker.agent.own_disks import OwnDisks
from scns_conductor.worker.agent.timings import AgentTimings

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

MIB = 1024**2


def serve(
    *,
    settings: "Settings",
    inventory: NodeInventory,
    disks: OwnDisks,
    timings: AgentTimings,
    pending: Callable[[], int],
    parked: Callable[[], int],
) -> None:
    """照设置监听；没有要就什么也不做。pending 是还没有写进数据库的结束，parked 是数据库收不下的。"""

    def collect() -> Iterator[Metric]:
        yield gauge("scns_agent_jobs", "牧守进程手里的作业", timings.jobs)
        yield gauge("scns_agent_steps", "牧守进程手里的作业步", timings.steps)
        yield gauge("scns_agent_ends_unacknowledged", "牧守进程报了、还没有确认的结束", timings.unacknowledged)
        yield gauge("scns_agent_ends_pending", "还没有写进数据库的结束", pending())
        yield gauge("scns_agent_ends_parked", "数据库收不下、停放着的结束", parked())
        yield Metric("scns_agent_ends", "写进数据库的结束", "counter", dict(timings.ends), "state")
        yield Metric("scns_agent_messages", "总线上收到的消息", "counter", dict(timings.messages), "function")
        yield histogram("scns_agent_dispatch_seconds", "写下启动到本节点认领多久（秒）", timings.dispatch)
        yield histogram(
            "scns_agent_spawn_seconds", "送去牧守进程到进程起来多久（秒）；次数就是启动了几个", timings.spawn
        )
        yield from trouble("scns_agent_commit", "一批结束写进数据库多久", timings.commit)
        yield from trouble("scns_agent_database", "数据库的语句多久", timings.database)
        yield from _host(settings, inventory, disks)

    serve_metrics(
        settings.agent_metrics,
        f"agent-{settings.node_name}",
        collect,
        data_dir=settings.data_dir,
        labels={"process": "agent", "node": settings.node_name},
    )


def _host(settings: "Settings", inventory: NodeInventory, disks: OwnDisks) -> Iterator[Metric]:
    yield gauge("scns_node_cpus", "登记的 CPU 数", inventory.cpus)
    yield gauge("scns_node_gpus", "登记的 GPU 数", len(inventory.accelerators))
    yield gauge("scns_node_load", "一分钟的平均负载", os.getloadavg()[0])
    yield gauge("scns_node_memory_bytes", "登记的内存", inventory.memory_mb * MIB)
    yield gauge("scns_node_memory_available_bytes", "此刻可用的内存", free_memory_mb() * MIB)
    free = {name: float(bytes_) for name, bytes_ in disks.free_bytes().items()}
    yield Metric("scns_node_disk_free_bytes", "节点自己的目录所在的盘还有多少", "gauge", free, "folder")
