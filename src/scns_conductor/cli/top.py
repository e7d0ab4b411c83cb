"""scns top：终端里一直是新的队列与节点。"""

import importlib.util
import sys

import click

from scns_conductor.cli.jobs import own_name

REFRESH_S = 2.0


@click.command()
@click.option("-u", "--user", help="只看这个用户的")
@click.option("--me", is_flag=True, help="只看自己的（也可以按 m）")
@click.option("-p", "--partition", help="只看这个分区的")
@click.option("--nodes", "on_nodes", is_flag=True, help="先看节点（也可以按 Tab）")
@click.option(
    "-d", "--delay", "pause_s", type=click.FloatRange(min=0.5, max=600), default=REFRESH_S, show_default=True,
    help="隔几秒看一次",
)  # fmt: skip
def top(user: str | None, me: bool, partition: str | None, on_nodes: bool, pause_s: float) -> None:
    """一直是新的队列与节点：看输出（Enter）、为什么等（w）、取消（c）、保留（h）、放行（r）；按 ? 列出全部。

    80×24 的终端、ssh 里都能用；要装 pip install 'scns-conductor[top]'。
    """
    if importlib.util.find_spec("textual") is None:
        raise click.ClickException("没有装 scns top 要的库；请执行 pip install 'scns-conductor[top]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("scns top 要在终端里用；给程序看的用 scns jobs --json、scns jobs --watch")
    from scns_conductor.cli.top_app import TopApp, Wanted
    from scns_conductor.client import AsyncClient

    own = own_name()
    app = TopApp(
        lambda: AsyncClient(data_source="CLI", timeout_s=15.0),
        Wanted(own_name=own, user=own if me else user, partition=partition, nodes=on_nodes, pause_s=pause_s),
    )
    app.run()
    raise SystemExit(app.return_code or 0)
