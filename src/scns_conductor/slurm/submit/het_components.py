"""异构作业的写法：命令行里以冒号隔开，脚本里以 #SBATCH hetjob 隔开；哪些选项沿用到后面的部分。

见 Slurm 的 heterogeneous_jobs.html。
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from scns_conductor.slurm.parse.options import Option, Parsed
from scns_conductor.slurm.session import Fatal, parse_or_exit

Pairs = list[tuple[str, str]]

SEPARATOR = ":"
SCRIPT_SEPARATORS = frozenset({"hetjob", "packjob"})
MOST_COMPONENTS = 128
# 写在前一个部分、后面的部分没有另写的就沿用；别的（任务数、内存、分区……）各部分从头写。
PROPAGATED = frozenset(
    {
        "account", "acctg_freq", "begin", "chdir", "cluster_constraint", "clusters", "comment", "container",
        "container_image", "deadline", "delay_boot", "dependency", "distribution", "epilog", "error", "exclude",
        "export", "export_file", "get_user_env", "hold", "ignore_pbs", "immediate", "input", "job_name", "jobid",
        "kill_on_bad_exit", "label", "mcs_label", "mpi", "msg_timeout", "nice", "no_kill", "no_requeue", "open_mode",
        "output", "parsable", "priority", "profile", "prolog", "propagate", "pty", "qos", "quiet", "quit_on_interrupt",
        "relative", "requeue", "reservation", "signal", "slurmd_debug", "task_epilog", "task_prolog", "test_only",
        "threads", "time", "unbuffered", "verbose", "wait", "wait_all_nodes", "wckey",
    }
)  # fmt: skip
_GROUPED = re.compile(r"(\w+)_HET_GROUP_(\d+)")


def parse_components(command: str, words: Sequence[str], options: Sequence[Option], *, code: int) -> list[Parsed]:
    """以冒号隔开的各个部分的选项（没有冒号是一个）；位置参数都在最后一个里（sbatch、salloc）。"""
    found = [parse_or_exit(command, words, options, permute=False, code=code)]
    while found[-1].arguments[:1] == [SEPARATOR]:
        rest, found[-1].arguments = found[-1].arguments[1:], []
        found.append(parse_or_exit(command, rest, options, permute=False, code=code))
    return _few_enough(found)


def parse_commands(command: str, words: Sequence[str], options: Sequence[Option], *, code: int) -> list[Parsed]:
    """srun 的：冒号隔开的各段都可以有自己的命令；没有写的用最后一段的。"""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(word)
    found = [parse_or_exit(command, part, options, permute=False, code=code) for part in parts]
    for each in found:
        each.arguments = each.arguments or list(found[-1].arguments)
    return _few_enough(found)


def header_parts(tokens: Sequence[str], parse: Callable[[Sequence[str]], Parsed]) -> list[Parsed]:
    """#SBATCH 行里的选项词，以 hetjob 隔开成各个部分；别的位置参数留在那一部分里。"""
    found = [parse(tokens)]
    while found[-1].arguments[:1] and found[-1].arguments[0] in SCRIPT_SEPARATORS:
        rest, found[-1].arguments = found[-1].arguments[1:], []
        found.append(parse(rest))
    return _few_enough(found)


def propagated(parts: Iterable[Pairs]) -> list[Pairs]:
    """各个部分写的选项 -> 连同沿用的；沿用的在前，自己写的胜过它们。"""
    found: list[Pairs] = []
    for pairs in parts:
        before = [pair for pair in found[-1] if pair[0] in PROPAGATED] if found else []
        found.append([*before, *pairs])
    return found


def of_group(environment: Mapping[str, str], group: int) -> dict[str, str]:
    """第 group 个部分看到的环境：说作业的变量换成那个部分的（去掉 _HET_GROUP_n），别的部分的不留。"""
    names = {match[1] for name in environment if (match := _GROUPED.fullmatch(name))}
    kept = {name: value for name, value in environment.items() if name not in names and not _GROUPED.fullmatch(name)}
    mine = {
        name: environment[f"{name}_HET_GROUP_{group}"] for name in names if f"{name}_HET_GROUP_{group}" in environment
    }
    return {**kept, **mine}


def _few_enough(found: list[Parsed]) -> list[Parsed]:
    if len(found) > MOST_COMPONENTS:
        raise Fatal(f"Too many heterogeneous job components, the maximum is {MOST_COMPONENTS}")
    return found
