"""一个作业步的启动说明：代理写，牧守进程读。只用标准库里最轻的部分（牧守进程要小）。

键由 (job_id, attempt, step, launch_id) 组成；step 为 batch（脚本）、extern（没有脚本的分配，占位）或作业步号。
launch_id 认得出是哪一次启动：数据库恢复到从前，作业号与尝试会再来一遍，它不会（jobs.start_time 的微秒数）。
"""

from __future__ import annotations

import signal

from scns_conductor.worker.wire.container_spec import ContainerSpec
from scns_conductor.worker.wire.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# 作业的每个进程都带着它：没有 cgroup 时靠它认出后代。
JOB_KEY_VARIABLE = "SCNS_JOB_KEY"
# 作业步的主人（不占作业的内存）从它知道：任务写进哪个 tasks 文件就进了作业的内存控制组；没有的不必。
MEMORY_ENTRANCE_VARIABLE = "SCNS_MEMORY_ENTRANCE"
# 代理另写了要接上的客户（sattach）。SIGURG 缺省是忽略：来得太早也不要紧，作业步启动之后总会看一遍。
ATTACH_SIGNAL = signal.SIGURG
HOLDER_STEPS = frozenset({"batch", "extern"})


def task_key(job_id: int, attempt: int, step: str, launch_id: int | None = None) -> str:
    """作业步的键，如 12.0.batch.1764351234567890；旧版启动的没有最后一段。"""
    key = f"{job_id}.{attempt}.{step}"
    return key if launch_id is None else f"{key}.{launch_id}"


def split_key(key: str) -> tuple[int, int, str, int | None]:
    """作业步的键 -> (job_id, attempt, step, launch_id)。"""
    job_id, attempt, step, *launch_id = key.split(".")
    return int(job_id), int(attempt), step, int(launch_id[0]) if launch_id else None


class LoginSpec(Record):
    """先取用户登录之后的环境：至多等 wait_s 秒；login 为假不当作登录（su 不带 -）；yields 是说明里让位给它的变量。"""

    wait_s: float
    login: bool
    yields: list[str]


class LaunchSpec(Record):
    """启动说明。不认识的项不许有：一项没有听懂的限制不能当作没有。

    时长单位秒，内存单位字节；uid 为 None 表示不换用户；路径都是绝对路径。

    output_mode 为 append 或 truncate；stderr 为 None 表示与 stdout 同一个文件。
    script 不为 None 时先写成 script_path（0700，属于作业的用户），结束后删除。
    memory_bytes 是作业的内存上限，step_memory_bytes 是这一步自己的。
    cpu_ids 为绑定的核；device_deny 是 cgroup v1 的设备写法，如 'c 195:1 rwm'。
    warn_signal 在时限前 warn_before_s 秒发出，warn_batch_only 时只发给脚本自身。
    opens_aside：目录所在的文件系统也许不答话，由作业自己的进程去进、去打开，脚本也由它写下。
    chain：同一条链上的按到来的次序一个接一个，至多一个在运行（接力）；等了 chain_wait_s 秒还没有轮到的交还。
    warn_in_s 属于作业步：启动之后这么多秒发 warn_signal（脚本在别的节点上，作业的时限由那里管）。
    container 不为 None 时 argv、env、cwd 说的是容器里的。
    rlimits 是 名字 -> [软上限, 硬上限]；login 是 --get-user-env；
    oom_kill_step：里面有一个进程因内存超限被杀，这一步全部结束。
    """

    closed: ClassVar[bool] = True
    added: ClassVar[frozenset[str]] = frozenset({"container", "chain", "chain_wait_s", "login", "oom_kill_step"})

    job_id: int
    attempt: int
    step: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    launch_id: int | None = None
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None
    umask: int | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    output_mode: str = "truncate"
    script: str | None = None
    script_path: str | None = None
    time_limit_s: float | None = None
    grace_s: float = 30.0
    warn_signal: int | None = None
    warn_before_s: float = 60.0
    warn_in_s: float | None = None
    warn_batch_only: bool = False
    cpu_ids: list[int] | None = None
    memory_bytes: int | None = None
    step_memory_bytes: int | None = None
    pids_max: int | None = None
    device_deny: list[str] | None = None
    rlimits: dict[str, list[int]] | None = None
    nice: int = 0
    opens_aside: bool | None = None
    container: ContainerSpec | None = None
    chain: int | None = None
    chain_wait_s: float | None = None
    login: LoginSpec | None = None
    oom_kill_step: bool | None = None

    def check(self) -> None:
        """不合理的抛 ValueError。"""
        if (self.chain is None) != (self.chain_wait_s is None):
            raise ValueError("chain 与 chain_wait_s 必须同时给出")
        if not self.argv:
            raise ValueError("启动说明缺少 argv")
        if self.output_mode not in ("append", "truncate"):
            raise ValueError(f"output_mode 只能是 append 或 truncate，现在是 {self.output_mode!r}")
        if (self.script is None) != (self.script_path is None):
            raise ValueError("script 与 script_path 必须同时给出")

    @property
    def key(self) -> str:
        """本作业步的键。"""
        return task_key(self.job_id, self.attempt, self.step, self.launch_id)
