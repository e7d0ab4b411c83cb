"""作业、历史、作业步、为什么、试排。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, answer, described, field, page_of, row_of
from scns_conductor.core.answers.jobs import (
    Holder,
    JobSamples,
    Limit,
    NodeSamples,
    Plan,
    SampleSeries,
    Schedule,
    Scheduled,
    Suggestion,
    Why,
)
from scns_conductor.core.models import ALLOCATION_COLUMNS, EVENT_COLUMNS, Job, JobEvent, JobStep, ResourceAllocation

ALLOCATION = row_of(
    ResourceAllocation, "Allocation", omit=ResourceAllocation.model_fields.keys() - set(ALLOCATION_COLUMNS)
)
JOB = row_of(
    Job,
    "Job",
    omit=("array_listed",),
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
        "reserved_ports": field(list[int] | None, "保留的通信端口；没有要的是 null"),
    },
)
JOB_STEPS = page_of("JobSteps", "steps", JOB_STEP, "作业步")
SAMPLE_SERIES = described(SampleSeries)
NODE_SAMPLES = described(NodeSamples)
JOB_SAMPLES = described(JobSamples)
HOLDER = described(Holder)
SUGGESTION = described(Suggestion)
SCHEDULED = described(Scheduled)
SCHEDULE = described(Schedule)
ScheduleAnswer = Annotated[Schedule, Shown(SCHEDULE)]
LIMIT = described(Limit)
WHY = described(Why)
PLAN = described(Plan)
EventsAnswer = Annotated[dict[str, Any], Shown(JOB_EVENTS)]
SamplesAnswer = Annotated[JobSamples, Shown(JOB_SAMPLES)]
WhyAnswer = Annotated[Why, Shown(WHY)]
PlanAnswer = Annotated[Plan, Shown(PLAN)]
StepAnswer = Annotated[dict[str, Any], Shown(JOB_STEP)]
StepsAnswer = Annotated[dict[str, Any], Shown(JOB_STEPS)]
