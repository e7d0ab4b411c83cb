"""作业的用量、为什么、试排、计划。"""

from typing import Annotated, Any, NotRequired, TypedDict

from scns_conductor.core.answers.writing import PLAIN, Moment


class SampleSeries(TypedDict):
    """用量随时间的变化：等长的几格。"""

    since: Annotated[Moment, "第一格从何时起：作业开始的时刻"]
    width_s: Annotated[float, "一格多长（秒）"]
    elapsed_s: Annotated[float, "采样到了开始之后多久（秒）；最后一格可以不满"]
    cpus: Annotated[list[float], "各格里平均用了几个 CPU"]
    memory_mb: Annotated[list[int | None], "各格里内存的峰值（MiB；没有采到是 null）"]
    gpus: Annotated[list[float] | None, "各格里平均忙着几块 GPU；没有 GPU、不知道是 null"]
    gpu_memory_mb: Annotated[list[int | None] | None, "各格里显存的峰值（MiB；没有 GPU、不知道是 null）"]
    gpu_energy_j: Annotated[float | None, "各块 GPU 至今的能耗合计（焦耳；不知道是 null）"]


class NodeSamples(SampleSeries):
    """一个节点上的。"""

    node_name: Annotated[str, "节点"]


class JobSamples(TypedDict):
    """一个作业的用量随时间怎样变化。"""

    job_id: Annotated[str, "作业号"]
    restart_count: Annotated[int, "第几次尝试"]
    running: Annotated[bool, "这次尝试还在运行"]
    total: Annotated[SampleSeries | None, "各节点合在一起的；没有采到是 null"]
    nodes: Annotated[list[NodeSamples], "各节点的"]


class Holder(TypedDict):
    """占着所缺的东西的运行中的作业。"""

    job_id: Annotated[str, "作业号"]
    user_name: Annotated[str | None, "谁的"]
    nodes: Annotated[list[str], "占着的节点"]
    amount: Annotated[int, "占着的数目（许可证、上限）"]
    expected_end_time: Annotated[Moment | None, "预计结束；不限时、挂起了是 null"]
    suspended: Annotated[bool, "挂起了"]
    suspended_by: Annotated[str | None, "谁挂起的"]


class Suggestion(TypedDict):
    """一个能更早开始的改法。"""

    text: Annotated[str, "怎样改，改了何时能开始"]
    summary: Annotated[str, "只说怎样改"]
    changes: Annotated[dict[str, Any], "PATCH /jobs/{job_id} 的字段"]
    start_time: Annotated[Moment | None, "改了之后预计的开始"]
    expected_kind: Annotated[str, "latest：至迟；estimate：只是估计"]
    good_until: Annotated[Moment | None, "最晚何时改还能立即开始；null 是没有尽头，或不是立即开始"]


class Need(TypedDict):
    """缺资源的作业的一样资源。"""

    name: Annotated[str, "cpu、memory，或 GRES 的名字"]
    needed: Annotated[int, "要多少；内存的单位是 MiB"]
    free: Annotated[int, "空着多少：在一个节点上运行的是最接近的那个节点的，否则是合用的节点合计的"]


class Scheduled(TypedDict):
    """一个受阻的作业的计划。"""

    job_id: Annotated[str, "作业号"]
    name: Annotated[str, "作业名"]
    user_name: Annotated[str, "谁的"]
    start_time: Annotated[Moment, "预计开始"]
    end_time: Annotated[Moment | None, "那时开始、跑满时限的结束；不限时是 null"]
    nodes: Annotated[list[str], "在哪些节点"]
    cpus: Annotated[int, "几个 CPU"]


class Schedule(TypedDict):
    """调度器的计划，按预计开始的先后"""

    schedule: Annotated[list[Scheduled], "调度器的计划，按预计开始的先后"]


class Met(TypedDict):
    """碰到的一个预留。"""

    name: str
    start_time: Moment | None
    end_time: Moment | None


class Limit(TypedDict):
    """一个不够的许可证或上限。"""

    reason: Annotated[str, "Slurm 的原因码"]
    name: Annotated[str, "名字"]
    needed: Annotated[int, "要多少"]
    left: Annotated[int, "还剩多少"]
    total: Annotated[int, "总共多少"]
    free_at: Annotated[Moment | None, "预计何时够；许可证、说不准的是 null"]
    holders: Annotated[list[Holder], "谁占着"]


class TimeSlices(TypedDict):
    """与别的作业轮流用 CPU 的分区此刻的样子。"""

    partition: Annotated[str, "分区"]
    time_slice_s: Annotated[float, "时间片（秒）"]
    most: Annotated[int, "一个 CPU 至多分给几个作业"]
    next_turn_time: Annotated[Moment | None, "下一次何时换"]
    active: Annotated[list[Holder], "正在用的"]
    parked: Annotated[list[Holder], "停着等的"]


class Explained(TypedDict):
    """调度器说一个排队的作业为什么还没有开始；它的队列里没有的只有 reason、text、suggestions。"""

    reason: Annotated[str, "Slurm 的原因码"]
    text: Annotated[str, "给人看的说明"]
    expected_start_time: NotRequired[Annotated[Moment | None, "预计何时开始；说不准是 null"]]
    expected_end_time: NotRequired[Annotated[Moment | None, "预计何时结束"]]
    expected_kind: NotRequired[Annotated[str | None, "latest：至迟；estimate：只是估计"]]
    probable_start_time: NotRequired[
        Annotated[Moment | None, "多半何时开始：照历史预测的运行时间；没有历史、不比预计的早是 null"]
    ]
    latest_start_time: NotRequired[Annotated[Moment | None, "赶不上期限的：最晚要何时开始"]]
    nodes: NotRequired[Annotated[list[str], "预计用到的节点"]]
    jobs_ahead: NotRequired[Annotated[list[str], "排在前面、与它争的作业号，至多 20 个"]]
    jobs_ahead_count: NotRequired[Annotated[int, "排在前面、与它争的有几个"]]
    waiting_for: NotRequired[Annotated[list[Holder], "在等哪些作业结束"]]
    shortages: NotRequired[Annotated[list[str], "缺什么、缺多少"]]
    resources: NotRequired[Annotated[list[Need], "缺资源的：各样要多少、空着多少"]]
    reservations: NotRequired[Annotated[list[Met], "碰到的预留：{name, start_time, end_time}", PLAIN]]
    limits: NotRequired[Annotated[list[Limit], "不够的许可证与上限"]]
    time_slices: NotRequired[Annotated[TimeSlices, "轮流用 CPU 的才有"]]
    preempts: NotRequired[Annotated[list[str], "会抢占哪些作业；抢不到的没有"]]
    preempts_from: NotRequired[Annotated[Moment | None, "从何时起许抢占它们（它们要先运行满豁免的时间）"]]
    resume_time: NotRequired[Annotated[Moment | None, "停着的作业大约何时接着走；说不准是 null"]]
    suggestions: NotRequired[Annotated[list[Suggestion], "怎样能更早开始"]]


class Why(Explained):
    """作业为什么还没有开始；不在排队的只有 job_id、state、reason、text 与 wait_breakdown。"""

    job_id: Annotated[str, "作业号，照问的写法"]
    state: Annotated[str, "状态"]
    wait_breakdown: NotRequired[
        Annotated[dict[str, float] | None, "不在排队的：等待花在各个原因上多久（秒），None 是等调度的那一会儿"]
    ]


class Plan(TypedDict):
    """试排的结果：假如现在提交。"""

    start_time: Annotated[Moment | None, "何时开始；不能启动是 null"]
    nodes: Annotated[list[str], "在哪些节点上"]
    cpus: NotRequired[Annotated[int, "占几个 CPU；不能启动时没有"]]
    reason: Annotated[str, "Slurm 的原因码"]
    text: Annotated[str | None, "给人看的说明；立即能开始的没有"]
    preempts: Annotated[list[str], "会抢占哪些作业"]
    endless: Annotated[list[str], "在等的没有尽头的作业（不限时的、挂起的）；因为它们说不准何时"]
    firm: Annotated[bool, "start_time 是至迟的时刻（否则只是估计）"]
