"""scns update：修改作业。"""

import click

from scns_conductor.cli.connection import connected, each_job, json_option, print_json
from scns_conductor.cli.field_values import parse_assignments
from scns_conductor.cli.say import say


@click.command()
@click.argument("words", metavar="JOB... FIELD=VALUE...", nargs=-1, required=True)
@json_option
def update(words: tuple[str, ...], as_json: bool) -> None:
    """修改作业，如 scns update 12 13 time_limit=30 partition=gpu nice=10。

    字段名与提交时的相同：name、comment、partition、time_limit、nice、priority（管理员）、dependency、begin_time、minimum_nodes、
    constraints、memory_per_node 等；值留空是清除。运行中的作业只能降低时限。
    """
    job_ids = [word for word in words if "=" not in word]
    changes = parse_assignments([word for word in words if "=" in word])
    if not job_ids or not changes:
        raise click.UsageError("要有至少一个作业号与一个 字段=值，如 scns update 12 time_limit=30")
    with connected() as client:
        answers, code = each_job(job_ids, lambda job_id: client.update(job_id, changes))
    if as_json:
        print_json(answers)
    else:
        for job_id in answers:
            say(f"作业 {job_id} 已修改：{'，'.join(changes)}")
    raise SystemExit(code)
