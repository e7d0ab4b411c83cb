"""脚本里的 #BSUB（LSF）与 #PBS 行换成 sbatch 的选项，照 sbatch(1) 的 --ignore-pbs 所说的：缺省就认。

两种都有时只看 #BSUB。没有对应的资源与选项（cput 之外的计费、检查点……）不起作用；不认识的选项是错误。
"""

import re
from collections.abc import Callable
from typing import Any

from scns_conductor.core.batch_script import directive_tokens
from scns_conductor.slurm.parse.options import UsageError, flags, option, parse, values
from scns_conductor.slurm.session import Fatal

Pairs = list[tuple[str, str]]
# 选项名 -> sbatch 的选项；None 的认得而没有作用。
_BSUB = {
    "cwd": "chdir", "error_file": "error", "job_name": "job_name", "hostname": "nodelist",
    "memory_limit": "mem_per_cpu", "tasks": "ntasks", "output_file": "output", "queue_name": "partition",
    "time": "time", "exclusive": "exclusive",
}  # fmt: skip
_BSUB_OPTIONS = [
    *values("-c --cwd", "-e --error_file", "-J --job_name", "-m --hostname", "-M --memory_limit"),
    *values("-o --output_file", "-q --queue_name", "-W --time"),
    option("-n", "value", key="tasks"),
    *flags("-x --exclusive"),
]
_PBS = {
    "start_time": "begin", "account": "account", "error": "error", "hold": "hold", "job_array": "array",
    "array": "array", "mail_user_list": "mail_user", "job_name": "job_name", "out": "output", "priority": "nice",
    "destination": "partition",
}  # fmt: skip
_PBS_OPTIONS = [
    *values("-a --start_time", "-A --account", "-c --checkpoint", "-C --working_dir", "-e --error"),
    *flags("-h --hold", "-I --interactive", "-V --all_env", "-z --no_std"),
    *values("-j --join", "-J --job_array", "-k --keep", "-l --resource_list", "-m --mail_options"),
    *values("-M --mail_user_list", "-N --job_name", "-o --out", "-p --priority", "-q --destination"),
    *values("-r --rerunable", "-S --script_path", "-t --array", "-u --running_user", "-v --variable_list"),
    *values("-W --attributes"),
]
_MAIL = {"b": "BEGIN", "e": "END", "a": "FAIL"}


def foreign_options(script: str) -> Pairs:
    """两种行里的选项，按先后；没有这样的行则为空。"""
    tokens = directive_tokens(script, ("#BSUB",))
    if tokens:
        # LSF 的 -cwd 只有一个横线。
        return _parsed(["--cwd" if word == "-cwd" else word for word in tokens], _BSUB_OPTIONS, _bsub)
    tokens = directive_tokens(script, ("#PBS",))
    return _parsed(tokens, _PBS_OPTIONS, _pbs) if tokens else []


def _parsed(tokens: list[str], options: list[Any], convert: Callable[[str, str], Pairs]) -> Pairs:
    try:
        found = parse(tokens, options, permute=False)
    except UsageError as error:
        raise Fatal(f"{error}", "Unrecognized command line parameter ?") from None
    if found.arguments:
        raise Fatal(f"Invalid argument: {found.arguments[0]}")
    return [pair for key, value in found.pairs for pair in convert(key, value)]


def _bsub(key: str, value: str) -> Pairs:
    if key == "hostname":
        value = ",".join(value.split())
    if key == "tasks":
        # 最少,最多：取最多。
        value = value.rpartition(",")[2]
    return [(_BSUB[key], value)]


def _pbs(key: str, value: str) -> Pairs:
    if key == "resource_list":
        return _resources(value)
    if key == "mail_options":
        kinds = ["NONE"] if "n" in value.lower() else [_MAIL[letter] for letter in value.lower() if letter in _MAIL]
        if not kinds:
            raise Fatal(f"-m={value} invalid")
        return [("mail_type", ",".join(kinds))]
    if key == "variable_list":
        return [("export", value)]
    if key == "attributes":
        name, _, text = value.partition("=")
        return [("dependency", text)] if name.lower() == "depend" else []
    if key in ("error", "out") and value.lower() == "none":
        value = "/dev/null"
    return [(_PBS[key], value)] if key in _PBS else []


def _resources(text: str) -> Pairs:
    """-l 的 walltime=1:00:00,nodes=2:ppn=4,mem=4gb 与 select=2:ncpus=4:mpiprocs=2。"""
    pairs: Pairs = []
    for item in re.split(r",(?=[a-z]+=)", text):
        name, _, value = item.partition("=")
        if name == "nodes":
            pairs += _nodes(value)
        elif name == "select":
            pairs += _select(value)
        elif name in ("walltime", "cput", "pcput"):
            pairs.append(("time", value))
        elif name in ("mem", "file"):
            pairs.append(("mem" if name == "mem" else "tmp", value.lower().removesuffix("b")))
        elif name == "nice":
            pairs.append(("nice", value))
        elif name == "proc":
            pairs.append(("constraint", value))
        elif name == "ncpus":
            pairs.append(("mincpus", value))
        elif name == "mpiprocs":
            pairs.append(("ntasks_per_node", value))
        elif name == "naccelerators" or (name == "accelerator" and value.lower() == "true"):
            pairs.append(("gres", f"gpu:{value if value.isdigit() else 1}"))
    return pairs


def _nodes(text: str) -> Pairs:
    """nodes=2:ppn=4+host7：节点数、每节点的任务数、节点名。"""
    count = tasks = 0
    names: list[str] = []
    for word in re.split(r"[+:]", text):
        if word.startswith("ppn="):
            tasks += int(word[4:]) if word[4:].isdigit() else 0
        elif word[:1].isdigit():
            count += int(re.match(r"\d+", word)[0])  # type: ignore[index]
        elif word:
            names.append(word)
    pairs: Pairs = [("nodes", str(count))] if count else []
    if tasks:
        pairs.append(("ntasks", str(tasks * (count or 1))))
    if names:
        pairs.append(("nodelist", ",".join(names)))
    return pairs


def _select(text: str) -> Pairs:
    """select=2:ncpus=4:mpiprocs=2（PBS Pro）：节点数、每节点的 CPU 与任务。"""
    count, *rest = text.split(":")
    given = dict(word.partition("=")[::2] for word in rest)
    pairs: Pairs = [("nodes", count)]
    cpus, tasks = given.get("ncpus", ""), given.get("mpiprocs", "")
    if tasks:
        pairs.append(("ntasks_per_node", tasks))
    if cpus:
        pairs.append(("mincpus", cpus))
    if cpus.isdigit() and tasks.isdigit() and int(cpus) > int(tasks) > 0:
        pairs.append(("cpus_per_task", str(int(cpus) // int(tasks))))
    if given.get("mem"):
        pairs.append(("mem", given["mem"].lower().removesuffix("b")))
    return pairs
