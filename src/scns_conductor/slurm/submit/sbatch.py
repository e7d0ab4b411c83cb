"""sbatch：提交脚本（sbatch(1)）。"""

import os
import sys
import time
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, JsonClient, Problem, Unreachable
from scns_conductor.core.batch_script import MARKS, UnmatchedQuote, directive_tokens
from scns_conductor.slurm.error_words import NODE_CONFIGURATION
from scns_conductor.slurm.parse.options import UsageError, parse
from scns_conductor.slurm.session import Fatal, connect, current_umask, refusal_details, slurm_error
from scns_conductor.slurm.submit.batch_file import found_script, read_script
from scns_conductor.slurm.submit.batch_options import (
    BAD_OPTION,
    OPTIONS,
    environment_options,
    job_fields,
    merged,
)
from scns_conductor.slurm.submit.het_components import Pairs, header_parts, parse_components, propagated
from scns_conductor.slurm.submit.node_orders import batch_variables
from scns_conductor.slurm.submit.verbosity import tell_options
from scns_conductor.slurm.table.times import epoch, instant

_USAGE = "Usage: sbatch [OPTIONS(0)...] [ : [OPTIONS(N)...]] script(0) [args(0)...]"
# 这些只看命令行，脚本里的不算。
_COMMAND_LINE_ONLY = frozenset({"wrap", "help", "usage", "version"})
_OLD_MARK = "#SLURM"
_YEAR_S = 365 * 86400


def main(words: list[str]) -> int:
    """提交，打印 Submitted batch job N。"""
    # 选项之后紧跟着冒号的是异构作业；脚本名之后的冒号是脚本的参数。
    parts = parse_components("sbatch", words, OPTIONS, code=BAD_OPTION)
    parsed = parts[0]
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    parsed.arguments = parts[-1].arguments
    wrap = next((part.last("wrap") for part in parts if "wrap" in part), None)
    if wrap is not None and parsed.arguments:
        raise Fatal("Script arguments not permitted with --wrap option")
    path = parsed.arguments[0] if parsed.arguments else None
    name = os.path.basename(path or "")
    if path is not None and path != "-":
        path = found_script(path, parsed.last("chdir"))
    script = read_script(path, wrap)
    headers = _headers(script, path)
    first = [*headers[0], *parsed.pairs]
    if not any(key == "ignore_pbs" for key, _ in first) and "SBATCH_IGNORE_PBS" not in os.environ:
        headers[0] = [*_foreign(script), *headers[0]]
    every = _merged(headers, [part.pairs for part in parts])
    given = every[0]
    tell_options("sbatch", given, [*headers[0], *parsed.pairs], "SBATCH_DEBUG")
    jobs = [job_fields(each, os.environ) for each in every]
    for job, asked in zip(jobs, every, strict=True):
        job["environment"] |= batch_variables(asked)
        job.setdefault("name", "wrap" if wrap is not None else name or "sbatch")
        job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or os.getcwd())
        job["submit_host"] = os.uname().nodename
        job["umask"] = current_umask()
        if niceness := os.getpriority(os.PRIO_PROCESS, 0):
            job["environment"]["SLURM_PRIO_PROCESS"] = str(niceness)
        if path is not None and path != "-" and wrap is None:
            job["command"] = os.path.abspath(path)
    if parsed.arguments[1:]:
        jobs[0]["argv"] = parsed.arguments[1:]
    with connect() as client:
        quiet = "quiet" in given
        if "test_only" in given:
            return max(plan_only(client, job, script, "sbatch", quiet=quiet) for job in jobs)
        job_id = _submit(client, jobs, script)
        print(job_id) if "parsable" in given else None if quiet else print(f"Submitted batch job {job_id}")
        sys.stdout.flush()
        return wait_for(client, job_id) if "wait" in given else 0


def _merged(headers: list[Pairs], lines: list[Pairs]) -> list[dict[str, str]]:
    """各个部分的选项：脚本与命令行各自沿用到后面的部分，再合成一份；命令行的部分可以比脚本的少，也可以多。"""
    count = max(len(headers), len(lines))
    padded = [propagated([*each, *([[]] * (count - len(each)))]) for each in (headers, lines)]
    return [merged(header, environment_options(os.environ), line) for header, line in zip(*padded, strict=True)]


def _headers(script: str, path: str | None) -> list[Pairs]:
    """#SBATCH 行，以 hetjob 隔开成各个部分；早年的 #SLURM 照样认，说一句该改名。"""
    try:
        tokens = directive_tokens(script, (*MARKS, _OLD_MARK))
        if _OLD_MARK in script and directive_tokens(script, (_OLD_MARK,)):
            print(
                "sbatch: error: Change from #SLURM to #SBATCH in your script and "
                "verify the options are valid in sbatch",
                file=sys.stderr,
            )
        found = header_parts(tokens, lambda words: parse(words, OPTIONS, permute=False))
    except UnmatchedQuote as error:
        rest = next(error.line[len(mark) :].strip() for mark in (*MARKS, _OLD_MARK) if error.line.startswith(mark))
        quote = min((letter for letter in "\"'" if letter in rest), key=rest.index)
        # 从引号所在的那个词起，连同它前面的空白。
        begin = max(rest.rfind(" ", 0, rest.index(quote)), 0)
        place = f"{path or 'stdin'}: line {error.number}"
        raise Fatal(f"{place}: Unmatched `{quote}` in [{rest[begin:]}]", prefix="fatal: ") from None
    except UsageError as error:
        print(f"sbatch: {error}", file=sys.stderr)
        print('Try "sbatch --help" for more information', file=sys.stderr)
        raise SystemExit(BAD_OPTION) from None
    for part in found:
        if part.arguments:
            raise Fatal(f"Invalid directive found in batch script: {part.arguments[0]}", code=BAD_OPTION)
    return [[(key, value) for key, value in part.pairs if key not in _COMMAND_LINE_ONLY] for part in found]


def _foreign(script: str) -> list[tuple[str, str]]:
    """#PBS、#BSUB 行；没有这样的脚本不必导入解析它们的模块。"""
    if "#PBS" not in script and "#BSUB" not in script:
        return []
    from scns_conductor.slurm.submit.foreign_headers import foreign_options

    try:
        return foreign_options(script)
    except ValueError:
        raise Fatal("Unable to parse batch script: unmatched quotation marks") from None


def _submit(client: JsonClient, jobs: list[dict[str, Any]], script: str) -> str:
    try:
        return client.submit(jobs[0], script) if len(jobs) == 1 else client.submit_heterogeneous(jobs, script)[0]
    except ClientError as error:
        lines = [*refusal_details(error), f"Batch job submission failed: {slurm_error(error)}"]
        if isinstance(error, Problem) and error.code == "gres_unknown":
            # sbatch 自己认得 GresTypes，没有问服务器就拒绝。
            lines = [slurm_error(error)]
        if isinstance(error, Problem) and error.code == "partition_unknown":
            lines[:0] = _unknown_partitions(client, jobs)
        raise Fatal(*lines) from error


def _unknown_partitions(client: JsonClient, jobs: list[dict[str, Any]]) -> list[str]:
    """写了几个分区时，只说没有的那些。"""
    known = {each["name"] for each in client.partitions()}
    named = (str(job["partition"]).split(",") for job in jobs if job.get("partition"))
    missing = (",".join(name for name in names if name not in known) for names in named)
    return [f"invalid partition specified: {names}" for names in missing if names]


def plan_only(client: JsonClient, job: dict[str, Any], script: str, command: str, *, quiet: bool) -> int:
    """allocation failure 与 Job N to start at 都写到标准错误（sbatch.c）。"""
    try:
        plan = client.plan(job, script)
        if plan["start_time"] is None and ("hold" in job or "dependency" in job):
            # Slurm 不看这两样：只答现有的资源何时够。
            plan = client.plan({key: job[key] for key in job if key not in ("hold", "dependency")}, script)
    except ClientError as error:
        if isinstance(error, Problem) and error.code == "partition_unknown":
            print(*(f"{command}: error: {line}" for line in _unknown_partitions(client, [job])), file=sys.stderr)
        text = slurm_error(error)
        if isinstance(error, Problem) and error.code in ("cpus_exceed_partition", "node_count_invalid"):
            text = NODE_CONFIGURATION
        raise Fatal(f"allocation failure: {text}", prefix=None) from error
    from scns_conductor.core.hostlist import compress

    start = epoch(plan["start_time"]) or _after_the_endless(client, plan["endless"])
    listed = compress(plan["nodes"])
    cpus = plan.get("cpus") or int(job.get("tasks", 1)) * int(job.get("cpus_per_task", 1))
    where = f" on nodes {listed}" if listed else ""
    part = plan.get("partition") or job.get("partition")
    if not part:
        part = next((each["name"] for each in client.partitions() if each["is_default"]), "")
    if quiet:
        return 0
    print(
        f"{command}: Job 0 to start at {instant(start)} using {cpus} processors{where} in partition {part}",
        file=sys.stderr,
    )
    return 0


def _after_the_endless(client: JsonClient, job_ids: list[str]) -> float:
    """等的是不限时的作业：Slurm 当它从启动起运行一年（job_mgr.c）。一个也没有的是永远不能启动。"""
    held = client.jobs(job_id=",".join(job_ids), fields="start_time") if job_ids else ()
    starts = [start for start in (epoch(job["start_time"]) for job in held) if start is not None]
    if not starts:
        raise Fatal(f"allocation failure: {NODE_CONFIGURATION}", prefix=None)
    return min(starts) + _YEAR_S


def wait_for(client: JsonClient, job_id: str) -> int:
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
