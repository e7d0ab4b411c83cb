"""作业、历史、作业步、为什么、试排。"""

from datetime import datetime
from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, field, page_of, row_of
from scns_conductor.core.models import ALLOCATION_COLUMNS, EVENT_COLUMNS, Job, JobEvent, JobStep, ResourceAllocation

ALLOCATION = row_of(
    ResourceAllocation, "Allocation", omit=ResourceAllocation.model_fields.keys() - set(ALLOCATION_COLUMNS)
)
JOB = row_of(
    Job,
    "Job",
    # 用 fields 挑过的只有挑的那些。
    always=("job_id",),
    changed={
        "job_id": (str, None),
        "array_job_id": (str | None, None),
        "het_job_id": (str | None, None),
        "array_remaining": (str | None, "数组行里还没有启动的任务号，如 3-9,12"),
        "script": (str | None, "用户的整份脚本；只给本人与管理员"),
        "environment": (dict[str, str], "作业自己的环境变量；只给本人与管理员"),
        "argv": (list[str], "脚本的参数；只给本人与管理员"),
    },
    added={
        "exit_code": field(str | None, "退出码:信号，如 0:0；没有结束是 null", always=False),
        "allocations": field(list[ALLOCATION], "各次尝试在各节点上的分配；列表里没有", always=False),  # type: ignore[valid-type]
    },
)
JOB_PAGE = answer(
    "JobPage",
    "列表的一页。",
    {
        "jobs": field(list[JOB] | list[list[Any]], "作业；layout=rows 时各是一个数组，次序见 fields"),  # type: ignore[valid-type]
        "next_cursor": field(str | None, "下一页的 cursor；没有下一页是 null"),
        "fields": field(list[str], "layout=rows 时各个字段的名字", always=False),
    },
)
JOB_EVENT = row_of(JobEvent, "JobEvent", omit=JobEvent.model_fields.keys() - set(EVENT_COLUMNS))
JOB_EVENTS = page_of("JobEvents", "events", JOB_EVENT, "作业的历史，从早到晚")
JOB_STEP = row_of(
    JobStep,
    "JobStep",
    omit=("launch", "samples"),
    changed={"job_id": (str, None)},
    added={
        "step": field(str, "作业号.作业步号"),
        "layout": field(dict[str, list[int]], "各节点上的任务序号"),
        "node_list": field(str, "用到的节点，压缩写法"),
        "time_limit": field(int | None, "时限（秒）；null 是没有自己的时限"),
    },
)
JOB_STEPS = page_of("JobSteps", "steps", JOB_STEP, "作业步")
_SERIES = {
    "since": field(datetime, "第一格从何时起：作业开始的时刻"),
    "width_s": field(float, "一格多长（秒）"),
    "elapsed_s": field(float, "采样到了开始之后多久（秒）；最后一格可以不满"),
    "cpus": field(list[float], "各格里平均用了几个 CPU"),
    "memory_mb": field(list[int | None], "各格里内存的峰值（MiB；没有采到是 null）"),
    "gpus": field(list[float] | None, "各格里平均忙着几块 GPU；没有 GPU、不知道是 null"),
    "gpu_memory_mb": field(list[int | None] | None, "各格里显存的峰值（MiB；没有 GPU、不知道是 null）"),
    "gpu_energy_j": field(float | None, "各块 GPU 至今的能耗合计（焦耳；不知道是 null）"),
}
SAMPLE_SERIES = answer("SampleSeries", "用量随时间的变化：等长的几格。", _SERIES)
NODE_SAMPLES = answer("NodeSamples", "一个节点上的。", {"node_name": field(str, "节点"), **_SERIES})
JOB_SAMPLES = answer(
    "JobSamples",
    "一个作业的用量随时间怎样变化。",
    {
        "job_id": field(str, "作业号"),
        "restart_count": field(int, "第几次尝试"),
        "running": field(bool, "这次尝试还在运行"),
        "total": field(SAMPLE_SERIES | None, "各节点合在一起的；没有采到是 null"),
        "nodes": field(list[NODE_SAMPLES], "各节点的"),  # type: ignore[valid-type]
    },
)
HOLDER = answer(
    "Holder",
    "占着所缺的东西的运行中的作业。",
    {
        "job_id": field(str, "作业号"),
        "user_name": field(str | None, "谁的"),
        "nodes": field(list[str], "占着的节点"),
        "amount": field(int, "占着的数目（许可证、上限）"),
        "expected_end_time": field(datetime | None, "预计结束；不限时、挂起了是 null"),
        "suspended": field(bool, "挂起了"),
        "suspended_by": field(str | None, "谁挂起的"),
    },
)
SUGGESTION = answer(
    "Suggestion",
    "一个能更早开始的改法。",
    {
        "text": field(str, "怎样改"),
        "changes": field(dict[str, Any], "PATCH /jobs/{job_id} 的字段"),
        "start_time": field(datetime | None, "改了之后预计的开始"),
        "good_until": field(datetime | None, "最晚何时改还能立即开始；null 是没有尽头，或不是立即开始"),
    },
)
SCHEDULED = answer(
    "Scheduled",
    "一个受阻的作业的计划。",
    {
        "job_id": field(str, "作业号"),
        "user_name": field(str, "谁的"),
        "start_time": field(datetime, "预计开始"),
        "end_time": field(datetime | None, "至迟结束；不限时是 null"),
        "nodes": field(list[str], "在哪些节点"),
        "cpus": field(int, "几个 CPU"),
    },
)
SCHEDULE = page_of("Schedule", "schedule", SCHEDULED, "调度器的计划，按预计开始的先后")
ScheduleAnswer = Annotated[dict[str, Any], Shown(SCHEDULE)]
LIMIT = answer(
    "Limit",
    "一个不够的许可证或上限。",
    {
        "reason": field(str, "Slurm 的原因码"),
        "name": field(str, "名字"),
        "needed": field(int, "要多少"),
        "left": field(int, "还剩多少"),
        "total": field(int, "总共多少"),
        "free_at": field(datetime | None, "预计何时够；许可证、说不准的是 null"),
        "holders": field(list[HOLDER], "谁占着"),  # type: ignore[valid-type]
    },
)
WHY = answer(
    "Why",
    "作业为什么还没有开始；不在排队的只有前四项与 wait_breakdown。",
    {
        "job_id": field(str, "作业号，照问的写法"),
        "state": field(str, "状态"),
        "reason": field(str, "Slurm 的原因码"),
        "text": field(str, "给人看的说明"),
        "wait_breakdown": field(
            dict[str, float] | None, "不在排队的：等待花在各个原因上多久（秒），None 是等调度的那一会儿", always=False
        ),
        "expected_start_time": field(datetime | None, "预计何时开始；说不准是 null", always=False),
        "expected_end_time": field(datetime | None, "预计何时结束", always=False),
        "expected_kind": field(str | None, "latest：至迟；estimate：只是估计", always=False),
        "probable_start_time": field(
            datetime | None, "多半何时开始：照历史预测的运行时间；没有历史、不比预计的早是 null", always=False
        ),
        "latest_start_time": field(datetime | None, "赶不上期限的：最晚要何时开始", always=False),
        "nodes": field(list[str], "预计用到的节点", always=False),
        "jobs_ahead": field(list[str], "排在前面、与它争的作业号，至多 20 个", always=False),
        "jobs_ahead_count": field(int, "排在前面、与它争的有几个", always=False),
        "waiting_for": field(list[HOLDER], "在等哪些作业结束", always=False),  # type: ignore[valid-type]
        "shortages": field(list[str], "缺什么、缺多少", always=False),
        "reservations": field(list[dict[str, Any]], "碰到的预留：{name, start_time, end_time}", always=False),
        "limits": field(list[LIMIT], "不够的许可证与上限", always=False),  # type: ignore[valid-type]
        "suggestions": field(list[SUGGESTION], "怎样能更早开始", always=False),  # type: ignore[valid-type]
    },
)
PLAN = answer(
    "Plan",
    "试排的结果：假如现在提交。",
    {
        "start_time": field(datetime | None, "何时开始；不能启动是 null"),
        "nodes": field(list[str], "在哪些节点上"),
        "cpus": field(int, "占几个 CPU；不能启动时没有", always=False),
        "reason": field(str, "Slurm 的原因码"),
        "text": field(str | None, "给人看的说明；立即能开始的没有"),
        "preempts": field(list[str], "会抢占哪些作业"),
        "firm": field(bool, "start_time 是至迟的时刻（否则只是估计）"),
    },
)

EventsAnswer = Annotated[dict[str, Any], Shown(JOB_EVENTS)]
SamplesAnswer = Annotated[dict[str, Any], Shown(JOB_SAMPLES)]
WhyAnswer = Annotated[dict[str, Any], Shown(WHY)]
PlanAnswer = Annotated[dict[str, Any], Shown(PLAN)]
StepAnswer = Annotated[dict[str, Any], Shown(JOB_STEP)]
StepsAnswer = Annotated[dict[str, Any], Shown(JOB_STEPS)]
