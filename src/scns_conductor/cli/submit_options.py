"""scns submit 的选项：名字与含义取自 sbatch(1)，命令行与脚本里的 #SBATCH、#SCNS 行共用一张表。"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from scns_conductor.cli.field_values import zoned
from scns_conductor.core.batch_script import exported, gpu_fields, warning_signal
from scns_conductor.core.units import parse_duration, parse_memory_mb, parse_time_limit

# 值可省略的选项（getopt 的 optional_argument）：省略时的值；值只能用 = 相连。
OPTIONAL_VALUES = {"--exclusive": "true", "--nice": "100"}
_WITHOUT_EFFECT = (["-Q", "--quiet"], ["-v", "--verbose"], ["--parsable"])


@dataclass(frozen=True, slots=True)
class JobOption:
    """一个选项；field 是 API 的字段，空表示另有处理（见 job_fields）。"""

    names: tuple[str, ...]
    field: str | None
    help: str
    type: Any = None
    flag: bool = False

    @property
    def key(self) -> str:
        """click 里的参数名。"""
        return self.names[-1].lstrip("-").replace("-", "_")


COUNT = click.IntRange(min=1)
JOB_OPTIONS = (
    JobOption(("-J", "--job-name"), "name", "作业名，缺省是脚本的文件名"),
    JobOption(("-p", "--partition"), "partition", "分区，可用逗号列几个"),
    JobOption(("-A", "--account"), "account", "账户"),
    JobOption(("-q", "--qos"), "qos", "服务质量"),
    JobOption(("--reservation",), "reservation", "预留"),
    JobOption(("--wckey",), "wckey", "工作负载标签"),
    JobOption(("-t", "--time"), "time_limit", "时限：分钟、MM:SS、HH:MM:SS、D-HH、D-HH:MM:SS、UNLIMITED"),
    JobOption(("--time-min",), "time_minimum", "可接受的最短时限"),
    JobOption(("-b", "--begin"), "begin_time", "最早何时开始，如 now+1hour、20:00、2026-12-01T08:00"),
    JobOption(("--deadline",), "deadline", "最迟何时结束"),
    JobOption(("-n", "--ntasks"), "tasks", "任务数", COUNT),
    JobOption(("-N", "--nodes"), "nodes", "节点数，如 2 或 2-4"),
    JobOption(("--tasks-per-node", "--ntasks-per-node"), "tasks_per_node", "每节点任务数", COUNT),
    JobOption(("-c", "--cpus-per-task"), "cpus_per_task", "每任务 CPU 数", COUNT),
    JobOption(("--mincpus",), "minimum_cpus_per_node", "节点至少要有的 CPU 数", COUNT),
    JobOption(("--mem",), "memory_per_node", "每节点内存，如 16G，无单位按 MB；0 是整个节点"),
    JobOption(("--mem-per-cpu",), "memory_per_cpu", "每 CPU 内存"),
    JobOption(("--mem-per-gpu",), "memory_per_gpu", "每 GPU 内存"),
    JobOption(("--tmp",), "temporary_disk_per_node", "节点至少要有的临时磁盘"),
    JobOption(("-G", "--gpus"), None, "整个作业的 GPU，如 4 或 a100:4"),
    JobOption(("--gpus-per-node",), None, "每节点的 GPU"),
    JobOption(("--gpus-per-task",), None, "每任务的 GPU"),
    JobOption(("--gres",), None, "每节点的通用资源，如 gpu:a100:2"),
    JobOption(("-C", "--constraint"), "constraints", "节点特性的表达式"),
    JobOption(("--prefer",), "prefer", "最好有的特性，没有这样的节点时照 --constraint"),
    JobOption(("--sockets-per-node",), "sockets_per_node", "节点至少要有的插槽数", COUNT),
    JobOption(("--cores-per-socket",), "cores_per_socket", "节点每插槽至少要有的核数", COUNT),
    JobOption(("--threads-per-core",), "threads_per_core", "一个核用几个线程；1 是不用超线程", COUNT),
    JobOption(("-S", "--core-spec"), "core_specification", "每节点留给系统的核数，独占节点", COUNT),
    JobOption(("-w", "--nodelist"), "required_nodes", "必须包含的节点"),
    JobOption(("-x", "--exclude"), "excluded_nodes", "不得使用的节点"),
    JobOption(("--exclusive",), "exclusive", "独占节点；=user、=mcs 只与同一个用户、标签的作业共用"),
    JobOption(("--mcs-label",), "mcs_label", "多类别安全的标签，配 --exclusive=mcs"),
    JobOption(("-s", "--oversubscribe"), "oversubscribe", "允许与别的作业共享 CPU", flag=True),
    JobOption(("-L", "--licenses"), "licenses", "许可证，如 matlab:2"),
    JobOption(("--switches",), None, "最多跨几个交换机，可写至多等多久：数目[@时长]"),
    JobOption(("-m", "--distribution"), "distribution", "任务的分布方式"),
    JobOption(("-d", "--dependency"), "dependency", "依赖，如 afterok:12:13,singleton"),
    JobOption(("--kill-on-invalid-dep",), None, "依赖不可能满足时是否取消", click.Choice(["yes", "no"])),
    JobOption(("-a", "--array"), "array", "作业数组，如 0-99:3%5"),
    JobOption(("-H", "--hold"), "hold", "提交后保留，直到 scns release", flag=True),
    JobOption(("--priority",), "priority", "优先级（管理员）", click.IntRange(min=0)),
    JobOption(("--nice",), "nice", "降低优先级的量，写成 --nice=50；不写值是 100", int),
    JobOption(("--requeue",), None, "节点故障或被抢占后可以重新排队", flag=True),
    JobOption(("--no-requeue",), None, "不要重新排队", flag=True),
    JobOption(("--signal",), None, "时限将到时先发的信号：[B:]信号[@秒]"),
    JobOption(("-D", "--chdir"), "current_working_directory", "工作目录，缺省是当前目录"),
    JobOption(("-i", "--input"), "standard_input", "标准输入的文件"),
    JobOption(("-o", "--output"), "standard_output", "标准输出的文件，可含 %j %x %u %N %A %a；缺省 slurm-%j.out"),
    JobOption(("-e", "--error"), "standard_error", "标准错误的文件，缺省与标准输出同一个"),
    JobOption(("--open-mode",), "open_mode", "追加还是截断", click.Choice(["append", "truncate"])),
    JobOption(("--export",), None, "带上哪些环境变量：ALL（缺省）、NONE、名字或 名字=值 的列表"),
    JobOption(("--container",), "container", "在 OCI bundle 的容器里运行"),
    JobOption(("--container-image",), "container_image", "在镜像的容器里运行，如 registry.example.org/python:3.12"),
    JobOption(("--comment",), "comment", "备注"),
    JobOption(("--mail-type",), "mail_type", "何时发邮件"),
    JobOption(("--mail-user",), "mail_user", "邮件发给谁"),
)


def click_options() -> list[click.Parameter]:
    """表里的选项，给 click 的命令用；每个命令要各有一份。"""
    return [_flag(option) if option.flag else _valued(option) for option in JOB_OPTIONS]


def _flag(option: JobOption) -> click.Option:
    return click.Option([*option.names, option.key], is_flag=True, default=None, flag_value=True, help=option.help)


def _valued(option: JobOption) -> click.Option:
    return click.Option([*option.names, option.key], default=None, type=option.type or str, help=option.help)


def with_optional_values(arguments: Sequence[str], parameters: Sequence[click.Parameter]) -> list[str]:
    """把没有写值的 --exclusive、--nice 补上值；脚本名之后的是脚本的参数，不动。"""
    takes_value: dict[str, bool] = {}
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            takes_value |= dict.fromkeys(parameter.opts, not parameter.is_flag)
    done: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            return [*done, word, *waiting]
        done.append(f"{word}={OPTIONAL_VALUES[word]}" if word in OPTIONAL_VALUES else word)
        if word in OPTIONAL_VALUES:
            continue
        if word.startswith("--"):
            value_follows = takes_value.get(word, False)
        else:
            # 粘在一起的短选项：第一个带值的若是最后一个字母，值就是下一个词。
            letters = [index for index, letter in enumerate(word[1:], 1) if takes_value.get(f"-{letter}", False)]
            value_follows = bool(letters) and letters[0] == len(word) - 1
        if value_follows and waiting:
            done.append(waiting.pop(0))
    return done


def header_options(tokens: Sequence[str]) -> dict[str, Any]:
    """脚本里 #SBATCH、#SCNS 行的选项；有误抛 click.UsageError，说明在脚本里。"""
    # 这几个不是作业的要求，但 sbatch 允许写在脚本里；除 --wait 外对这里没有影响。
    others = [click.Option(["-W", "--wait"], is_flag=True, default=None, flag_value=True)]
    others += [click.Option(names, is_flag=True, expose_value=False) for names in _WITHOUT_EFFECT]
    command = click.Command("header", params=[*click_options(), *others], add_help_option=False)
    try:
        context = command.make_context("#SBATCH", with_optional_values(tokens, command.params))
    except click.UsageError as error:
        raise click.UsageError(f"脚本的 #SBATCH 或 #SCNS 行：{error.format_message()}") from error
    return {name: value for name, value in context.params.items() if value is not None}


def job_fields(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """选项（参数名 → 值）换成 API 的 job；environment 是提交者的环境。有误抛 click.UsageError。"""
    job: dict[str, Any] = {}
    for option in JOB_OPTIONS:
        value = given.get(option.key)
        if value is not None and option.field is not None:
            job[option.field] = value
    if job.get("container"):
        job["container"] = os.path.abspath(job["container"])
    _check(given, ("time", "time_min"), parse_time_limit)
    _check(given, ("mem", "mem_per_cpu", "mem_per_gpu", "tmp"), parse_memory_mb)
    for name, field in (("begin", "begin_time"), ("deadline", "deadline")):
        if given.get(name):
            job[field] = zoned(f"--{name}", given[name])
    job |= gpu_fields(given)
    if given.get("kill_on_invalid_dep"):
        job["kill_on_invalid_dependency"] = given["kill_on_invalid_dep"] == "yes"
    if given.get("switches"):
        job |= _switches(given["switches"])
    if given.get("requeue") and given.get("no_requeue"):
        raise click.UsageError("--requeue 与 --no-requeue 不能同用")
    if given.get("requeue") or given.get("no_requeue"):
        job["requeue"] = bool(given.get("requeue"))
    if given.get("signal"):
        job |= _warning_signal(given["signal"])
    job["environment"] = exported(given.get("export") or "ALL", environment)
    return job


def _check(given: Mapping[str, Any], names: Sequence[str], parse: Any) -> None:
    """当场指出写错的时限与内存，不必等服务器回答。"""
    for name in names:
        if given.get(name) is not None:
            try:
                parse(given[name])
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="--" + name.replace("_", "-")) from error


def _switches(text: str) -> dict[str, Any]:
    count, at, wait = str(text).partition("@")
    if not count.isdigit() or int(count) < 1:
        raise click.BadParameter("应是 数目[@时长]，例如 1 或 1@10:00", param_hint="--switches")
    try:
        return {"required_switches": int(count)} | ({"maximum_switch_wait_time": parse_duration(wait)} if at else {})
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--switches") from error


def _warning_signal(text: str) -> dict[str, Any]:
    try:
        return warning_signal(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--signal") from error
