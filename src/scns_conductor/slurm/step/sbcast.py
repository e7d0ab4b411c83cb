"""sbcast：把一个文件送到作业的全部节点（sbcast(1)）。"""

import os
import sys

from scns_conductor.slurm.parse.options import flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.step.broadcast import broadcast

_USAGE = "Usage: sbcast [-CfFjpvV] SOURCE DEST"
OPTIONS = [
    *flags("-f --force", "-p --preserve", "-v --verbose", "-V --version", "-h --help", "--usage"),
    *values("-j --jobid"),
    *hints(values("-F --fanout --treewidth", "-s --size", "-t --timeout"), [option("-C --compress", "optional")]),
    *refused(values("--exclude"), [option("--send-libs", "optional")]),
]


def main(words: list[str]) -> int:
    """成功返回 0；失败说出是哪个节点。"""
    parsed = parse_or_exit("sbcast", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if len(parsed.arguments) != 2:
        print(f"Need two file names, have {len(parsed.arguments)} names", file=sys.stderr)
        print('Try "sbcast --help" for more information', file=sys.stderr)
        return 1
    if "exclude" in parsed:
        raise Fatal("--exclude is not supported by this system")
    if "send_libs" in parsed and (parsed.last("send_libs") or "yes").lower() not in ("no", "n"):
        raise Fatal("--send-libs is not supported by this system")
    job_id = parsed.last("jobid") or os.environ.get("SLURM_JOB_ID") or os.environ.get("SLURM_JOBID")
    if not job_id:
        raise Fatal("Need a job id to run this command.  Run from within a Slurm job or use the --jobid option.")
    source, destination = parsed.arguments
    with connect() as client:
        broadcast(
            client,
            job_id.partition(".")[0].partition("+")[0],
            source,
            destination,
            force="force" in parsed,
            preserve="preserve" in parsed,
        )
    return 0
