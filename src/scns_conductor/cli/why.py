"""scns why：作业为什么还没有开始。"""

import click

from scns_conductor.cli.connection import connected, job_id_argument, json_option, print_json

# 已经在那句话里的。
TOLD = frozenset(
    {
        "text", "message", "job_id", "state", "reason", "nodes", "jobs_ahead", "jobs_ahead_count", "waiting_for",
        "shortages", "limits", "reservations", "suggestions", "expected_end_time",
    }
)  # fmt: skip


@click.command()
@job_id_argument()
@json_option
def why(job_id: str, as_json: bool) -> None:
    """作业为什么还没有开始，缺什么，等谁结束，排在谁后面，预计何时开始，怎样改能更早。"""
    with connected() as client:
        answer = client.why(job_id)
    if as_json:
        print_json(answer)
        return
    from scns_conductor.cli.job_text import field_pairs
    from scns_conductor.cli.table import render_fields

    text = answer.get("text") or answer.get("message")
    if isinstance(text, str):
        click.echo(text)
    rest = field_pairs({name: value for name, value in answer.items() if name not in TOLD})
    if rest:
        click.echo(render_fields(rest))
