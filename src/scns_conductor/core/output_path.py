"""输出文件名里的模式，按 sbatch(1) 的 filename pattern 展开。

%A 数组作业号、%a 数组任务号、%j 作业号、%J 作业号.步号、%N 短主机名、%n 节点序号、%s 步号、
%t 任务序号、%u 用户、%x 作业名、%b 数组任务号模 10、%r 第几次尝试；% 与字母之间的数字是补零宽度；
路径里有反斜杠时整个路径不展开；%% 是一个百分号。
"""

import os
import re
from dataclasses import dataclass

DEFAULT_OUTPUT = "slurm-%j.out"
DEFAULT_ARRAY_OUTPUT = "slurm-%A_%a.out"
# Slurm：不是数组任务时 %a 是 NO_VAL。
NO_TASK = 4294967294
MAX_WIDTH = 10
# 文件的修改时刻取自内核的粗钟，至多比写的那一刻早这么多。
COARSE_CLOCK_S = 0.02
_PATTERN = re.compile(r"%(\d*)([AaJjNnstuxbr%])")


@dataclass(frozen=True, slots=True)
class OutputFields:
    """展开模式所需的值。"""

    job_id: int
    job_name: str
    user_name: str
    node_name: str
    array_job_id: int | None = None
    array_task_id: int | None = None
    step: str = "batch"
    node_index: int = 0
    task_index: int = 0
    restart_count: int = 0


def expand_output_path(pattern: str, fields: OutputFields, directory: str) -> str:
    """展开成绝对路径。作业名、用户名里的斜杠换成下划线：它们不能让路径爬到别处去。"""
    if "\\" in pattern:
        text = pattern.replace("\\", "")
    else:
        text = _PATTERN.sub(lambda match: _replacement(match, fields), pattern)
    return os.path.join(directory, text)


def _replacement(match: re.Match[str], fields: OutputFields) -> str:
    width_text, letter = match[1], match[2]
    if letter == "%":
        return "%"
    value = _value(letter, fields)
    if width_text and isinstance(value, int):
        return str(value).zfill(min(int(width_text), MAX_WIDTH))
    return str(value)


def _value(letter: str, fields: OutputFields) -> int | str:
    task = fields.array_task_id if fields.array_task_id is not None else NO_TASK
    match letter:
        case "A":
            return fields.array_job_id or fields.job_id
        case "a":
            return task
        case "b":
            return task % 10 if fields.array_task_id is not None else 0
        case "j":
            return fields.job_id
        case "J":
            return str(fields.job_id) if fields.step == "batch" else f"{fields.job_id}.{fields.step}"
        case "N":
            return fields.node_name.split(".")[0]
        case "n":
            return fields.node_index
        case "s":
            return fields.step
        case "t":
            return fields.task_index
        case "r":
            return fields.restart_count
        case "u":
            return _flat(fields.user_name)
        case _:
            return _flat(fields.job_name)


def _flat(name: str) -> str:
    flat = name.replace("/", "_")
    return flat if flat not in (".", "..") else "_"


def output_mode(open_mode: str | None, restart_count: int) -> str:
    """启动时怎样打开输出文件（sbatch(1) 的 --open-mode）：没有写的，首次截断，重新排队之后追加。"""
    return open_mode or ("append" if restart_count else "truncate")


def left_by_others(modified_s: float, mode: str, claimed_s: float | None, *, running: bool) -> bool:
    """没有结束的作业的输出文件里还是从前的内容：要截断的，启动的时候才截断，之前里面是同名的旧文件。

    modified_s 是文件的修改时刻，claimed_s 是节点认领这一次的时刻（Unix 秒），还没有认领是 None；
    running 表示进程号已经写进数据库，早就打开了：文件服务器的钟不准也至多瞒到那时。
    """
    if mode == "append" or running:
        return False
    return claimed_s is None or modified_s < claimed_s - COARSE_CLOCK_S


def job_output_paths(
    standard_output: str | None, standard_error: str | None, fields: OutputFields, directory: str
) -> tuple[str, str | None]:
    """作业的标准输出与标准错误的绝对路径；没有另写标准错误时后者为 None（与输出同一个文件）。"""
    default = DEFAULT_ARRAY_OUTPUT if fields.array_task_id is not None else DEFAULT_OUTPUT
    stdout = expand_output_path(standard_output or default, fields, directory)
    if not standard_error:
        return stdout, None
    stderr = expand_output_path(standard_error, fields, directory)
    return stdout, None if stderr == stdout else stderr
