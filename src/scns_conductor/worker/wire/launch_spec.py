"""一个作业步的启动说明：代理写，牧守进程读。只用标准库里最轻的部分（牧守进程要小）。

键由 (job_id, attempt, step, launch_id) 组成；step 为 batch（脚本）、extern（没有脚本的分配，占位）或作业步号。
launch_id 认得出是哪一次启动：数据库恢复到从前，作业号与尝试会再来一遍，它不会（jobs.start_time 的微秒数）。
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# 作业的每个进程都带着它：没有 cgroup 时靠它认出后代。
JOB_KEY_VARIABLE = "SCNS_JOB_KEY"
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


class LaunchSpec:
    """启动说明。时长单位秒，内存单位字节；uid 为 None 表示不换用户；路径都是绝对路径。

    output_mode 为 append 或 truncate；stderr 为 None 表示与 stdout 同一个文件。
    script 不为 None 时先写成 script_path（0700，属于作业的用户），结束后删除。
    memory_bytes 是作业的内存上限，step_memory_bytes 是这一步自己的。
    cpu_ids 为绑定的核；device_deny 是 cgroup v1 的设备写法，如 'c 195:1 rwm'。
    warn_signal 在时限前 warn_before_s 秒发出，warn_batch_only 时只发给脚本自身。
    opens_aside：目录所在的文件系统也许不答话，由作业自己的进程去进、去打开。
    warn_in_s 属于作业步：启动之后这么多秒发 warn_signal（脚本在别的节点上，作业的时限由那里管）。
    """

    __slots__ = (
        "argv",
        "attempt",
        "cpu_ids",
        "cwd",
        "device_deny",
        "env",
        "gid",
        "grace_s",
        "groups",
        "job_id",
        "launch_id",
        "memory_bytes",
        "nice",
        "opens_aside",
        "output_mode",
        "pids_max",
        "rlimits",
        "script",
        "script_path",
        "stderr",
        "stdin",
        "stdout",
        "step",
        "step_memory_bytes",
        "time_limit_s",
        "uid",
        "umask",
        "warn_batch_only",
        "warn_before_s",
        "warn_in_s",
        "warn_signal",
    )

    def __init__(
        self,
        *,
        job_id: int,
        attempt: int,
        step: str,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        launch_id: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: list[int] | None = None,
        umask: int | None = None,
        stdin: str | None = None,
        stdout: str | None = None,
        stderr: str | None = None,
        output_mode: str = "truncate",
        script: str | None = None,
        script_path: str | None = None,
        time_limit_s: float | None = None,
        grace_s: float = 30.0,
        warn_signal: int | None = None,
        warn_before_s: float = 60.0,
        warn_in_s: float | None = None,
        warn_batch_only: bool = False,
        cpu_ids: list[int] | None = None,
        memory_bytes: int | None = None,
        step_memory_bytes: int | None = None,
        pids_max: int | None = None,
        device_deny: list[str] | None = None,
        rlimits: dict[str, list[int]] | None = None,
        nice: int = 0,
        opens_aside: bool | None = None,
    ) -> None:
        if not argv:
            raise ValueError("启动说明缺少 argv")
        if output_mode not in ("append", "truncate"):
            raise ValueError(f"output_mode 只能是 append 或 truncate，现在是 {output_mode!r}")
        if (script is None) != (script_path is None):
            raise ValueError("script 与 script_path 必须同时给出")
        self.job_id = int(job_id)
        self.attempt = int(attempt)
        self.launch_id = None if launch_id is None else int(launch_id)
        self.step = step
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.umask = umask
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.output_mode = output_mode
        self.script = script
        self.script_path = script_path
        self.time_limit_s = time_limit_s
        self.grace_s = grace_s
        self.warn_signal = warn_signal
        self.warn_before_s = warn_before_s
        self.warn_in_s = warn_in_s
        self.warn_batch_only = warn_batch_only
        self.cpu_ids = cpu_ids
        self.memory_bytes = memory_bytes
        self.step_memory_bytes = step_memory_bytes
        self.pids_max = pids_max
        self.device_deny = device_deny
        self.rlimits = rlimits
        self.nice = nice
        self.opens_aside = opens_aside

    @property
    def key(self) -> str:
        """本作业步的键。"""
        return task_key(self.job_id, self.attempt, self.step, self.launch_id)

    def to_wire(self) -> dict[str, Any]:
        """可直接写成 JSON 的映射；与默认值相同的空项略去。"""
        wire = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in wire.items() if value is not None}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> LaunchSpec:
        """从 JSON 映射还原；缺项、多项、值不合法抛 ValueError（中文原因）。"""
        try:
            return cls(**wire)
        except TypeError as error:
            raise ValueError(f"启动说明的字段不对：{error}") from error
