"""scns why：作业为什么还没有开始。"""

from typing import TYPE_CHECKING

import click

from scns_conductor.cli.connection import connected, job_id_argument, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient

LIST_MOST = 1000
HOUR_S = 3600
# 已经在那句话里的。
TOLD = frozenset(
    {
        "text", "message", "job_id", "state", "reason", "nodes", "jobs_ahead", "jobs_ahead_count", "waiting_for",
        "shortages", "limits", "reservations", "suggestions", "expected_end_time", "expected_kind",
        "latest_start_time", "time_slices", "resources", "preempts", "preempts_from", "resume_time",
    }
)  # fmt: skip


@click.command()
@job_id_argument(required=False)
@click.option("--cluster", is_flag=True, help="此刻什么压着全集群的利用率，改哪一样最值（管理员、Operator）")
@click.option("--horizon", metavar="TIME", help="--cluster 看今后多久，如 60（分钟）、4:00:00、1-0；缺省一小时")
@json_option
def why(job_id: str | None, cluster: bool, horizon: str | None, as_json: bool) -> None:
    """作业为什么还没有开始，缺什么，等谁结束，排在谁后面，预计何时开始，怎样改能更早。

    不给作业号就列出全部排队的作业，各一行。

    --cluster 说什么压着利用率：每一样都真的去掉再计划一遍，说会多用多少 CPU·小时。
    """
    if cluster and job_id is not None:
        raise click.UsageError("--cluster 问的是全集群，不能再写作业号")
    if horizon is not None and not cluster:
        raise click.UsageError("--horizon 要和 --cluster 一起写")
    horizon_s = _horizon_s(horizon)
    with connected() as client:
        if cluster:
            found = client.cluster_why(horizon_s)
            if as_json:
                print_json(found)
            else:
                say(str(found["text"]))
            return
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


def _horizon_s(text: str | None) -> int:
    """--horizon 的秒数；写错了抛 click.BadParameter。"""
    if text is None:
        return HOUR_S
    from scns_conductor.core.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--horizon") from error


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
