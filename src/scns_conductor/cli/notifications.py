"""scns notifications：作业的邮件发了没有，没有的为什么。"""

import click

from scns_conductor.cli.connection import connected, job_id_argument, json_option, print_json


@click.command()
@job_id_argument(required=False)
@click.option(
    "-s", "--state", type=click.Choice(["QUEUED", "SENT", "DEAD"], case_sensitive=False), help="只要这种状态的"
)
@click.option("-n", "--most", type=click.IntRange(1, 1000), default=50, show_default=True, help="至多几个")
@json_option
def notifications(job_id: str | None, state: str | None, most: int, as_json: bool) -> None:
    """自己的作业的邮件（管理员是全部的），新的在前：QUEUED 等着发，SENT 发了，DEAD 不再试。

    什么时候发由提交时的 --mail-type 定，发给 --mail-user；管理员要先配好邮件服务器（smtp_host）。
    """
    with connected() as client:
        found = list(client.notifications(job_id=job_id, state=state, limit=most))
    if as_json:
        print_json({"notifications": found})
        return
    from scns_conductor.cli.job_text import local_time
    from scns_conductor.cli.table import show_table

    header = ("作业", "为什么", "发给", "状态", "时刻", "试过", "没有发出去是因为")
    shown = [
        (str(one["job_id"]), str(one["occasion"]), str(one["recipients"]), str(one["state"]),
         local_time(one["sent_at"] or one["created_at"]), str(one["attempts"]), str(one["error"] or "-"))
        for one in found
    ]  # fmt: skip
    show_table(header, shown, "没有邮件")
