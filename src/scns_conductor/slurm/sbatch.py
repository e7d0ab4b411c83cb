"""sbatch：提交脚本（sbatch(1)）。"""

import os
import sys
import time
from typing import Any

from scns_conductor.client import TERMINAL_STATES, Client, ClientError, Problem, Unreachable
from scns_conductor.core.batch_script import header_tokens
from scns_conductor.slurm.batch_options import BAD_OPTION, OPTIONS, environment_options, job_fields
from scns_conductor.slurm.error_words import NODE_CONFIGURATION
from scns_conductor.slurm.options import Parsed, UsageError, parse
from scns_conductor.slurm.script_source import read_script
from scns_conductor.slurm.session import Fatal, connect, current_umask, parse_or_exit, refusal_details, slurm_error

_USAGE = "Usage: sbatch [OPTIONS(0)...] [ : [OPTIONS(N)...]] script(0) [args(0)...]"
# 这些只看命令行，脚本里的不算。
_COMMAND_LINE_ONLY = frozenset({"wrap", "test_only", "help", "usage", "version"})


def main(words: list[str]) -> int:
    """提交，打印 Submitted batch job N。"""
    parsed = parse_or_exit("sbatch", words, OPTIONS, permute=False, code=BAD_OPTION)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    wrap = parsed.last("wrap")
    if wrap is not None and parsed.arguments:
        raise Fatal("Script arguments not permitted with --wrap option")
    path = parsed.arguments[0] if parsed.arguments else None
    script = read_script(path, wrap)
    given = {**_header(script), **dict(environment_options(os.environ)), **dict(parsed.pairs)}
    if "no_requeue" in parsed:
        given.pop("requeue", None)
    job = job_fields(given, os.environ)
    job.setdefault("name", "wrap" if wrap is not None else os.path.basename(path or "") or "sbatch")
    job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or os.getcwd())
    job["submit_host"] = os.uname().nodename
    job["umask"] = current_umask()
    if path is not None and path != "-" and wrap is None:
        job["command"] = os.path.abspath(path)
    if parsed.arguments[1:]:
        job["argv"] = parsed.arguments[1:]
    with connect() as client:
        if "test_only" in parsed:
            return plan_only(client, job, script, "sbatch")
        job_id = _submit(client, job, script)
        quiet = "quiet" in parsed
        print(job_id) if "parsable" in given else None if quiet else print(f"Submitted batch job {job_id}")
        sys.stdout.flush()
        return wait_for(client, job_id) if "wait" in given else 0


def _header(script: str) -> dict[str, str]:
    try:
        found: Parsed = parse(header_tokens(script), OPTIONS)
    except ValueError:
        raise Fatal("Unable to parse batch script: unmatched quotation marks in #SBATCH line") from None
    except UsageError as error:
        print(f"sbatch: {error}", file=sys.stderr)
        print('Try "sbatch --help" for more information', file=sys.stderr)
        raise SystemExit(BAD_OPTION) from None
    return {key: value for key, value in found.pairs if key not in _COMMAND_LINE_ONLY}


def _submit(client: Client, job: dict[str, Any], script: str) -> str:
    try:
        return client.submit(job, script)
    except ClientError as error:
        lines = [*refusal_details(error), f"Batch job submission failed: {slurm_error(error)}"]
        if isinstance(error, Problem) and error.code == "gres_unknown":
            # sbatch 自己认得 GresTypes，没有问服务器就拒绝。
            lines = [slurm_error(error)]
        if isinstance(error, Problem) and error.code == "partition_unknown":
            lines.insert(0, f"invalid partition specified: {job.get('partition')}")
        raise Fatal(*lines) from error


def plan_only(client: Client, job: dict[str, Any], script: str, command: str) -> int:
    """allocation failure 与 Job N to start at 都写到标准错误（sbatch.c）。"""
    try:
        plan = client.plan(job, script)
    except ClientError as error:
        if isinstance(error, Problem) and error.code == "partition_unknown":
            print(f"{command}: error: invalid partition specified: {job.get('partition')}", file=sys.stderr)
        text = slurm_error(error)
        if isinstance(error, Problem) and error.code in ("cpus_exceed_partition", "node_count_invalid"):
            text = NODE_CONFIGURATION
        raise Fatal(f"allocation failure: {text}", prefix=None) from error
    start, nodes = plan.get("start_time") or plan.get("expected_start_time"), plan.get("nodes") or plan.get("node_list")
    if start is None:
        raise Fatal(f"allocation failure: {NODE_CONFIGURATION}", prefix=None)
    from scns_conductor.core.hostlist import compress
    from scns_conductor.slurm.times import instant

    listed = compress(nodes) if isinstance(nodes, list) else str(nodes or "")
    cpus = plan.get("cpus") or int(job.get("tasks", 1)) * int(job.get("cpus_per_task", 1))
    where = f" on nodes {listed}" if listed else ""
    part = plan.get("partition") or job.get("partition")
    in_part = f" in partition {part}" if part else ""
    print(f"{command}: Job 0 to start at {instant(start)} using {cpus} processors{where}{in_part}", file=sys.stderr)
    return 0


def wait_for(client: Client, job_id: str) -> int:
    """等作业（数组则是全部任务）结束；最大的退出码，被信号杀死的算 1（sbatch.c 的 _job_wait）。"""
    pause_s = 0.1
    while True:
        try:
            jobs = list(client.jobs(job_id=job_id, fields="state,exit_status,exit_signal"))
            if jobs and all(job["state"] in TERMINAL_STATES for job in jobs):
                return max(_exit_code(job) for job in jobs)
        except Unreachable:
            pass
        except Problem as problem:
            if problem.status != 503:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 2.0)


def _exit_code(job: dict[str, Any]) -> int:
    if job["exit_signal"] or (job["state"] != "COMPLETED" and not job["exit_status"]):
        return 1
    return int(job["exit_status"] or 0)
