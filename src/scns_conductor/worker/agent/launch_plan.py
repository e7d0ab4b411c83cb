"""把认领到的作业变成牧守进程的启动说明：用户、解释器、输出路径、限制。纯计算，除了查本机的用户表。"""

import functools
import os
import pwd
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scns_conductor.core.job_token import VARIABLE as TOKEN_VARIABLE
from scns_conductor.core.job_token import job_token
from scns_conductor.core.output_path import OutputFields, expand_output_path, job_output_paths, output_mode
from scns_conductor.statements.claims import ClaimedJob
from scns_conductor.worker.agent.containers import ContainerUnavailable, container_spec
from scns_conductor.worker.agent.core_binding import Binding
from scns_conductor.worker.agent.job_environment import Login, NodeContext, het_variables, job_environment
from scns_conductor.worker.agent.launch_orders import LaunchOrders, launch_orders
from scns_conductor.worker.wire.container_spec import ContainerSpec
from scns_conductor.worker.wire.launch_spec import LaunchSpec

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

DEFAULT_SHELL = "/bin/bash"
# 进程数的上限：够真正的并行程序用，又挡得住 fork 炸弹。
PROCESSES_BASE = 4096
PROCESSES_PER_CPU = 1024
WARNING_DELAY_S = 60


class LaunchRefused(Exception):
    """这个作业在本节点上启动不了，是作业的错；说明给用户看。"""


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """本节点启动作业所需的一切固定值。"""

    settings: "Settings"
    node: NodeContext
    script_dir: Path
    # 作业令牌的密钥；单用户模式的作业本来就够得到 client.json，不需要。
    token_secret: bytes | None = None

    def token(self, job: ClaimedJob) -> str | None:
        """这次启动在本节点上的作业令牌；单用户模式没有。"""
        if self.token_secret is None:
            return None
        return job_token(self.token_secret, job.job_id, job.restart_count, job.launch_id)

    def plan(self, job: ClaimedJob, binding: Binding, components: Sequence[ClaimedJob] = ()) -> LaunchSpec:
        """启动说明；用户不存在、不许以 root 运行等抛 LaunchRefused（中文说明）。components 是异构作业的各个部分。"""
        login = self.login(job.user_name)
        orders = self.orders(job.environment)
        if orders.environment is not job.environment:
            job = replace(job, environment=orders.environment)
        directory = job.current_working_directory
        if not os.path.isabs(directory):
            raise LaunchRefused(f"工作目录 {directory!r} 不是绝对路径")
        fields = OutputFields(
            job_id=job.job_id,
            job_name=job.name,
            user_name=job.user_name,
            node_name=self.node.node_name,
            array_job_id=job.array_job_id,
            array_task_id=job.array_task_id,
            restart_count=job.restart_count,
        )
        stdout, stderr = job_output_paths(job.standard_output, job.standard_error, fields, directory)
        script_path = str(self.script_dir / f"job_{job.job_id}.sh")
        has_script = job.script is not None and not job.interactive
        switches = login.uid != os.geteuid()
        return LaunchSpec(
            job_id=job.job_id,
            attempt=job.restart_count,
            launch_id=job.launch_id,
            step="batch" if has_script else "extern",
            argv=[*interpreter(job.script), script_path, *job.argv]
            if has_script and job.script is not None
            else ["/bin/sleep", "infinity"],
            env=self._environment(job, binding, login) | het_variables(components, login, self.node),
            cwd=directory if has_script else "/",
            uid=login.uid if switches else None,
            gid=login.gid if switches else None,
            groups=list(login.groups) if switches else None,
            umask=job.umask if job.umask is not None else 0o022,
            stdin=expand_output_path(job.standard_input, fields, directory) if job.standard_input else None,
            stdout=stdout if has_script else None,
            stderr=stderr if has_script else None,
            output_mode=output_mode(job.open_mode, job.restart_count),
            script=job.script if has_script else None,
            script_path=script_path if has_script else None,
            time_limit_s=job.time_limit,
            grace_s=self.settings.kill_wait_s,
            warn_signal=signal_number(job.kill_warning_signal) if job.kill_warning_signal else None,
            warn_before_s=WARNING_DELAY_S if job.kill_warning_delay is None else job.kill_warning_delay,
            warn_batch_only=job.kill_warning_batch_only,
            cpu_ids=list(binding.cpu_ids) if binding.cpu_ids is not None else None,
            memory_bytes=job.memory * 1024**2 if job.memory else None,
            pids_max=PROCESSES_BASE + PROCESSES_PER_CPU * job.cpus,
            device_deny=self.node.cards.denied(binding.accelerator_ids) or None,
            rlimits=orders.rlimits if has_script else None,
            container=self.container(job.container, job.container_image, login) if has_script else None,
            login=orders.login if has_script else None,
            oom_kill_step=orders.oom_kill_step if has_script else None,
        )

    def orders(self, environment: dict[str, str]) -> LaunchOrders:
        """环境里说给节点听的话。"""
        settings = self.settings
        return launch_orders(environment, settings.propagate_resource_limits, settings.propagate_resource_limits_except)

    def container(self, bundle: str | None, image: str | None, login: Login) -> ContainerSpec | None:
        """要进的容器；没有要是 None。本节点做不到抛 LaunchRefused。"""
        try:
            return container_spec(self.settings, self.script_dir, bundle=bundle, image=image, uid=login.uid)
        except ContainerUnavailable as error:
            raise LaunchRefused(str(error)) from error

    def _environment(self, job: ClaimedJob, binding: Binding, login: Login) -> dict[str, str]:
        environment = job_environment(job, binding, login, self.node)
        token = self.token(job)
        if token is not None:
            environment[TOKEN_VARIABLE] = token
        return environment

    def login(self, user_name: str) -> Login:
        """作业的用户在本节点上的身份；不许或不存在抛 LaunchRefused。"""
        settings = self.settings
        if settings.single_user:
            return _own_login()
        try:
            entry = pwd.getpwnam(user_name)
        except KeyError as error:
            raise LaunchRefused(f"节点 {self.node.node_name} 上没有用户 {user_name}") from error
        if entry.pw_uid == 0 and not settings.allow_root_jobs:
            raise LaunchRefused("不允许以 root 身份运行作业；管理员可设置 SCNS_ALLOW_ROOT_JOBS=true")
        if os.geteuid() != 0 and entry.pw_uid != os.geteuid():
            raise LaunchRefused(f"节点代理不是 root，不能以用户 {user_name} 的身份运行作业")
        groups = tuple(os.getgrouplist(user_name, entry.pw_gid))
        shell = entry.pw_shell or DEFAULT_SHELL
        return Login(user_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, shell)


@functools.cache
def _own_login() -> Login:
    """启动代理的用户；一个进程里不变，不为每个作业去读 /etc/passwd。"""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        name, home, shell = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:
        name, home, shell = str(uid), "/", ""
    # 单用户模式就是他自己的会话：HOME 以他的环境为准。
    home = os.environ.get("HOME") or home
    return Login(name, uid, os.getegid(), tuple(os.getgroups()), home, shell or DEFAULT_SHELL)


def interpreter(script: str) -> list[str]:
    """脚本首行的解释器与（至多一个）参数，规则同内核；没有则 /bin/bash。

    自己解析而不交给内核：脚本目录可能挂载成 noexec，内核还会截断过长的首行。
    """
    first = script.split("\n", 1)[0]
    if not first.startswith("#!"):
        return [DEFAULT_SHELL]
    words = first[2:].strip().split(None, 1)
    return [word.strip() for word in words] if words else [DEFAULT_SHELL]


def signal_number(text: str) -> int:
    """'USR1'、'SIGUSR1'、'10' -> 10；认不出抛 LaunchRefused。"""
    word = text.strip().upper()
    if word.isdigit() and 0 < int(word) < signal.NSIG:
        return int(word)
    try:
        return signal.Signals[word if word.startswith("SIG") else f"SIG{word}"]
    except KeyError as error:
        raise LaunchRefused(f"不认识的信号 {text!r}") from error
