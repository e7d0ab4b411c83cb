"""调度器的指标页。"""

from collections.abc import Iterator

from scns_conductor.metrics_page import Metric, counter, gauge, histogram, serve_metrics, trouble
from scns_conductor.worker.scheduler.state import SchedulerState


def serve(state: SchedulerState) -> None:
    """照设置监听；没有要就什么也不做。"""
    settings = state.settings
    serve_metrics(
        settings.scheduler_metrics,
        "scheduler",
        lambda: _collect(state),
        data_dir=settings.data_dir,
        labels={"process": "scheduler"},
    )


def _collect(state: SchedulerState) -> Iterator[Metric]:
    timings, statistics, memory = state.timings, state.statistics, state.memory
    yield gauge("scns_scheduler_leading", "这个进程是不是领导者", float(state.leading))
    yield gauge("scns_scheduler_jobs_waiting", "记忆里排队的作业，数组算一个", len(memory.waiting))
    yield gauge("scns_scheduler_jobs_running", "记忆里运行中的作业", len(memory.cluster.running))
    yield gauge("scns_scheduler_rows_locked", "被别的会话锁着、只好绕开的行", len(state.locked.jobs))
    yield counter("scns_scheduler_process_repaired", "核对时修正了的作业", statistics.repaired)
    yield histogram("scns_scheduler_cycle_seconds", "一个周期从头到尾多久（秒）", timings.cycle)
    yield Metric("scns_scheduler_phase_seconds", "各步多久（秒）", "histogram", timings.phases, "phase")
    yield histogram("scns_scheduler_starts", "一个周期启动了几个作业", timings.starts)
    yield histogram("scns_scheduler_job_wait_seconds", "启动了的作业等了多久（秒；--begin 之前的不算）", timings.waits)
    yield from trouble("scns_scheduler_database", "数据库的语句多久", timings.database)
    yield from trouble("scns_scheduler_bus", "送一次消息多久", timings.bus)
