"""总线上的消息：调度器 -> 节点代理，与后台进程自己的。function 是消息的名字；收的一方照固定的表还原，多出来的项略过。

since 是懂得它的最早一版：写的一方照它标版本，收的一方懂得到自己这一版为止的全部。所以新的调度器与旧的代理、
旧的调度器与新的代理说得通；只有真的多了旧的不懂的消息，才标新的一版，旧的收到就拒收、记下，靠数据库核对补上。
"""

from __future__ import annotations

from scns_conductor.worker.wire.record import Record, RecordError
from scns_conductor.worker.wire.step_spec import ClientAddress, StepStreams, X11Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Self, TypedDict

    class NodePart(TypedDict, total=False):
        """一步在一个节点上分到的：内存（MiB，0 不细分），通用资源的个数，加速卡的序号；divided 是只看得见 ids 里的。"""

        memory: int
        gres: dict[str, int]
        ids: dict[str, list[int]]
        divided: bool


BUS_VERSION = 2
OLDEST_BUS_VERSION = 1
# 只是提醒、重复无害的消息，内容是有变化的作业：信号与读写请求不重送。
REMINDERS = ("launch", "sync", "cancel", "kill", "suspend", "resume", "requeue", "update")


class VersionUnknown(RecordError):
    """写消息的比这里新（或早得不再懂得）。"""


class BusMessage(Record):
    """一种消息。"""

    function: ClassVar[str] = ""
    since: ClassVar[int] = 1


class ChangedJobs(BusMessage):
    """提醒：这些作业有变化（REMINDERS 里的哪一种都是），该做什么以数据库为准。"""

    job_ids: list[int]


class SuccessorOffer(Record):
    """接下来的：节点上的份额空出来，写结束时就地启动它们（statements/relay.py 的 Offer）。空的 jobs 是撤回。

    expires 是数据库的 Unix 秒；depth 是一份份额上至多接几个；jobs 按次序，每个是
    [作业号, 数组任务的序号或 null, 版本]。
    """

    epoch: int
    expires: float
    cpus: int
    memory: int
    tasks: int
    jobs: list[Any]
    depth: int = 1


class LaunchJobs(BusMessage):
    """提醒：这些作业写下了启动；successors 是接下来的（旧的代理不认得，略过）。"""

    job_ids: list[int]
    successors: SuccessorOffer | None = None


class SignalJobs(BusMessage):
    """给作业发信号。signal 是号数或名字；target：batch、steps、job、all。

    jobs 是 [作业号, 尝试或 null]；没有写的，job_ids 里的不论哪一次尝试。
    """

    function: ClassVar[str] = "signal"
    signal: int | str
    target: str = "all"
    jobs: list[list[int | None]] | None = None
    job_ids: list[int] | None = None

    @property
    def named(self) -> list[tuple[int, int | None]]:
        """（作业号，尝试或 None）；不成样子抛 RecordError。"""
        if self.jobs is None:
            return [(job_id, None) for job_id in self.job_ids or ()]
        try:
            return [(int(job[0] or 0), job[1] if len(job) > 1 else None) for job in self.jobs]
        except (IndexError, TypeError, ValueError) as error:
            raise RecordError(f"jobs 不成样子：{error}") from error


class ReadLog(BusMessage):
    """读作业的输出；答案以 request_id 写进数据库。offset_bytes 为负从末尾倒数，length_bytes 为 None 尽量多。"""

    function: ClassVar[str] = "read_log"
    old_names: ClassVar[dict[str, str]] = {"offset_bytes": "offset", "length_bytes": "length"}
    request_id: str
    job_id: int
    stream: str = "stdout"
    offset_bytes: int = 0
    length_bytes: int | None = None


class LaunchStep(BusMessage):
    """启动一个作业步在本节点上的那一份；内容是建立作业步的请求（api/step_request.py）加上放到了哪里。

    nodes 是各节点上的任务序号，按作业的次序；node_cpus 是占的 CPU（--overlap 的步不占，是 0）；
    shares 是各节点上分到的内存（MiB）与通用资源，没有细分的是空的。stdin、stdout、stderr 是输入输出的去向。
    跨异构作业几个部分的一步：world 是全部部分的（place_name -> 任务序号），这一份属于第 component 个部分。
    """

    function: ClassVar[str] = "launch_step"
    job_id: int
    restart_count: int
    step_id: int
    name: str
    tasks: int
    cpus_per_task: int
    nodes: dict[str, list[int]]
    node_cpus: dict[str, int]
    argv: list[str]
    multi_prog: dict[str, list[str]] | None = None
    environment: dict[str, str]
    inherit_environment: bool = True
    current_working_directory: str | None = None
    umask: int | None = None
    time_limit_s: float | None = None
    streams: StepStreams
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    connection: ClientAddress | None = None
    shares: dict[str, NodePart]
    mpi: str = "none"
    cpu_bind: str | None = None
    gpu_bind: str | None = None
    mem_bind: str | None = None
    distribution: str | None = None
    threads_per_core: int | None = None
    tres_per_task: str | None = None
    task_prolog: str | None = None
    task_epilog: str | None = None
    container: str | None = None
    container_image: str | None = None
    het_job_id: int | None = None
    component: int = 0
    world: dict[str, list[int]] | None = None
    x11: X11Request | None = None
    reserved_ports: list[int] | None = None

    @classmethod
    def from_wire(cls, wire: object, version: int = BUS_VERSION) -> Self:
        """内容存在 job_steps.launch 里，用的是 API 的名字：时限叫 time_limit，三路在 streams 里，节点的次序另写。"""
        if not isinstance(wire, dict):
            raise RecordError("launch_step 必须是映射")
        streams = wire.get("streams") or {}
        try:
            known: dict[str, Any] = {
                **wire,
                "nodes": {name: wire["nodes"][name] for name in wire.get("node_order") or wire["nodes"]},
                "time_limit_s": wire.get("time_limit"),
                **{name: streams.get(name) for name in ("stdin", "stdout", "stderr")},
            }
        except (AttributeError, KeyError, TypeError) as error:
            raise RecordError(f"launch_step 缺项或不成样子：{error}") from error
        for name in ("node_cpus", "environment", "streams", "shares"):
            known[name] = wire.get(name) or {}
        known["mpi"] = wire.get("mpi") or "none"
        if wire.get("world"):
            known["world"] = {name: wire["world"][name] for name in wire.get("world_order") or wire["world"]}
        return super().from_wire(known, 2)


class SignalStep(BusMessage):
    """给作业步的任务发信号；SIGKILL 连同它的主人一起结束。"""

    function: ClassVar[str] = "signal_step"
    job_id: int
    restart_count: int
    step_id: int
    signal: int


class LimitStep(BusMessage):
    """改作业步自己的时限（秒）；None 是不限。"""

    function: ClassVar[str] = "limit_step"
    job_id: int
    restart_count: int
    step_id: int
    time_limit_s: int | None = None


class AttachStep(BusMessage):
    """请作业步的主人再连一个客户（sattach）。"""

    function: ClassVar[str] = "attach_step"
    job_id: int
    restart_count: int
    step_id: int
    connection: ClientAddress


class Sample(BusMessage):
    """此刻就采样一次（sstat）；答案以 request_id 写进数据库。"""

    function: ClassVar[str] = "sample"
    request_id: str


class Deliver(BusMessage):
    """后台的队列：这些通知到时候了，发出去；发到哪一步以数据库为准。"""

    function: ClassVar[str] = "deliver"
    since: ClassVar[int] = 2
    notification_ids: list[int]


class PostWebhook(BusMessage):
    """后台的队列：往这个地址送到时候的 webhook；送到哪一件以数据库为准。"""

    function: ClassVar[str] = "post_webhook"
    since: ClassVar[int] = 2
    webhook_id: int
    user_name: str


_KINDS = (SignalJobs, ReadLog, LaunchStep, SignalStep, LimitStep, AttachStep, Sample, Deliver, PostWebhook)
MESSAGES: dict[str, type[BusMessage]] = {
    **dict.fromkeys(REMINDERS, ChangedJobs),
    "launch": LaunchJobs,
    **{kind.function: kind for kind in _KINDS},
}


def read_message(function: str, payload: Mapping[str, Any]) -> BusMessage:
    """收到的 -> 消息；不认识的、不成样子的抛 RecordError（中文原因），版本太新的抛 VersionUnknown。"""
    kind = MESSAGES.get(function)
    if kind is None:
        raise RecordError(f"不认识的消息 {function!r}")
    version = payload.get("version")
    if not isinstance(version, int) or not OLDEST_BUS_VERSION <= version <= BUS_VERSION:
        raise VersionUnknown(f"版本 {version!r} 不认识，懂得 {OLDEST_BUS_VERSION} 到 {BUS_VERSION}")
    return kind.from_wire(payload, version)
