"""调度器算出来的统计（sdiag、GET /diag、slurmrestd 的 diag）。"""

from typing import TypedDict


class SchedulingFigures(TypedDict):
    """键同 slurmrestd 的 statistics；时长是微秒，req_time 与 bf_when_last_cycle 是 Unix 秒，其余是个数。"""

    req_time: int
    req_time_start: int
    schedule_cycle_max: int
    schedule_cycle_last: int
    schedule_cycle_total: int
    schedule_cycle_mean: int
    schedule_cycle_mean_depth: int
    schedule_cycle_per_minute: int
    schedule_queue_length: int
    jobs_started: int
    jobs_repaired: int
    bf_backfilled_jobs: int
    bf_last_backfilled_jobs: int
    bf_backfilled_het_jobs: int
    bf_cycle_counter: int
    bf_cycle_mean: int
    bf_depth_mean: int
    bf_depth_mean_try: int
    bf_cycle_last: int
    bf_cycle_max: int
    bf_last_depth: int
    bf_last_depth_try: int
    bf_queue_len: int
    bf_queue_len_mean: int
    bf_table_size: int
    bf_table_size_mean: int
    bf_when_last_cycle: int
    bf_active: bool
