"""每一个命令（scns 的全部、Slurm 的全部）都吃随机的参数：退出码与一行话，没有一个回溯，也不会没完没了。

一次运行是一个 fork 出来的子进程里的 main()：快，而且它怎样死都不连累别的。
"""

import importlib
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from running_system import RunningSystem, start_system
from scns_conductor.cli.command_group import LazyGroup
from scns_conductor.cli.main import COMMANDS as SCNS_COMMANDS
from scns_conductor.cli.main import main as scns_main
from scns_conductor.cli.main import scns
from scns_conductor.slurm.entry import COMMANDS as SLURM_COMMANDS
from scns_conductor.slurm.entry import main as slurm_main
from scns_conductor.slurm.parse.options import Option

pytestmark = pytest.mark.faults

RUNS_PER_COMMAND = 15
# 等作业、跟随输出、循环刷新的命令本来就不返回：到时杀掉，不算错。
ALARM_S = 3
# 一直占着两核里的一个的，是没有尽头的展开。
CPU_S = 2.5
EVIL = [
    "", " ", "-", "--", "=", "::", ",", ",,", "a,,b", "%", "%s%n%d", "\\", "@", "/", ".", "..", "*", "?", "#", "[", "]",
    "{}",
    "n[9-1]", "n[1-9999][1-9999]", "n[1-3", "n1]", "n[²]", "node1", "node1*99999999", "ALL",
    "0", "-1", "1", "1_", "1_[0-9999998:2]", "1.batch", "1.²", "²", "٣", "9" * 400, "9" * 5000, "1e999", "nan", "inf",
    "0x10",
    "1-2-3", "1-99:99", "now", "now+99999999999weeks", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "2026-02-30",
    "24:00",
    "1G", "-1G", "9" * 30 + "P", "gpu:a:b:c", "gpu:-1", "cpu=", "=4", "cpu=x", "afterok:", "afterok:²", "SIGNOPE", "64",
    "USR1",
    "PENDING", "nope", "main", "name=x", "partition=main", "jobid=1", "jobid=²", "nodename=n[9-1]", "starttime=never",
    "/nonexistent/x", "/dev/null", "/proc/self/mem", "/", "名字", "a\nb", "a\tb", "\ud800",
]  # fmt: skip
SUBJECTS = {
    "scontrol": ["show", "update", "hold", "release", "requeue", "suspend", "create", "delete", "job", "node",
                 "partition",
                 "reservation", "hostnames", "hostlist", "config", "ping", "listpids", "top", "notify", "steps",
                 "reboot", "cancel_reboot", "write", "token", "wait_job", "crontab", "requeuehold", "pidinfo",
                 "errnumstr", "assoc_mgr", "topology", "licenses", "aliases"],
    "sacctmgr": ["show", "add", "modify", "delete", "user", "account", "qos", "association", "set", "where",
                 "cluster", "list", "reservation", "wckey", "coordinator", "event", "runawayjobs", "stats",
                 "configuration", "tres", "dump", "load", "ping"],
    "sreport": ["cluster", "user", "job", "utilization", "topusage", "sizesbyaccount", "accountutilizationbyuser",
                "wckeyutilizationbyuser", "sizesbywckey", "reservation"],
    "strigger": ["--set", "--get", "--clear"],
    "scrontab": ["-", "-l", "-r", "/dev/stdin"],
    "sbatch": ["/dev/stdin", "-"],
}  # fmt: skip
# 从标准输入读的：脚本、crontab、sacctmgr 与 scontrol 的行、sacctmgr 的文件。
LINES = [
    "#!/bin/cat", "#SBATCH ", "#SBATCH hetjob", "#PBS -l ", "#BSUB -W ", "#SCRON ", "@daily ", "* * * * * ",
    "61 25 0 13 8 ", "0-59/0 * * * * ", "NAME=", "show ", "update jobid=", "add user ",
    "Cluster - 'c':", "Parent - 'root'",
    "Account - 'a':Description='", "User - ", "# ",
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """一个命令：怎样运行它，它认得的选项（名字，要不要值）。"""

    words: tuple[str, ...]
    main: Callable[[list[str]], None]
    options: tuple[tuple[str, bool], ...]


def slurm_options(name: str) -> tuple[tuple[str, bool], ...]:
    """模块里各张选项表的全部选项。"""
    found: dict[str, bool] = {}
    modules = [f"{SLURM_COMMANDS[name]}.{name}"]
    modules += ["submit.batch_options"] if name in ("sbatch", "salloc") else []
    modules += ["step.srun_options"] if name == "srun" else []
    for module in modules:
        for value in vars(importlib.import_module(f"scns_conductor.slurm.{module}")).values():
            if isinstance(value, list | tuple):
                for each in value:
                    if isinstance(each, Option):
                        found.update((f"--{long}", each.takes != "none") for long in each.long)
                        found.update((f"-{short}", each.takes != "none") for short in each.short)
    return tuple(found.items())


def slurm_command(name: str) -> Command:
    return Command((name,), lambda words: slurm_main(words), slurm_options(name))


def run_scns(words: list[str]) -> None:
    sys.argv = words
    scns_main()


def scns_commands() -> Iterator[Command]:
    """scns 的每个子命令，以及子命令的子命令。"""
    group = scns
    assert isinstance(group, LazyGroup)
    for name in SCNS_COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        children = command.commands.items() if isinstance(command, click.Group) else [(None, command)]
        for child, each in children:
            options = [
                (spelling, not parameter.is_flag)
                for parameter in each.params
                if isinstance(parameter, click.Option)
                for spelling in parameter.opts
            ]
            yield Command(("scns", name, *([child] if child else [])), run_scns, tuple(options))


def random_word(dice: random.Random) -> str:
    if dice.random() < 0.08:
        return os.fsdecode(dice.randbytes(dice.randint(1, 8)).replace(b"\0", b""))
    return dice.choice(EVIL)


def random_input(dice: random.Random) -> bytes:
    """标准输入：什么也没有，乱的字节，或像样的行里填进没有见过的值。"""
    kind = dice.random()
    if kind < 0.3:
        return b""
    if kind < 0.5:
        return dice.randbytes(dice.randint(1, 200))
    lines = (dice.choice(LINES) + random_word(dice) for _ in range(dice.randint(1, 6)))
    return "\n".join(lines).encode(errors="surrogatepass")


def random_words(command: Command, dice: random.Random) -> list[str]:
    """命令的名字、几个认得的选项与没有见过的值。"""
    words = list(command.words)
    for subject in range(2):
        if command.words[-1] in SUBJECTS and dice.random() < 0.9 - 0.3 * subject:
            words.append(dice.choice(SUBJECTS[command.words[-1]]))
    for _ in range(dice.randint(0, 3)):
        if command.options and dice.random() < 0.8:
            name, valued = dice.choice(command.options)
            words += [f"{name}={random_word(dice)}"] if valued and name.startswith("--") else [name, random_word(dice)]
        else:
            words.append(random_word(dice))
    words.append(random_word(dice))
    return words


# 它们真的会启动、停止、改掉什么：只给它们认不得的。
DANGEROUS = {"up", "down", "api", "web", "worker", "db", "completion"}


def run_in_a_child(
    command: Command, words: list[str], environment: dict[str, str], log: Path, given: bytes = b""
) -> int:
    """wait 的状态；输出在 log 里。"""
    read = log.with_name("input")
    read.write_bytes(given)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.environ.clear()
            os.environ.update(environment)
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            feed = os.open(read, os.O_RDONLY)
            for source, number in ((feed, 0), (sink, 1), (sink, 2)):
                os.dup2(source, number)
            sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - 子进程就要结束
            sys.stdout = open(1, "w", encoding=environment["STDOUT_ENCODING"])  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ALARM_S)
            command.main(words)
            sys.stdout.flush()
            os._exit(0)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            os._exit(code & 0xFF)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            os._exit(99)
    return os.waitpid(child, 0)[1]


@pytest.fixture(scope="module")
def running_system(scratch: Path) -> Iterator[RunningSystem]:
    """自己的一套：乱写的命令里有成了的（建分区、改设置），不能留在大家共用的里面。"""
    with start_system(scratch / "fuzz", "--nodes", "1", "--cpus", "8", "--memory", "16G") as system:
        yield system


@pytest.mark.parametrize("name", [*SLURM_COMMANDS, "scns"])
def test_random_arguments_never_end_in_a_traceback(running_system: RunningSystem, name: str) -> None:
    dice = random.Random(name)
    commands = list(scns_commands()) if name == "scns" else [slurm_command(name)]
    runs = 3 if name == "scns" else RUNS_PER_COMMAND
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        log, home = Path(directory) / "log", os.getcwd()
        environment = {**running_system.environment, "HOME": directory, "LANG": "C.UTF-8"}
        os.chdir(directory)
        try:
            for command in commands:
                for _ in range(runs):
                    words = random_words(command, dice)
                    if command.words[1:2] and command.words[1] in DANGEROUS:
                        words = [*command.words, "--no-such-option", random_word(dice)]
                    environment["STDOUT_ENCODING"] = dice.choice(["utf-8", "ascii"])
                    given = random_input(dice)
                    status = run_in_a_child(command, words, environment, log, given)
                    told = log.read_text(errors="replace")
                    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                    if "Traceback" in told or "Exception ignored" in told or killed not in (0, signal.SIGALRM):
                        broken.append(f"{words!r} < {given!r} -> {status}\n{told[-1500:]}")
        finally:
            os.chdir(home)
            for job in running_system.call("GET", "/jobs?state=PENDING,RUNNING&limit=1000")[1]["jobs"]:
                running_system.call("POST", f"/jobs/cancel/{job['job_id']}")
    assert not broken, f"{len(broken)} 次：\n" + "\n".join(broken[:10])
