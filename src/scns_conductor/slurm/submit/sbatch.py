"""sbatch：提交脚本（sbatch(1)）。"""

import os
import sys
import time
from typing import Any

from scns_conductor.client import TERMINAL_STATES, ClientError, JsonClient, Problem, Unreachable
from scns_conductor.core.batch_script import MARKS, UnmatchedQuote, directive_tokens
from scns_conductor.slurm.error_words import NODE_CONFIGURATION
from scns_conductor.slurm.parse.options import Parsed, UsageError, parse
from scns_conductor.slurm.session import Fatal, connect, current_umask, parse_or_exit, refusal_details, slurm_error
from scns_conductor.slurm.submit.batch_file import found_script, read_script
from scns_conductor.slurm.submit.batch_options import (
    BAD_OPTION,
    OPTIONS,
    environment_options,
    job_fields,
    merged,
    refuse_heterogeneous,
)
from scns_conductor.slurm.submit.verbosity import tell_options

_USAGE = "Usage: sbatch [OPTIONS(0)...] [ : [OPTIONS(N)...]] script(0) [args(0)...]"
_NOT_SUPPORTED = "Batch job submission failed: Requested operation not supported on this system"
# 这些只看命令行，脚本里的不算。
_COMMAND_LINE_ONLY = frozenset({"wrap", "help", "usage", "version"})
_OLD_MARK = "#SLURM"


def main(words: list[str]) -> int:
    """提交，打印 Submitted batch job N。"""
    parsed = parse_or_exit("sbatch", words, OPTIONS, permute=False, code=BAD_OPTION)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    # 选项之后紧跟着冒号；脚本名之后的冒号是脚本的参数。
    refuse_heterogeneous(parsed.arguments[:1], _NOT_SUPPORTED)
    wrap = parsed.last("wrap")
    if wrap is not None and parsed.arguments:
        raise Fatal("Script arguments not permitted with --wrap option")
    path = parsed.arguments[0] if parsed.arguments else None
    name = os.path.basename(path or "")
    if path is not None and path != "-":
        path = found_script(path, parsed.last("chdir"))
    script = read_script(path, wrap)
    header = _header(script, path)
    if not any(key == "ignore_pbs" for key, _ in [*header, *parsed.pairs]) and "SBATCH_IGNORE_PBS" not in os.environ:
        header = [*_foreign(script), *header]
    given = merged(header, environment_options(os.environ), parsed.pairs)
    tell_options("sbatch", given, [*header, *parsed.pairs], "SBATCH_DEBUG")
    job = job_fields(given, os.environ)
    job.setdefault("name", "wrap" if wrap is not None else name or "sbatch")
    job["current_working_directory"] = os.path.abspath(job.get("current_working_directory") or os.getcwd())
    job["submit_host"] = os.uname().nodename
    job["umask"] = current_umask()
    if path is not None and path != "-" and wrap is None:
        job["command"] = os.path.abspath(path)
    if parsed.arguments[1:]:
        job["argv"] = parsed.arguments[1:]
    with connect() as client:
        quiet = "quiet" in given
        if "test_only" in given:
            return plan_only(client, job, script, "sbatch", quiet=quiet)
        job_id = _submit(client, job, script)
        print(job_id) if "parsable" in given else None if quiet else print(f"Submitted batch job {job_id}")
        sys.stdout.flush()
        return wait_for(client, job_id) if "wait" in given else 0


def _header(script: str, path: str | None) -> list[tuple[str, str]]:
    """#SBATCH 行；早年的 #SLURM 照样认，说一句该改名。"""
    try:
        tokens = directive_tokens(script, (*MARKS, _OLD_MARK))
        if _OLD_MARK in script and directive_tokens(script, (_OLD_MARK,)):
            print(
                "sbatch: error: Change from #SLURM to #SBATCH in your script and "
                "verify the options are valid in sbatch",
                file=sys.stderr,
            )
        found: Parsed = parse(tokens, OPTIONS)
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
    if {"hetjob", "packjob"} & set(found.arguments):
        refuse_heterogeneous([":"], _NOT_SUPPORTED)
    if found.arguments:
        raise Fatal(f"Invalid directive found in batch script: {found.arguments[0]}", code=BAD_OPTION)
    return [(key, value) for key, value in found.pairs if key not in _COMMAND_LINE_ONLY]


def _foreign(script: str) -> list[tuple[str, str]]:
    """#PBS、#BSUB 行；没有这样的脚本不必导入解析它们的模块。"""
    if "#PBS" not in script and "#BSUB" not in script:
        return []
    from scns_conductor.slurm.submit.foreign_headers import foreign_options

    try:
        return foreign_options(script)
    except ValueError:
        raise Fatal("Unable to parse batch script: unmatched quotation marks") from None


def _submit(client: JsonClient, job: dict[str, Any], script: str) -> str:
    try:
        return client.submit(job, script)
    except ClientError as error:
        lines = [*refusal_details(error), f"Batch job submission failed: {slurm_error(error)}"]
        if isinstance(error, Problem) and error.code == "gres_unknown":
            # sbatch 自己认得 GresTypes，没有问服务器就拒绝。
            lines = [slurm_error(error)]
        if isinstance(error, Problem) and error.code == "partition_unknown":
            lines.insert(0, _unknown_partitions(client, job))
        raise Fatal(*lines) from error


def _unknown_partitions(client: JsonClient, job: dict[str, Any]) -> str:
    """写了几个分区时，只说没有的那些。"""
    known = {each["name"] for each in client.partitions()}
    missing = [name for name in str(job.get("partition")).split(",") if name not in known]
    return f"invalid partition specified: {','.join(missing)}"


def plan_only(client: JsonClient, job: dict[str, Any], script: str, command: str, *, quiet: bool) -> int:
    """allocation failure 与 Job N to start at 都写到标准错误（sbatch.c）。"""
    try:
        plan = client.plan(job, script)
    except ClientError as error:
        if isinstance(error, Problem) and error.code == "partition_unknown":
            print(f"{command}: error: {_unknown_partitions(client, job)}", file=sys.stderr)
        text = slurm_error(error)
        if isinstance(error, Problem) and error.code in ("cpus_exceed_partition", "node_count_invalid"):
            text = NODE_CONFIGURATION
        raise Fatal(f"allocation failure: {text}", prefix=None) from error
    start, nodes = plan.get("start_time") or plan.get("expected_start_time"), plan.get("nodes") or plan.get("node_list")
    if start is None:
        raise Fatal(f"allocation failure: {NODE_CONFIGURATION}", prefix=None)
    from scns_conductor.core.hostlist import compress
    from scns_conductor.slurm.table.times import instant

    listed = compress(nodes) if isinstance(nodes, list) else str(nodes or "")
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
