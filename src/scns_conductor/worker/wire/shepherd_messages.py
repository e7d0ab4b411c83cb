"""代理与牧守进程之间的请求与回答。

问候不论哪一版都说得通：它带着说话的一方懂得的全部版本，牧守进程挑两边都懂的最新一版，以后都照它说；
回答与推送自己带着版本（v）。上一版的牧守进程不认得这一项，照第 1 版回答，代理就照第 1 版说。
"""

from __future__ import annotations

from scns_conductor.worker.wire.process_usage import Usage
from scns_conductor.worker.wire.record import OLDEST_VERSION, PROTOCOL_VERSION, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, ClassVar

# 一个作业：（作业号，尝试或 None，哪一次启动）；没有第三项的是这个号的任何一次启动。
Named = tuple[int, int | None] | tuple[int, int | None, int | None]
SUPPORTED = range(OLDEST_VERSION, PROTOCOL_VERSION + 1)


def common_version(theirs: Sequence[object]) -> int | None:
    """两边都懂的最新一版；没有返回 None。"""
    return max((version for version in SUPPORTED if version in theirs), default=None)


# ---- 请求 ----


class Asked(Record):
    """每个请求的开头：回答带着同一个号。"""

    id: int
    op: str


class Request(Record):
    """op 是操作的名字。"""

    op: ClassVar[str] = ""


class Hello(Request):
    """问候；attach 表示从此也收结束记录，先收全部未确认的。"""

    op: ClassVar[str] = "hello"
    attach: bool = False
    versions: list[int] | None = None


class Launch(Request):
    """启动一批；说明逐份还原，坏的只拒收它自己，所以这里还是原样。"""

    op: ClassVar[str] = "launch"
    specs: list[Any]


class JobsRequest(Request):
    """对一批作业做一件事；不在这里的略过。"""


class Signal(JobsRequest):
    """发信号。target：batch、steps、step:N、job、all。"""

    op: ClassVar[str] = "signal"
    jobs: list[Named]
    signal: int
    target: str = "all"


class Kill(JobsRequest):
    """结束作业，或其中一个作业步；grace_s 为 None 取作业自己的宽限。"""

    op: ClassVar[str] = "kill"
    jobs: list[Named]
    cause: str = "killed"
    message: str | None = None
    grace_s: float | None = None
    step: str | None = None


class Disown(JobsRequest):
    """数据库不认识、而要留着的。"""

    op: ClassVar[str] = "disown"
    jobs: list[Named]


class Suspend(JobsRequest):
    """挂起。"""

    op: ClassVar[str] = "suspend"
    jobs: list[Named]


class Resume(JobsRequest):
    """恢复。"""

    op: ClassVar[str] = "resume"
    jobs: list[Named]


class SetTimeLimit(JobsRequest):
    """改时限；None 表示不限。"""

    op: ClassVar[str] = "set_time_limit"
    jobs: list[Named]
    time_limit_s: float | None


class SetStepTimeLimit(JobsRequest):
    """改一个作业步自己的时限；None 表示不限。"""

    op: ClassVar[str] = "set_step_time_limit"
    jobs: list[Named]
    step: str
    time_limit_s: float | None


class Ack(Request):
    """这些编号的结束已经进了数据库。"""

    op: ClassVar[str] = "ack"
    ids: list[int]


class Stats(Request):
    """此刻的用量。"""

    op: ClassVar[str] = "stats"


class ReadLog(Request):
    """以作业用户的身份读一段；offset_bytes 为负从末尾倒数。"""

    op: ClassVar[str] = "read_log"
    old_names: ClassVar[dict[str, str]] = {"offset_bytes": "offset", "length_bytes": "length"}
    path: str
    offset_bytes: int
    length_bytes: int
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None


class Shutdown(Request):
    """结束全部作业，都确认了就退出；grace_s 为 None 取作业自己的宽限。"""

    op: ClassVar[str] = "shutdown"
    grace_s: float | None = None


# ---- 回答 ----


class Answer(Record):
    """每个回答的开头：答的是哪一个请求，照哪一版写的；没有做的 code 是稳定的英文码，error 是中文的说明。"""

    id: int
    v: int
    ok: bool = False
    code: str | None = None
    error: str | None = None


class EndsPush(Record):
    """推送一批结束记录；逐条还原，坏的一条只影响它自己，所以这里还是原样。"""

    event: str = "ends"
    v: int
    ends: list[Any]


class RunningStep(Record):
    """牧守进程手里的一个作业步；foreign 是数据库不认识、要留着的。"""

    old_names: ClassVar[dict[str, str]] = {"started_unix_s": "started_at"}
    key: str
    pid: int | None = None
    started_unix_s: float | None = None
    suspended: bool = False
    cause: str | None = None
    foreign: bool = False
    time_limit_s: float | None = None


class Capabilities(Record):
    """每一种约束靠什么实现；not_enforced 是没有做到的，一条一句，给 scns health。"""

    cgroup_version: int | None
    detail: str
    memory: str
    pids: str
    cpus: str
    devices: str
    kill_all: str
    suspend: str
    users: str
    not_enforced: list[str]


class HelloAnswer(Record):
    """release 是牧守进程的发行版本（第 1 版的没有）；unacknowledged 是还没有确认的结束的键。"""

    old_names: ClassVar[dict[str, str]] = {"started_unix_s": "started_at"}
    pid: int
    node: str
    boot_id: str
    started_unix_s: float
    running: list[RunningStep]
    unacknowledged: list[str]
    capabilities: Capabilities
    corrupt_lines: int = 0
    # 认得 launch_id；更早的没有这一项。
    launch_ids: bool = False
    release: str | None = None


class LaunchAnswer(Record):
    """一份说明的结果。state：running、ended（error 里是为什么，另有结束记录）、refused（没有收下）。"""

    old_names: ClassVar[dict[str, str]] = {"started_unix_s": "at"}
    key: str
    state: str
    duplicate: bool = False
    pid: int | None = None
    started_unix_s: float | None = None
    error: str | None = None


class Launched(Record):
    """启动的结果，一份说明一个。"""

    launched: list[LaunchAnswer]


class Found(Record):
    """真正找到的：[作业号, 尝试]。"""

    found: list[list[int]]


class Done(Record):
    """做了。"""


class Sent(Record):
    """信号送到了几个进程。"""

    sent: int


class JobSample(Record):
    """一个作业此刻的用量与进程数；started_boot_s 是它在本节点上开始的时刻（开机秒），更早的没有这一项。"""

    job_id: int
    attempt: int
    processes: int = 0
    usage: Usage
    started_boot_s: float | None = None


class StepSample(Record):
    """一个作业步此刻的用量；内存是到此刻为止的峰值。"""

    job_id: int
    attempt: int
    step: str
    usage: Usage


class Samples(Record):
    """全部作业与作业步；更早的没有作业步的。"""

    jobs: list[JobSample]
    steps: list[StepSample] | None = None


class LogPart(Record):
    """data 是 base64。"""

    old_names: ClassVar[dict[str, str]] = {"total_bytes": "total"}
    data: str
    total_bytes: int


class Leaving(Record):
    """还有几个作业要等。"""

    running: int
