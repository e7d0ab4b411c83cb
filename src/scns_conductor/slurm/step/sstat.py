"""sstat：正在运行的作业步的用量（sstat(1)）。列与 sacct 的作业步相同。"""

from scns_conductor.client import Problem
from scns_conductor.slurm.accounting.accounting_columns import FIELDS
from scns_conductor.slurm.accounting.sacct_table import chosen_fields, lines
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.parse.options import flags, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, say
from scns_conductor.slurm.step.step_values import accounting_row

DEFAULT_FORMAT = (
    "jobid,maxvmsize,maxvmsizenode,maxvmsizetask,avevmsize,maxrss,maxrssnode,maxrsstask,averss,maxpages,maxpagesnode,"
    "maxpagestask,avepages,mincpu,mincpunode,mincputask,avecpu,ntasks,avecpufreq,reqcpufreqmin,reqcpufreqmax,"
    "reqcpufreqgov,consumedenergy,maxdiskread,maxdiskreadnode,maxdiskreadtask,avediskread%12,maxdiskwrite,"
    "maxdiskwritenode,maxdiskwritetask,avediskwrite%12,tresusageinave,tresusageinmax,tresusageinmaxnode,"
    "tresusageinmaxtask,tresusageinmin,tresusageinminnode,tresusageinmintask,tresusageintot,tresusageoutave,"
    "tresusageoutmax,tresusageoutmaxnode,tresusageoutmaxtask,tresusageoutmin,tresusageoutminnode,"
    "tresusageoutmintask,tresusageouttot"
)
# sstat(1) 的列：作业步的用量。
_NAMES = {
    *(word.partition("%")[0] for word in DEFAULT_FORMAT.split(",")), "consumedenergyraw",
}  # fmt: skip
OPTIONS = [
    *flags("-a --allsteps", "-e --helpformat", "-h --help", "-n --noheader"),
    *flags("--noconvert", "-v --verbose"),
    *refused(flags("-i --pidformat")),
    *flags("-p --parsable", "-P --parsable2", "--usage", "-V --version"),
    *values("-j --jobs", "-o --format --fields"),
    option("--delimiter", "value"),
]


def main(words: list[str]) -> int:
    """-j 是必须的；没有写步号的是最小的一步，-a 是全部。"""
    parsed = parse_or_exit("sstat", words, OPTIONS, hint=False)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sstat [<OPTION>] -j <job(.stepid)>")
        return 0
    if "helpformat" in parsed:
        names = [FIELDS[name].name for name in sorted(_NAMES)]
        for start in range(0, len(names), 4):
            print(" ".join(f"{name:<19}" for name in names[start : start + 4]))
        return 0
    if "pidformat" in parsed:
        raise Fatal("--pidformat is not supported by this system; use scontrol listpids on the node")
    wanted = [word for text in parsed.every("jobs") for word in split_list(text)]
    if not wanted:
        raise Fatal("You didn't give me any jobs to stat.")
    chosen = chosen_fields(parsed.every("format") or [DEFAULT_FORMAT])
    rows = []
    with connect() as client:
        for word in wanted:
            number, _, which = word.partition(".")
            if not number.replace("_", "").isdigit():
                raise Fatal(f"Bad job/step specified: {word}", prefix="fatal: ")
            try:
                job = client.job(number)
            except Problem as problem:
                if problem.status != 404:
                    raise
                # 照 Slurm：说一句，其余照列，退出码 0。
                say("sstat", f"error: couldn't get steps for job {number}")
                continue
            live = [step for step in client.steps([str(job["job_id"])], live=True) if step["end_time"] is None]
            found = [accounting_row(job, step) for step in live]
            if job["state"] in ("RUNNING", "SUSPENDED") and not job["interactive"]:
                found.insert(0, {**job, "step": "batch"})
            if which:
                found = [row for row in found if row["step"] == which]
            elif "allsteps" not in parsed:
                found = [row for row in found if row["step"] != "batch"][:1] or found[:1]
            if not found:
                raise Fatal(f"couldn't get steps for job {number}")
            # --noconvert 是字节本身，同 sacct。
            rows += [{**row, "units": ""} for row in found] if "noconvert" in parsed else found
    for line in lines(chosen, rows, parsed):
        print(line)
    return 0
