"""sacct：记账，结束的作业也在其中（sacct(1)）。"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.slurm.accounting.accounting_columns import (
    BRIEF_FORMAT,
    DEFAULT_FORMAT,
    FIELDS,
    LONG_FORMAT,
    Field,
    expanded_output,
    is_step,
)
from scns_conductor.slurm.accounting.job_attempts import attempts, truncated
from scns_conductor.slurm.accounting.sacct_selection import (
    ASKING_NEEDS,
    asked_steps,
    chosen_jobs,
    job_columns,
    moment,
)
from scns_conductor.slurm.accounting.sacct_table import NEWER, chosen_fields, lines
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error
from scns_conductor.slurm.step.step_values import accounting_row, steps_of
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columnar import Row

OPTIONS = [
    *flags("-a --allusers", "-b --brief", "-B --batch-script", "-D --duplicates", "--array"),
    *flags(
        "-e --helpformat",
        "--env-vars",
        "-h --help",
        "--helpstate",
        "-l --long",
    ),
    *flags("-n --noheader", "--noconvert", "-p --parsable", "-P --parsable2", "-T --truncate", "--usage"),
    *flags("-V --version", "-X --allocations", "--me"),
    *flags("--expand-patterns", "-v --verbose"),
    option("--whole-hetjob", "optional"),
    *hints(flags("--fedorig", "-L --allclusters", "--local", "--federation", "--use-local-uid")),
    *refused(values("-x --associations", "-f --file", "-F --flags"), flags("-c --completion")),
    *values("-A --accounts", "-C --constraints", "--delimiter", "-E --endtime"),
    *values("-g --gid --group", "-i --nnodes", "-I --ncpus", "-j --jobs", "-k --timelimit-min"),
    *values("-K --timelimit-max", "-M --clusters --cluster", "-N --nodelist", "--name", "-o --format", "-q --qos"),
    *values(
        "-r --partition", "-R --reason", "-s --state", "-S --starttime", "--units", "-u --user --uid", "-W --wckeys"
    ),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
# 选与排要用到的字段；服务器没有的条件各要的。
_ALWAYS = "array_job_id array_task_id het_job_id het_job_offset submit_time start_time end_time"
_STEP_NEEDS = "state name interactive batch_host node_list"


def main(words: list[str]) -> int:
    """列出记账的行。"""
    parsed = parse_or_exit("sacct", words, OPTIONS, hint=False)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sacct [options]")
        return 0
    if "helpstate" in parsed:
        print(of.state_list())
        return 0
    if "helpformat" in parsed:
        names = [field.name for field in FIELDS.values() if field.name not in NEWER]
        for start in range(0, len(names), 4):
            print(" ".join(f"{name:<19}" for name in names[start : start + 4]))
        return 0
    of.require_own_cluster(parsed.last("clusters", ""))
    if parsed.arguments:
        raise Fatal("Unknown arguments:", *(f" {word}" for word in parsed.arguments))
    for key in ("file", "associations", "flags"):
        if key in parsed:
            raise Fatal(f"--{key} is not supported by this system")
    if "completion" in parsed:
        raise Fatal("Slurm job completion is disabled", prefix=None)
    chosen = _fields(parsed)
    with connect() as client:
        if "batch_script" in parsed or "env_vars" in parsed:
            return _stored(client, parsed)
        whole = "json" in parsed or "yaml" in parsed
        every = whole or "duplicates" in parsed
        rows = _rows(client, parsed, None if every else _needs(parsed, chosen))
    if "truncate" in parsed:
        rows = [truncated(row, *_window(parsed)) for row in rows]
    if whole:
        return _write_json(parsed, rows)
    if "expand_patterns" in parsed:
        rows = [row if is_step(row) else {**row, **expanded_output(row)} for row in rows]
    units = _units(parsed)
    if units is not None:
        rows = [{**row, "units": units} for row in rows]
    found = lines(chosen, rows, parsed)
    if found:
        print("\n".join(found))
    return 0


def _window(parsed: Parsed) -> tuple[float | None, float]:
    """写明了的从何时到何时；-T 按它截断。"""
    start = parsed.last("starttime") or os.environ.get("SLURM_SACCT_STARTTIME")
    end = parsed.last("endtime")
    return (moment(start) if start else None), (moment(end) if end else time.time())


def _needs(parsed: Parsed, chosen: Sequence[tuple[Field, int]]) -> set[str] | None:
    """要问的字段：十万行才快；有一列不清楚时是 None，全部都问。"""
    found = set(_ALWAYS.split()) | set(of.OUTPUT_FIELDS.split() if "expand_patterns" in parsed else ())
    if "array" in parsed:
        found |= {"array_remaining", "array_max_tasks"}
    if "allocations" not in parsed:
        found |= set(_STEP_NEEDS.split())
    for key, needs in ASKING_NEEDS.items():
        if key in parsed:
            found |= set(needs.split())
    for field, _ in chosen:
        if field.needs is None:
            return None
        found |= set(field.needs.split())
    return found


def _units(parsed: Parsed) -> str | None:
    """--units=K…P；--noconvert 是空的；都没有是 None。"""
    if "noconvert" in parsed:
        return ""
    unit = (parsed.last("units") or "").upper()
    if unit and (len(unit) > 1 or unit not in "KMGTP"):
        print(f"sacct: error: Invalid unit type '{unit}'. Possible options are 'KMGTP'", file=sys.stderr)
        raise Fatal("Invalid unit type", prefix="fatal: ")
    return unit or None


def _write_json(parsed: Parsed, rows: Sequence[Row]) -> int:
    from scns_conductor.slurm.shapes.accounting_jobs import accounting_record
    from scns_conductor.slurm.table.json_answer import asked_version, write_answer

    version = asked_version(parsed)
    steps: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("step"):
            steps.setdefault(str(row["job_id"]), []).append(row)
    jobs = (row for row in rows if not row.get("step"))
    records = (accounting_record(version, job, steps.get(str(job["job_id"]), ())) for job in jobs)
    return write_answer(parsed, "openapi_slurmdbd_jobs_resp", "jobs", records, kind="openapi/slurmdbd")


def _stored(client: JsonClient, parsed: Parsed) -> int:
    """-B 是脚本，--env-vars 是提交时的环境；只有本人与管理员看得到。"""
    for job in chosen_jobs(client, parsed):
        name = of.display_id(job)
        try:
            if "batch_script" in parsed:
                text, title = client.script(job["job_id"]), f"Batch Script for {name}"
            else:
                found = client.job(job["job_id"]).get("environment") or {}
                text = "\n".join(f"{key}={value}" for key, value in sorted(found.items()))
                title = f"Environment used for {name} (must be batch to display)"
        except Problem as problem:
            raise Fatal(slurm_error(problem)) from problem
        print(f"{title}\n{'-' * 80}\n{text.rstrip()}\n" if text else f"{title}\n{'-' * 80}\nNONE\n")
    return 0


def _fields(parsed: Parsed) -> list[tuple[Field, int]]:
    """列与宽度；--format 可以写几次，合在一起。"""
    texts = parsed.every("format")
    if not texts:
        default = LONG_FORMAT if "long" in parsed else BRIEF_FORMAT if "brief" in parsed else DEFAULT_FORMAT
        texts = [default if "long" in parsed or "brief" in parsed else os.environ.get("SACCT_FORMAT") or default]
    return chosen_fields(texts)


def _rows(client: JsonClient, parsed: Parsed, needs: set[str] | None) -> Sequence[Row]:
    """要列的行。"""
    alone = "allocations" in parsed and not any(key in parsed for key in ("duplicates", "array"))
    found = job_columns(client, parsed, needs) if alone and needs is not None else None
    return list(_each_row(client, parsed, needs)) if found is None else found


def _each_row(client: JsonClient, parsed: Parsed, needs: set[str] | None) -> Iterable[dict[str, Any]]:
    jobs = chosen_jobs(client, parsed, needs)
    if "array" in parsed:
        jobs = [task for job in jobs for task in of.each_task(job)]
    wanted = asked_steps(parsed)
    launched = {} if "allocations" in parsed else steps_of(client, jobs)
    for job in jobs:
        steps = wanted.get(str(job["job_id"]), wanted.get(of.display_id(job)))
        if "duplicates" in parsed and job["restart_count"] and (steps is None or None in steps):
            yield from attempts(client, job)
        if steps is None or None in steps:
            yield job
        if "allocations" in parsed or not job.get("start_time"):
            continue
        holder = of.holder_step(job)
        if steps is None or steps & {None, holder}:
            yield {**job, "step": holder}
        for step in launched.get(str(job["job_id"]), ()):
            if steps is None or steps & {None, str(step["step_id"])}:
                yield accounting_row(job, step)
