"""strigger：不支持，点名拒绝。

Slurm 以 SlurmUser 的身份在控制器上执行触发的程序。本系统的 API 与调度器常常不以 root 运行，不能换成定触发的人的身份；
以服务的身份执行用户给的程序等于把服务的权限交给每个用户。要在作业结束时做事，用依赖它的作业或 --mail-type。
"""

import sys

from scns_conductor.slurm.parse.options import flags, option, values
from scns_conductor.slurm.session import Fatal, parse_or_exit

OPTIONS = [
    *flags("-a --primary_slurmctld_failure", "-A --primary_slurmctld_resumed_operation", "-b --primary_slurmctld_acct"),
    *flags("-B --backup_slurmctld_failure", "-d --down", "-D --drained", "-f --fini", "-F --fail", "-u --up"),
    *flags("-g --primary_slurmdbd_failure", "-G --primary_slurmdbd_resumed_operation", "-h --noheader", "-I --idle"),
    *flags("-n --node-any", "-Q --quiet", "-r --reconfig", "-t --time-left", "-v --verbose", "-V --version"),
    *flags("--set", "--get", "--clear", "--burst_buffer", "--draining", "--resume", "--help", "--usage"),
    *values("-i --id", "-j --jobid", "-M --clusters --cluster", "-o --offset", "-p --program", "--flags", "--user"),
    option("--node", "optional"),
    option("--time", "optional"),
]


def main(words: list[str]) -> int:
    """选项写错照 Slurm 报错；--get 没有触发可列；--set、--clear 拒绝并说明为什么。"""
    parsed = parse_or_exit("strigger", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: strigger [--set | --get | --clear] [OPTIONS]")
        return 0
    chosen = [key for key in ("set", "get", "clear") if key in parsed]
    if len(chosen) != 1:
        raise Fatal("You must use exactly one of the following options: --set, --get or --clear")
    if chosen == ["get"]:
        return 0
    if chosen == ["set"] and not parsed.last("program"):
        raise Fatal("You must specify a --program value")
    print(
        f"strigger: error: --{chosen[0]} is not supported by this system: it never runs a user's program as the "
        "service itself.\nstrigger: error: Use sbatch --dependency=afterany:JOBID or sbatch --wait instead",
        file=sys.stderr,
    )
    return 1
