"""scns show：一个作业的一切。"""

import click

from scns_conductor.cli.connection import array_rows, connected, job_id_argument, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

# 单独成段地显示，或已经在别的字段里（退出码），或只对程序有用；--json 里都有。
APART = frozenset(
    {"script", "environment", "allocations", "exit_status", "exit_signal", "interactive", "revision"}
    | {"kill_warning_batch_only", "array_base", "array_step"}
)


@click.command()
@job_id_argument()
@click.option("--script", "only_script", is_flag=True, help="只打印脚本原文")
@click.option("--events", "with_events", is_flag=True, help="也列出历史：每次状态变化的时刻、原因、经手者")
@click.option("--environment", "with_environment", is_flag=True, help="也列出作业自己的环境变量")
@json_option
def show(job_id: str, only_script: bool, with_events: bool, with_environment: bool, as_json: bool) -> None:
    """显示作业的一切；脚本、环境只有本人与管理员看得到。"""
    with connected() as client:
        if only_script:
            click.echo(client.script(job_id), nl=False)
            return
        tasks = array_rows(client, job_id)
        if tasks and not as_json:
            from scns_conductor.cli.job_text import job_label
            from scns_conductor.cli.jobs import print_jobs

            print_jobs(tasks)
            hint = f"{job_id} 是作业数组，以上是它的任务；一个任务的一切用 scns show {job_label(tasks[0])}"
            say(hint, err=True)
            return
        if tasks:
            print_json({"tasks": tasks})
            return
        job = client.job(job_id)
        events = client.events(job_id) if with_events else []
    if as_json:
        print_json({**job, "events": events} if with_events else job)
        return
    from scns_conductor.cli.job_text import field_pairs, local_time, value_text
    from scns_conductor.cli.table import render, render_fields

    click.echo(render_fields(field_pairs(job, skip=APART)))
    allocations = job.get("allocations") or []
    if allocations:
        names = ["node_name", "restart_count", "cpus", "memory", "gres", "cpu_ids", "process_id"]
        header = ("节点", "第几次", "CPU", "内存/MiB", "GRES", "核", "进程号")
        rows = [[_cell(allocation.get(name)) for name in names] for allocation in allocations]
        click.echo(told("\n分配\n") + render(header, rows))
    if with_environment and job.get("environment"):
        click.echo(told("\n环境\n") + value_text("environment", job["environment"]))
    if events:
        names = ["from_state", "to_state", "cause", "actor", "message"]
        rows = [[local_time(event.get("event_time")), *(_cell(event.get(name)) for name in names)] for event in events]
        click.echo(told("\n历史\n") + render(("时刻", "从", "到", "事件", "经手者", "说明"), rows))


def _cell(value: object) -> str:
    if value is None or value in ("", {}, []):
        return "-"
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)
