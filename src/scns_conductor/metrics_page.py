"""一个进程自己的指标页：GET /metrics，Prometheus 的文字格式，在自己的线程里答。没有要监听就连库也不导入。"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scns_conductor.timing import Timing, Trouble

# 端口写 0 的，实际的地址写在数据目录的这个文件夹里：Prometheus 的 file_sd 认得。
FOLDER = "metrics"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Metric:
    """一个指标：values 是标签 label 的值 -> 数（gauge、counter）或 Timing（histogram）；没有标签的键是空的。

    标签的值要有限：没有作业号，没有用户。
    """

    name: str
    text: str
    kind: str
    values: Mapping[str, float] | Mapping[str, Timing]
    label: str = ""


def gauge(name: str, text: str, value: float) -> Metric:
    """没有标签的一个数。"""
    return Metric(name, text, "gauge", {"": value})


def counter(name: str, text: str, value: float) -> Metric:
    """只增不减的一个数；名字不带 _total。"""
    return Metric(name, text, "counter", {"": value})


def histogram(name: str, text: str, value: Timing) -> Metric:
    """没有标签的一个直方图。"""
    return Metric(name, text, "histogram", {"": value})


def trouble(name: str, text: str, value: Trouble) -> tuple[Metric, Metric]:
    """一件会失败的事：name_seconds 与 name_errors_total。"""
    return (
        histogram(f"{name}_seconds", f"{text}（秒）", value.seconds),
        counter(f"{name}_errors", f"{text}：失败了几次", value.failures),
    )


def serve_metrics(
    listen: str, name: str, collect: Callable[[], Iterable[Metric]], *, data_dir: Path, labels: Mapping[str, str]
) -> str | None:
    """在 listen（主机:端口；空的是不开）上答；返回实际的地址。听不了只记一行：指标不能拖累正事。

    name 是这个进程的名字（agent-node1），labels 写进 data_dir/metrics/name.json，给 file_sd。
    """
    if not listen:
        return None
    from prometheus_client import REGISTRY, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector

    def family(metric: Metric) -> Any:
        kinds = {"histogram": HistogramMetricFamily, "counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        made: Any = kinds[metric.kind](metric.name, metric.text, labels=[metric.label] if metric.label else [])
        for name, value in metric.values.items():
            given = (_cumulative(value), value.total) if isinstance(value, Timing) else (value,)
            made.add_metric([name] if metric.label else [], *given)
        return made

    class Collected(Collector):
        def collect(self) -> Iterable[Any]:
            return [family(metric) for metric in collect()]

        def describe(self) -> Iterable[Any]:
            # 登记时不必采集一遍。
            return []

    host, _, port = listen.rpartition(":")
    try:
        REGISTRY.register(Collected())
        server, _thread = start_http_server(int(port), host.strip("[]"))
        address = f"{host}:{server.server_port}"
        if int(port) == 0:
            _tell(data_dir / FOLDER / f"{name}.json", address, labels)
    except (OSError, ValueError, OverflowError) as error:
        logger.error("metrics_not_served", extra={"listen": listen, "error": str(error)})
        return None
    logger.info("metrics_served", extra={"address": address})
    return address


def _cumulative(value: Timing) -> list[tuple[str, float]]:
    found, seen = [], 0
    for bound, count in zip((*map(str, value.bounds), "+Inf"), list(value.counts), strict=True):
        seen += count
        found.append((bound, float(seen)))
    return found


def _tell(path: Path, address: str, labels: Mapping[str, str]) -> None:
    """file_sd 的一个文件；先写好再改名，Prometheus 读到的总是完整的。"""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps([{"targets": [address], "labels": dict(labels)}]))
    draft.rename(path)
