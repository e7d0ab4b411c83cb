"""资格：放置之前就能断定此刻不能启动的原因（squeue(1) 的 JOB REASON CODES）。纯函数。"""

from collections.abc import Mapping
from dataclasses import dataclass

from scns_conductor.core.dependency import Outcome
from scns_conductor.core.states import HOLD_REASONS
from scns_conductor.core.units import format_duration
from scns_conductor.scheduling.advance import AdvanceReservation, Refusal, admission
from scns_conductor.scheduling.cluster_facts import PartitionFacts

# 为什么启动失败由节点写在作业的 error_msg 里。
_HOLD_WORDS = {"launch_failed": "启动失败，重新排队并保留；查明 error_msg 里的原因之后放行（scns release）"}


@dataclass(frozen=True, slots=True)
class Request:
    """与资格有关的要求；时刻是 Unix 秒，时长是秒。"""

    hold: str | None
    begin_time: float | None
    deadline: float | None
    dependency: Outcome | None
    partitions: tuple[str, ...]
    account: str | None
    qos: str | None
    time_limit_s: float | None
    minimum_nodes: int
    user: str = ""
    reservation: str | None = None
    time_minimum_s: float | None = None
    # 还等着哪些作业（依赖）。
    waiting_for: tuple[int, ...] = ()

    @property
    def reservations(self) -> tuple[str, ...]:
        """指名的预留，先写的先试。"""
        return () if self.reservation is None else tuple(self.reservation.split(","))

    @property
    def latest_start(self) -> float | None:
        """晚于它开始就来不及在期限之前做完（Unix 秒）；没有期限是 None。"""
        return None if self.deadline is None else self.deadline - (self.time_minimum_s or self.time_limit_s or 0)


@dataclass(frozen=True, slots=True)
class Ineligible:
    """为什么还不能排；wake_at 是到时要再看的时刻（Unix 秒）。"""

    reason: str
    message: str | None = None
    wake_at: float | None = None


def ineligible(
    request: Request,
    partitions: Mapping[str, PartitionFacts],
    now: float,
    reservations: Mapping[str, AdvanceReservation] | None = None,
) -> Ineligible | None:
    """不能排的原因；可以排是 None。列了多个分区的，有一个可以就可以。"""
    if request.hold is not None:
        return Ineligible(
            HOLD_REASONS.get(request.hold, "JobHeldUser"), _HOLD_WORDS.get(request.hold, "被保留，等待放行")
        )
    if request.begin_time is not None and request.begin_time > now:
        return Ineligible("BeginTime", "还没有到要求的开始时刻", request.begin_time)
    if request.dependency is Outcome.NEVER:
        return Ineligible("DependencyNeverSatisfied", "所依赖的作业不会有要求的结局了；请取消，或改依赖")
    if request.dependency is Outcome.WAITING:
        return Ineligible("Dependency", _waiting_for(request.waiting_for))
    if request.latest_start is not None and request.latest_start < now:
        return Ineligible("Deadline", "已来不及在期限之前做完")
    if request.reservation is not None:
        admitted = admission(
            reservations or {}, request.reservations, request.user, request.account, request.time_limit_s, now
        )
        if isinstance(admitted, Refusal):
            return Ineligible("Reservation", admitted.message, admitted.wake_at)
    if open_partitions(request, partitions):
        return None
    return _partition_refuses(request, partitions.get(request.partitions[-1]), request.partitions[-1])


def open_partitions(request: Request, partitions: Mapping[str, PartitionFacts]) -> tuple[str, ...]:
    """列出的分区里，此刻许这个作业启动的。"""
    return tuple(name for name in request.partitions if _partition_refuses(request, partitions.get(name), name) is None)


def _waiting_for(job_ids: tuple[int, ...]) -> str:
    if not job_ids:
        return "等待同名的作业（singleton）"
    shown = "、".join(map(str, job_ids[:5]))
    return f"等待所依赖的作业 {shown}" + (f" 等 {len(job_ids)} 个" if len(job_ids) > 5 else "")


def _partition_refuses(request: Request, partition: PartitionFacts | None, name: str) -> Ineligible | None:
    if partition is None:
        return Ineligible("PartitionConfig", f"分区 {name} 已不存在；请用 scns update 换一个分区")
    if not partition.up:
        return Ineligible("PartitionDown", f"分区 {name} 现在不启动作业")
    wanted = request.time_limit_s
    if partition.max_time is not None and (wanted is None or wanted > partition.max_time):
        return Ineligible("PartitionTimeLimit", f"分区 {name} 的时限最多 {format_duration(partition.max_time)}")
    if partition.max_nodes is not None and request.minimum_nodes > partition.max_nodes:
        return Ineligible("PartitionNodeLimit", f"分区 {name} 的作业至多 {partition.max_nodes} 个节点")
    if request.minimum_nodes < partition.min_nodes:
        return Ineligible("PartitionNodeLimit", f"分区 {name} 的作业至少 {partition.min_nodes} 个节点")
    denied = request.account in partition.deny_accounts
    if denied or (partition.allow_accounts is not None and request.account not in partition.allow_accounts):
        return Ineligible("AccountNotAllowed", f"账户 {request.account or '（没有写）'} 不许用分区 {name}")
    if partition.allow_qos is not None and request.qos not in partition.allow_qos:
        return Ineligible("QOSNotAllowed", f"QOS {request.qos or '（没有写）'} 不许用分区 {name}")
    return None
