"""scns why：作业为什么还没有开始。"""

from typing import TYPE_CHECKING

import click

from scns_conductor.cli.connection import connected, job_id_argument, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient

LIST_MOST = 1000
# 已经在那句话里的。
TOLD = frozenset(
    {
        "text", "message", "job_id", "state", "reason", "nodes", "jobs_ahead", "jobs_ahead_count", "waiting_for",
        "shortages", "limits", "reservations", "suggestions", "expected_end_time", "expected_kind",
        "latest_start_time",
    }
)  # fmt: skip


@click.command()
@job_id_argument(required=False)
@json_option
def why(job_id: str | None, as_json: bool) -> None:
    """作业为什么还没有开始，缺什么，等谁结束，排在谁后面，预计何时开始，怎样改能更早。

    不给作业号就列出全部排队的作业，各一行。
    """
    with connected() as client:
        if job_id is None:
            _list(client, as_json)
            return
        answer = client.why(job_id)
    if as_json:
        print_json(answer)
        return
    from scns_conductor.cli.job_text import field_pairs
    from scns_conductor.cli.table import render_fields

    text = answer.get("text") or answer.get("message")
    if isinstance(text, str):
        say(text)
    rest = field_pairs({name: value for name, value in answer.items() if name not in TOLD})
    if rest:
        click.echo(render_fields(rest))


def _list(client: "JsonClient", as_json: bool) -> None:
    """全部排队的作业，先提交的在前：原因与预计何时开始。"""
    fields = "job_id,array_job_id,array_task_id,array_remaining,name,user_name,reason,expected_start_time,error_msg"
    found = list(client.jobs(state="PENDING", sort="job_id", fields=fields, most=LIST_MOST + 1))
    if as_json:
        print_json({"jobs": found})
        return
    from scns_conductor.cli.job_text import job_label, local_time
    from scns_conductor.cli.table import show_table

    rows = [
        [job_label(job), str(job["name"]), str(job["user_name"]), str(job.get("reason") or "None"),
         local_time(job.get("expected_start_time")), told(str(job.get("error_msg") or "-"))]
        for job in found[:LIST_MOST]
    ]  # fmt: skip
    show_table(("作业", "名字", "用户", "原因", "预计开始", "说明"), rows, "没有在排队的作业")
    if len(found) > LIST_MOST:
        say(f"只列出了前 {LIST_MOST} 个", err=True)
