"""一个作业的一次尝试是一条轨迹：提交、排队、计划、派发、认领、进程起来、运行、写下结束（OpenTelemetry）。

各进程互不传什么：轨迹的号由集群、作业号、第几次尝试算出，谁都算得出同一个。没有设 otel_endpoint 就什么也不导入。
"""

import hashlib
import logging
import threading
from typing import Any

logger = logging.getLogger(__name__)

MOST_SPANS_WAITING = 8192
FLUSH_MS = 2000


class Tracer:
    """process 是这个进程的名字；ratio 是留下几成轨迹（0–1）：同一条轨迹在哪个进程都一样取舍。"""

    def __init__(self, endpoint: str, cluster: str, process: str, ratio: float) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        class Chosen(IdGenerator):
            """平常是随机的；chosen 有值时用它（根的号）。"""

            def __init__(self) -> None:
                self.chosen: tuple[int, int] | None = None
                self._random = RandomIdGenerator()

            def generate_trace_id(self) -> int:
                assert self.chosen is not None
                return self.chosen[0]

            def generate_span_id(self) -> int:
                return self._random.generate_span_id() if self.chosen is None else self.chosen[1]

        self._cluster = cluster
        self._lock = threading.Lock()
        self._bound = int(ratio * 2**64)
        self._ids = Chosen()
        resource = Resource.create({"service.name": f"scns-{process}", "scns.cluster": cluster})
        # 取舍由这里按轨迹的号来，SDK 的都留。
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, sampler=ALWAYS_ON)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_SPANS_WAITING))
        self._tracer = self._provider.get_tracer("scns_conductor")

    def span(
        self, name: str, owner: tuple[int, int], begun_unix_s: float, ended_unix_s: float, **attributes: str | int
    ) -> None:
        """轨迹里的一段，owner 是（作业号，第几次尝试）。"""
        self._add(name, owner, begun_unix_s, ended_unix_s, attributes, root=False)

    def root(
        self, name: str, owner: tuple[int, int], begun_unix_s: float, ended_unix_s: float, **attributes: str | int
    ) -> None:
        """轨迹的根：从提交到结束；一条轨迹只有一个。"""
        self._add(name, owner, begun_unix_s, ended_unix_s, attributes, root=True)

    def _add(
        self, name: str, owner: tuple[int, int], begun: float, ended: float, attributes: dict[str, Any], *, root: bool
    ) -> None:
        trace_id, root_id = self._numbers(owner)
        if trace_id & (2**64 - 1) >= self._bound:
            return
        from opentelemetry import trace
        from opentelemetry.context import Context

        context = Context()
        if not root:
            parent = trace.SpanContext(trace_id, root_id, is_remote=True, trace_flags=trace.TraceFlags(1))
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
        given = {"scns.job_id": owner[0], "scns.attempt": owner[1], **attributes}
        with self._lock:
            self._ids.chosen = (trace_id, root_id) if root else None
            made = self._tracer.start_span(name, context, start_time=int(begun * 1e9), attributes=given)
        made.end(int(max(begun, ended) * 1e9))

    def _numbers(self, owner: tuple[int, int]) -> tuple[int, int]:
        digest = hashlib.sha256(f"{self._cluster}:{owner[0]}:{owner[1]}".encode()).digest()
        return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])

    def close(self) -> None:
        """送出还在手里的，至多等 FLUSH_MS；接收的一方不在也不拦着进程退出。"""
        self._provider.force_flush(FLUSH_MS)


def tracer_of(endpoint: str | None, cluster: str, process: str, ratio: float) -> Tracer | None:
    """没有设 endpoint、没有装库（记一行）是 None。"""
    if not endpoint:
        return None
    try:
        return Tracer(endpoint, cluster, process, ratio)
    except ImportError as error:
        logger.error("tracing_unavailable", extra={"error": str(error), "remedy": "pip install 'scns-conductor[otel]'"})
        return None
