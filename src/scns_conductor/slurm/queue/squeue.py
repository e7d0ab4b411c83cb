"""squeue：排队与运行中的作业（squeue(1)）。"""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from scns_conductor.client import JsonClient
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, values
from scns_conductor.slurm.queue.queue_columns import LETTERS, LETTERS_IN_MB, NAMES, NAMES_IN_MB
from scns_conductor.slurm.queue.queue_filter import chosen_jobs, job_columns, job_ids
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columnar import Row, column, ordered
from scns_conductor.slurm.table.columns import Column, fields, letters, table
from scns_conductor.slurm.table.times import elapsed_s, epoch

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG_FORMAT = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
OPTIONS = [
    *flags("-r --array", "-h --noheader", "-l --long", "--me"),
    *flags("--start", "-v --verbose", "--only-job-state", "-V --version", "--help", "--usage"),
    *flags("--notme", "-P --priority", "--helpFormat", "--helpstate", "--noconvert"),
    *hints(flags("-a --all", "--hide", "--local", "--federation", "--sibling", "--array-unique")),
    *hints(flags("--expand-patterns")),
    *values("-A --account --accounts", "-i --iterate", "-L --licenses --license", "-M --clusters --cluster"),
    *values("-n --name", "-o --format", "-O --Format", "-p --partition --partitions", "-q --qos"),
    *values("-R --reservation", "-S --sort", "-t --states --state", "-u --user --users", "-w --nodelist --nodes"),
    option("-j --jobs", "optional"),
    option("-s --steps", "optional"),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
# squeue(1) 的变量里相当于一个选项的；其余的（SQUEUE_FORMAT、SQUEUE_STATES……）在用到的地方看。
_VARIABLES = {"SQUEUE_ARRAY": "array", "SQUEUE_PRIORITY": "priority", "SQUEUE_LICENSES": "licenses"}
_STATE_ORDER = {state: index for index, state in enumerate(of.SHORT_STATES)}
# -S：字母，前面可以有 + 与 -；逗号可有可无。
_SORT = re.compile(r"([+-]?)([A-Za-z])")


_USAGE = "Usage: squeue [OPTIONS]"


def main(words: list[str]) -> int:
    """列出作业。"""
    parsed = parse_or_exit("squeue", _job_words(words), OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if "helpFormat" in parsed or "helpstate" in parsed:
        print(of.state_list() if "helpstate" in parsed else " ".join(sorted(NAMES)))
        return 0
    if parsed.arguments:
        print(_USAGE)
        raise Fatal(f"Unrecognized option: {parsed.arguments[0]}")
    if "format" in parsed and "Format" in parsed:
        raise Fatal("-O (--Format) is incompatible with -o (--format)")
    of.require_own_cluster(parsed.last("clusters"))
    parsed.pairs[:0] = [(key, os.environ[name]) for name, key in _VARIABLES.items() if name in os.environ]
    period_s = _seconds(parsed.last("iterate"))
    with connect() as client:
        while True:
            code = _once(client, parsed)
            if period_s is None:
                return code
            sys.stdout.flush()
            time.sleep(period_s)


def _job_words(words: Sequence[str]) -> list[str]:
    """-j 的值可以写成下一个词（squeue 自己这样处理可省略的值）。"""
    done: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        long = word.startswith("--j") and word != "--json" and "--jobs".startswith(word)
        short = (
            word.startswith("-")
            and not word.startswith("--")
            and word[-1:] in "js"
            and not set(word[1:-1]) - set("ahlrv")
        )
        if (long or short or word == "--steps") and waiting and not waiting[0].startswith("-"):
            following = waiting.pop(0)
            done.append(f"{word}={following}" if word.startswith("--") else f"{word}{following}")
        else:
            done.append(word)
    return done


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise Fatal(f"--iterate={text}\n")
    return float(text)


def _once(client: JsonClient, parsed: Parsed) -> int:
    if "steps" in parsed:
        return _steps(client, parsed)
    if "json" in parsed or "yaml" in parsed:
        from scns_conductor.slurm.shapes.jobs import job_record
        from scns_conductor.slurm.table.json_answer import asked_version, moments, write_answer

        version = asked_version(parsed)
        found = _with_priorities(client, chosen_jobs(client, parsed))
        records = (job_record(version, job) for job in found)
        return write_answer(parsed, "openapi_job_info_resp", "jobs", records, **moments(version))
    columns = _columns(parsed)
    order = parsed.last("sort") or os.environ.get("SQUEUE_SORT") or ("S" if "start" in parsed else "P,t,-p")
    needs = {name for one in columns for name in one.needs.split()} | _sort_needs(order)
    if "array" in parsed:
        needs.add("array_remaining")
    needs |= {key for key, given in (("reservation", "reservation"), ("licenses", "licenses")) if given in parsed}
    headers = {one.header for one in columns}
    jobs: Sequence[Row] | None = None
    if not headers & {"PRIORITY", "DEPENDENCY"} and "array" not in parsed:
        jobs = job_columns(client, parsed, needs)
    if jobs is None:
        jobs = _rows(client, parsed, needs, headers)
    jobs = _sorted(jobs, order)
    if "long" in parsed and not parsed.last("format") and "noheader" not in parsed:
        print(time.strftime("%a %b %d %H:%M:%S %Y"))
    lines = table(columns, jobs, header="noheader" not in parsed)
    if lines:
        print("\n".join(lines))
    return 0


def _rows(client: JsonClient, parsed: Parsed, needs: set[str], headers: set[str]) -> list[dict[str, Any]]:
    """一行一行的：要改要添的。"""
    jobs = chosen_jobs(client, parsed, needs)
    if "PRIORITY" in headers:
        jobs = _with_priorities(client, jobs)
    if "DEPENDENCY" in headers:
        from scns_conductor.slurm.queue.job_dependencies import with_dependencies

        jobs = with_dependencies(client, jobs)
    return [each for job in jobs for each in of.each_task(job)] if "array" in parsed else jobs


def _with_priorities(client: JsonClient, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from scns_conductor.slurm.queue.queue_priority import with_priorities

    return with_priorities(client, jobs)


def _steps(client: JsonClient, parsed: Parsed) -> int:
    """-s：正在运行的作业步；-s 12.0 只看这一步，-j、-u、-p 照常。"""
    from scns_conductor.slurm.queue.step_columns import STEP_FORMAT, STEP_LETTERS
    from scns_conductor.slurm.step.step_values import live_steps

    wanted = [word for text in parsed.every("steps") if text for word in text.split(",")]
    for word in wanted:
        if not re.fullmatch(r"\d+(_\d+)?(\.\w+)?", word):
            raise Fatal(f"Invalid job_step id: {word}.??")
    jobs = job_ids([text for text in parsed.every("jobs") if text])
    users = {name for text in parsed.every("user") for name in text.split(",")}
    partitions = {name for text in parsed.every("partition") for name in text.split(",")}
    steps = [
        step
        for step in sorted(live_steps(client), key=_holder_last)
        if (not wanted or step["step"] in wanted or step["job_id"] in wanted)
        and (not jobs or step["job_id"] in jobs)
        and (not users or step["user_name"] in users)
        and (not partitions or step["partition"] in partitions)
    ]
    columns = letters("squeue", parsed.last("format") or STEP_FORMAT, STEP_LETTERS)
    for line in table(columns, steps, header="noheader" not in parsed):
        print(line)
    return 0


def _holder_last(step: dict[str, Any]) -> tuple[int, int, str]:
    """按作业；batch 排在同一个作业的步之后（同 Slurm）。"""
    number = step["step_id"]
    return int(step["job_id"]), number if isinstance(number, int) else 2**31, str(number)


def _columns(parsed: Parsed) -> list[Column]:
    shapes = [(key, value) for key, value in parsed.pairs if key in ("format", "Format")]
    if not shapes:
        for name, key in (("SQUEUE_FORMAT", "format"), ("SQUEUE_FORMAT2", "Format")):
            if os.environ.get(name) and "long" not in parsed and "start" not in parsed:
                shapes.append((key, os.environ[name]))
    if "only_job_state" in parsed and not shapes:
        shapes = [("format", "%.18i %.2t")]
    key, value = shapes[-1] if shapes else ("format", LONG_FORMAT if "long" in parsed else DEFAULT_FORMAT)
    if not shapes and "start" in parsed:
        value = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
    known, names = (LETTERS_IN_MB, NAMES_IN_MB) if "noconvert" in parsed else (LETTERS, NAMES)
    return letters("squeue", value, known) if key == "format" else fields(value, names)


def _sorted(jobs: Sequence[Row], order: str) -> Sequence[Row]:
    """-S 的各个字母，前面的为主；相同时按作业号。"""
    ranks = list(range(len(jobs)))
    _arrange(ranks, list(map(int, column(jobs, "job_id"))))
    for word in reversed(order.split(",")):
        for sign, letter in reversed(_SORT.findall(word)):
            _arrange(ranks, _keys(jobs, letter), reverse=sign == "-")
    return ordered(jobs, ranks)


def _arrange(ranks: list[int], keys: list[Any], *, reverse: bool = False) -> None:
    """各行照 keys 排，相同的次序不变；都相同的不必排。"""
    if keys and keys.count(keys[0]) < len(keys):
        ranks.sort(key=keys.__getitem__, reverse=reverse)


def _keys(jobs: Sequence[Row], letter: str) -> list[Any]:
    """一个字母照什么排。"""
    if letter in "tT":
        return list(map(_STATE_ORDER.__getitem__, column(jobs, "state")))
    if letter == "P":
        return column(jobs, "partition")
    if letter in "pQ":
        return of.priorities(jobs)
    keys: dict[str, Callable[[Row], Any]] = {
        "i": lambda job: (int(job["array_job_id"] or job["job_id"]), job["array_task_id"] or 0),
        "A": lambda job: int(job["job_id"]),
        "M": elapsed_s,
        "l": lambda job: of.limit_s(job) or float("inf"),
        "C": of.cpus,
        "D": of.nodes,
        "S": lambda job: epoch(job["start_time"] or job["expected_start_time"]) or float("inf"),
        "e": lambda job: epoch(job["end_time"]) or float("inf"),
        "V": lambda job: epoch(job["submit_time"]) or 0.0,
        "m": lambda job: job["memory_per_node"] or job["memory_per_cpu"] or 0,
    }
    return list(map(keys.get(letter, LETTERS[letter].value), jobs))


def _sort_needs(order: str) -> set[str]:
    """-S 的各个字母要用到的字段；不认识的照 Slurm 报错。"""
    found: set[str] = set()
    for word in order.split(","):
        if _SORT.sub("", word.strip()):
            raise Fatal(f"Invalid sort specification: {_SORT.sub('', word.strip())[:1]}")
        for _, letter in _SORT.findall(word):
            if letter not in LETTERS or letter == "o":
                raise Fatal(f"Invalid sort specification: {letter}")
            found |= set(LETTERS[letter].needs.split())
    return found
