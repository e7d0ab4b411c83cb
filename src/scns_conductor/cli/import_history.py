"""scns import slurm --jobs：sacct 的历史一批一批地写进系统。"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from scns_conductor.cli.connection import connected, print_json
from scns_conductor.cli.progress_line import ProgressLine
from scns_conductor.cli.say import say
from scns_conductor.language import told
from scns_conductor.simulator.trace import TraceUnreadable, open_text
from scns_conductor.slurm.moving.findings import Findings
from scns_conductor.slurm.moving.job_history import Found, NotASacctTable, read_jobs
from scns_conductor.slurm.moving.sacct_values import Moments

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient

# 一批至多这么多个作业、各次一共这么多个节点（服务器至多收 1000 个、十万个节点）。
BATCH_JOBS = 500
BATCH_NODES = 20_000
_FIELD = re.compile(r"^jobs\[(\d+)\]\.?(.*)$")


@dataclass(slots=True)
class _Tally:
    """一共怎样了。"""

    read: int = 0
    added: int = 0
    present: int = 0
    accounts: set[str] = field(default_factory=set)


def import_jobs(histories: Sequence[str], timezone: str | None, *, dry_run: bool, as_json: bool) -> None:
    """读各个文件，写进系统；没有写成的一行行说为什么。"""
    try:
        moments = Moments(None if timezone is None else ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter(told(f"没有时区 {timezone!r}"), param_hint="--timezone") from None
    findings, tally = Findings(), _Tally()
    progress = ProgressLine(quiet=as_json or not sys.stderr.isatty())
    with ExitStack() as stack:
        client = None if dry_run else stack.enter_context(connected())
        for batch in _batches(_found(histories, moments, findings)):
            tally.read += len(batch)
            if client is not None:
                _send(client, batch, findings, tally)
            progress.show(f"读了 {tally.read} 个作业，写进了 {tally.added} 个")
    progress.clear()
    findings.found.sort(key=lambda each: (each.place.file, each.place.line))
    if as_json:
        print_json(
            {
                "read": tally.read,
                "added": tally.added,
                "present": tally.present,
                "unknown_accounts": sorted(tally.accounts),
                "findings": [
                    {"place": str(each.place), "text": each.text, "reason": each.reason} for each in findings.found
                ],
            }
        )
        return
    for each in findings.found:
        print(f"{each.place}: {each.text}: {told(each.reason)}", file=sys.stderr)
    if tally.accounts:
        say(f"这里没有这些账户，它们的用量不在公平份额里：{'、'.join(sorted(tally.accounts))}", err=True)
    if dry_run:
        say(f"读得出 {tally.read} 个作业；搬不过来的 {len(findings.found)} 处", err=True)
    else:
        say(
            f"写进了 {tally.added} 个作业，从前就有的 {tally.present} 个；搬不过来的 {len(findings.found)} 处", err=True
        )


def _found(histories: Sequence[str], moments: Moments, findings: Findings) -> Iterator[Found]:
    for name in histories:
        try:
            with open_text(Path(name)) as lines:
                yield from read_jobs(name, lines, moments, findings)
        except (NotASacctTable, TraceUnreadable) as error:
            raise click.ClickException(told(str(error))) from error


def _batches(found: Iterable[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    nodes = 0
    for each in found:
        if batch and (len(batch) == BATCH_JOBS or nodes + each.nodes > BATCH_NODES):
            yield batch
            batch, nodes = [], 0
        batch.append(each)
        nodes += each.nodes
    if batch:
        yield batch


def _send(client: "JsonClient", batch: list[Found], findings: Findings, tally: _Tally) -> None:
    """送一批；字段不合法的挑出来记下，其余的再送。"""
    from scns_conductor.client import Problem

    while batch:
        try:
            answer = client.import_history("slurm", [each.job for each in batch])
        except Problem as problem:
            faults = _faults(problem)
            if problem.status != 422 or not faults:
                raise
            for at, reason in faults.items():
                findings.add(batch[at].place, batch[at].text, reason)
            batch = [each for at, each in enumerate(batch) if at not in faults]
            continue
        tally.added += answer["added"]
        tally.present += answer["present"]
        tally.accounts.update(answer["unknown_accounts"])
        reasons = {refused["job_id"]: refused["reason"] for refused in answer["refused"]}
        for each in batch:
            if str(each.job["job_id"]) in reasons:
                findings.add(each.place, each.text, reasons[str(each.job["job_id"])])
        return


def _faults(problem: Any) -> dict[int, str]:
    """第几个作业 -> 哪个字段怎么不对。"""
    found: dict[int, str] = {}
    for each in problem.errors:
        match = _FIELD.match(each.get("field", ""))
        if match is not None:
            found.setdefault(int(match[1]), f"{match[2]}：{each.get('message', '')}")
    return found
