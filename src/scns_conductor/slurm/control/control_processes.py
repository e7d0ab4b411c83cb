"""scontrol listpids、pidinfo：本机上属于作业的进程，从它们的环境变量认出（scontrol(1)）。"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scns_conductor.client import ClientError
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal, connect, slurm_error
from scns_conductor.slurm.table.times import epoch

_NAMES = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_LOCALID", "SLURM_PROCID", "SLURM_TASK_PID", "SCNS_URL")


@dataclass(frozen=True, slots=True)
class JobProcess:
    """一个进程；local_id、global_id 只有任务自己有，它的子进程是 -。"""

    pid: int
    job_id: str
    step: str
    local_id: str
    global_id: str


def job_processes(url: str, root: Path = Path("/proc")) -> list[JobProcess]:
    """本机上属于 url 这个系统的作业的进程，按作业、步、进程号；读不到别人的就不列。"""
    found = []
    for folder in root.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            raw = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        pairs = (line.partition("=") for line in raw.split("\0"))
        known = {name: value for name, _, value in pairs if name in _NAMES}
        if not known.get("SLURM_JOB_ID", "").isdigit() or known.get("SCNS_URL", url) != url:
            continue
        step = known.get("SLURM_STEP_ID", "batch")
        mine = known.get("SLURM_TASK_PID") == folder.name
        local, everywhere = (known.get(name, "0") if mine else "-" for name in ("SLURM_LOCALID", "SLURM_PROCID"))
        found.append(JobProcess(int(folder.name), known["SLURM_JOB_ID"], step, local, everywhere))
    return sorted(found, key=lambda each: (int(each.job_id), each.step != "batch", each.step, each.pid))


def list_pids(_parsed: Parsed, words: list[str]) -> int:
    """listpids [作业号[.步]]。"""
    wanted, _, step = (words[0] if words else "").partition(".")
    if wanted and not wanted.isdigit():
        raise Fatal(f'"{words[0]}" does not look like a jobid', prefix=None)
    with connect() as client:
        processes = job_processes(client.url)
    rows = [each for each in processes if wanted in ("", each.job_id) and step in ("", each.step)]
    if wanted and not rows:
        name = f"StepId={wanted}.{step}" if step else f"JobId={wanted}"
        print(f"{name} does not exist on node (null).", file=sys.stderr)
    print("PID      JOBID    STEPID   LOCALID GLOBALID")
    for each in rows:
        print(f"{each.pid:<8} {each.job_id:<8} {each.step:<8} {each.local_id:<7} {each.global_id:<8}")
    return 1 if wanted and not rows else 0


def list_jobs(_parsed: Parsed, _words: list[str]) -> int:
    """listjobs：本机上有进程的作业（23.11 起）。"""
    with connect() as client:
        found = dict.fromkeys(each.job_id for each in job_processes(client.url))
    print("\n".join(["JOBID", *found]))
    return 0


def list_steps(_parsed: Parsed, _words: list[str]) -> int:
    """liststeps：本机上有进程的作业步（23.11 起）。"""
    with connect() as client:
        found = dict.fromkeys(f"{each.job_id}.{each.step}" for each in job_processes(client.url))
    print("\n".join(["STEPID", *found]))
    return 0


def pid_info(_parsed: Parsed, words: list[str]) -> int:
    """pidinfo 进程号：它属于哪个作业，还剩多久。"""
    if not words:
        raise Fatal("missing argument for keyword:pidinfo", prefix=None)
    if not words[0].isdigit():
        raise Fatal("Failed to locate job for requested pid", prefix=None)
    with connect() as client:
        owner = next((each.job_id for each in job_processes(client.url) if each.pid == int(words[0])), None)
        if owner is None:
            raise Fatal("Failed to locate job for requested pid", prefix=None)
        try:
            job = client.job(owner)
        except ClientError as error:
            raise Fatal(slurm_error(error), prefix=None) from error
    start, limit = epoch(job["start_time"]), job["time_limit"]
    if start is None or limit is None:
        print(f"Slurm JobId={owner} has no end time")
        return 0
    end = start + float(limit) + float(job["suspended_s"] or 0)
    print(f"Slurm JobId={owner} ends at {time.strftime('%a %b %d %H:%M:%S %Y', time.localtime(end))}")
    print(f"Job remaining time is {max(0, int(end - time.time()))} seconds")
    return 0
