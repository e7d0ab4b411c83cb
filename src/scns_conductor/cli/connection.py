"""客户端命令共用的选项与连接。"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scns_conductor.language import told

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from scns_conductor.client import JsonClient, Problem

F = TypeVar("F", bound=Callable[..., Any])

# 数组至多看这么多个任务。
ARRAY_MOST = 1000

json_option = click.option("--json", "as_json", is_flag=True, help="在标准输出写 JSON")


def connected() -> "JsonClient":
    """连到系统的客户端；作业来源记为 CLI。找不到系统抛 EndpointUnknown。"""
    from scns_conductor.client.conductor import for_commands

    return for_commands(_waiting)


def _waiting(problem: "Problem", wait_s: float) -> None:
    print(told(f"scns：{problem.detail}；{wait_s:g} 秒后再试"), file=sys.stderr)


def print_json(value: Any) -> None:
    """给程序看的输出：一个 JSON，不转义汉字。"""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def complete_job_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """补全作业号：没有结束的作业，旁边是名字与状态。连不上系统就没有可补的。"""
    from click.shell_completion import CompletionItem

    from scns_conductor.client import ClientError

    try:
        with connected() as client:
            rows = client.jobs_page(state="PENDING,RUNNING,SUSPENDED", limit=100)["jobs"]
    except ClientError:
        return []
    return [
        CompletionItem(str(row["job_id"]), help=f"{row.get('name', '')} {row.get('state', '')}")
        for row in rows
        if str(row["job_id"]).startswith(incomplete)
    ]


def job_ids_argument(*, required: bool = True) -> Callable[[F], F]:
    """一个或几个作业号：12、12_3、12_[1-5]。"""
    return click.argument(
        "job_ids",
        metavar="JOB..." if required else "[JOB]...",
        nargs=-1,
        required=required,
        shell_complete=complete_job_ids,
    )


def job_id_argument(*, required: bool = True) -> Callable[[F], F]:
    """一个作业号。"""
    return click.argument(
        "job_id", metavar="JOB" if required else "[JOB]", required=required, shell_complete=complete_job_ids
    )


def array_rows(client: "JsonClient", job_id: str) -> list[dict[str, Any]]:
    """JOB 指的是几个任务（数组、12_[1-3]）时是各行，次序照任务号，至多 ARRAY_MOST 个；只是一个作业时为空。"""
    from scns_conductor.cli.job_text import LIST_FIELDS

    found = list(client.jobs(job_id=job_id, fields=LIST_FIELDS, most=ARRAY_MOST))
    several = len(found) > 1 or any(job["array_job_id"] and job["array_task_id"] is None for job in found)
    return sorted(found, key=lambda job: (job["array_task_id"] is None, job["array_task_id"] or 0)) if several else []


def print_refusal(job_id: str, problem: "Problem") -> None:
    """服务器不许对这个作业做：一行到标准错误。"""
    said = str(problem)
    print(told(f"scns：{said}" if job_id in said else f"scns：作业 {job_id}：{said}"), file=sys.stderr)


def each_job(job_ids: Sequence[str], action: Callable[[str], Any]) -> tuple[dict[str, Any], int]:
    """逐个做；拒绝的各写一行，继续做下一个。返回（作业号 → 回答，退出码）。连不上则立即抛出。"""
    from scns_conductor.client import Problem

    answers: dict[str, Any] = {}
    code = 0
    for job_id in job_ids:
        try:
            answers[job_id] = action(job_id)
        except Problem as problem:
            if problem.status == 401:
                raise
            print_refusal(job_id, problem)
            code = 1
    return answers, code
