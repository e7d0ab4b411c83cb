"""scns webhooks：出了事就往一个地址说；送了没有，没有的为什么。"""

from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say

_FORMATS = click.Choice(["json", "slack", "feishu", "dingtalk", "wecom"], case_sensitive=False)
_id = click.argument("webhook_id", metavar="ID", type=click.IntRange(min=1))


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def webhooks(ctx: click.Context, as_json: bool) -> None:
    """作业、节点、预留出了事，就往一个地址送一个 HTTP 请求；不写子命令是列出自己的订阅（管理员是全部的）。

    json 的请求照 Standard Webhooks 签名；slack、feishu、dingtalk、wecom 是群机器人的消息。
    要管理员先打开（webhooks = true）。
    """
    if ctx.invoked_subcommand is not None:
        return
    with connected() as client:
        found = list(client.webhooks())
    if as_json:
        print_json({"webhooks": found})
        return
    from scns_conductor.cli.table import show_table

    header = ("编号", "谁的", "要谁的事", "哪些事", "样子", "地址", "状态", "等着送", "没有记下")
    shown = [
        (str(one["webhook_id"]), str(one["user_name"]), str(one["account"] or one["scope"]), ",".join(one["events"]),
         str(one["format"]), str(one["url"]), _state(one), str(one["queued"]), str(one["dropped"]))
        for one in found
    ]  # fmt: skip
    show_table(header, shown, "没有订阅；用 scns webhooks add 定一个")


def _state(one: dict[str, Any]) -> str:
    if not one["active"]:
        return "停着"
    return f"接连 {one['failures']} 次没有送到" if one["failures"] else "好"


@webhooks.command()
@click.argument("url")
@click.option("-e", "--event", "events", multiple=True, help="哪些事，如 job.ended（缺省）、node.*，可写几个")
@click.option("--account", help="要这个账户（连同下级）的作业的（协调人、Operator、管理员）")
@click.option("--cluster", is_flag=True, help="要全部作业，与节点、预留、调度器、设置的（管理员）")
@click.option("-f", "--format", "kind", type=_FORMATS, default="json", show_default=True, help="说成什么样子")
@click.option("--secret", help="飞书、钉钉机器人的签名密钥；json 的不写就造一个")
@json_option
def add(
    url: str, events: tuple[str, ...], account: str | None, cluster: bool, kind: str, secret: str | None, as_json: bool
) -> None:
    """定一个订阅：从此刻起的事都往 URL 送。打印编号，与核对签名的密钥（只这一次看得到）。"""
    if account is not None and cluster:
        raise click.UsageError("--account 与 --cluster 只能写一个")
    scope = "cluster" if cluster else "user" if account is None else "account"
    values = {"events": list(events) or None, "account": account, "secret": secret}
    given = {name: value for name, value in values.items() if value is not None}
    with connected() as client:
        made = client.create_webhook(url, scope=scope, format=kind, **given)
    if as_json:
        print_json(made)
        return
    say(f"编号 {made['webhook_id']}")
    if kind == "json":
        say(f"密钥 {made['secret']}")


@webhooks.command()
@_id
def delete(webhook_id: int) -> None:
    """删除一个订阅，还没有送的也没有了。"""
    with connected() as client:
        client.delete_webhook(webhook_id)


@webhooks.command()
@_id
@click.option("--url", help="往哪里说")
@click.option("-e", "--event", "events", multiple=True, help="哪些事，可写几个")
@click.option("--secret", help="换一个密钥")
def update(webhook_id: int, url: str | None, events: tuple[str, ...], secret: str | None) -> None:
    """改一个订阅；等着送的照新的地址送。"""
    values = {"url": url, "events": list(events) or None, "secret": secret}
    with connected() as client:
        client.update_webhook(webhook_id, {name: value for name, value in values.items() if value is not None})


@webhooks.command()
@_id
def pause(webhook_id: int) -> None:
    """停下：不记、不送，直到 resume。"""
    with connected() as client:
        client.update_webhook(webhook_id, {"active": False})


@webhooks.command()
@_id
def resume(webhook_id: int) -> None:
    """再打开，从此刻算起；停着时的事不补。"""
    with connected() as client:
        client.update_webhook(webhook_id, {"active": True})


@webhooks.command()
@_id
def ping(webhook_id: int) -> None:
    """马上送一件试一试的；送到没有用 scns webhooks deliveries 看。"""
    with connected() as client:
        say(f"排上了，编号 {client.ping_webhook(webhook_id)}")


@webhooks.command()
@click.argument("webhook_id", metavar="[ID]", type=click.IntRange(min=1), required=False)
@click.option(
    "-s", "--state", type=click.Choice(["QUEUED", "SENT", "DEAD"], case_sensitive=False), help="只要这种状态的"
)
@click.option("-n", "--most", type=click.IntRange(1, 1000), default=50, show_default=True, help="至多几件")
@json_option
def deliveries(webhook_id: int | None, state: str | None, most: int, as_json: bool) -> None:
    """要送的每一件，新的在前：QUEUED 等着送，SENT 送到了，DEAD 不再试。"""
    with connected() as client:
        found = list(client.webhook_deliveries(webhook_id=webhook_id, state=state, limit=most))
    if as_json:
        print_json({"deliveries": found})
        return
    from scns_conductor.cli.job_text import local_time
    from scns_conductor.cli.table import show_table

    header = ("编号", "订阅", "什么事", "状态", "时刻", "试过", "没有送到是因为")
    shown = [
        (str(one["delivery_id"]), str(one["webhook_id"]), str(one["event"]), str(one["state"]),
         local_time(one["sent_at"] or one["created_at"]), str(one["attempts"]), str(one["error"] or "-"))
        for one in found
    ]  # fmt: skip
    show_table(header, shown, "没有要送的")


@webhooks.command()
@_id
@click.argument("delivery_ids", metavar="[DELIVERY]...", nargs=-1, type=click.IntRange(min=1))
def redeliver(webhook_id: int, delivery_ids: tuple[int, ...]) -> None:
    """重送这几件（送到了的也行）；不写是全部不再试的。"""
    with connected() as client:
        found = client.redeliver_webhook(webhook_id, list(delivery_ids) or None)
    say(f"排上了 {len(found)} 件")
