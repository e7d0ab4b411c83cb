"""scns setup：把一台机器准备好。"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from scns_conductor.cli.say import say
from scns_conductor.core.errors import ConductorError
from scns_conductor.local.setup.plan import Wanted, how_to_start, steps
from scns_conductor.local.setup.steps import run_steps

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group()
def setup() -> None:
    """把一台机器准备好：用户、目录、数据库、设置、服务。要 root；再跑一遍只补缺的。

    先在一台机器上 scns setup api（或 all-in-one），把它的 /etc/scns-conductor/config.toml 抄到各个节点，
    再在每个节点上 scns setup worker。
    """


def _options(*chosen: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    def apply(function: _Function) -> _Function:
        for option in reversed(chosen):
            function = option(function)
        return function

    return apply


_HOW = (
    click.option("--dry-run", is_flag=True, help="只看缺什么、要做什么，不动任何东西"),
    click.option("--no-start", is_flag=True, help="装好单元，但现在不启动"),
)
_SERVER = (
    click.option("--cluster-name", default="scns", show_default=True, help="集群名"),
    click.option("--address", default="", help="别的机器用来找到这台的名字或地址；缺省是本机的全名"),
    click.option(
        "--allow", multiple=True, metavar="网段", help="放行这个网段里的机器（如 10.0.0.0/24），可重复；缺省只给本机用"
    ),
    click.option("--database-url", help="已有的 PostgreSQL；缺省用本机的，角色与数据库由这里建"),
    click.option("--redis-url", help="已有的 Redis 或 Valkey；缺省用本机的"),
)


@setup.command("api")
@_options(*_SERVER, *_HOW)
def api(**options: Any) -> None:
    """数据库、消息队列与 API 在这台机器上。"""
    _run(api=True, worker=False, **options)


@setup.command("all-in-one")
@_options(*_SERVER, *_HOW)
def all_in_one(**options: Any) -> None:
    """API 与节点都是这台机器；以后还可以再加节点。"""
    _run(api=True, worker=True, **options)


@setup.command("worker")
@_options(*_HOW)
def worker(**options: Any) -> None:
    """这台机器是节点；设置文件先从 API 的机器抄来。"""
    _run(api=False, worker=True, **options)


def _run(*, dry_run: bool, no_start: bool, **options: Any) -> None:
    wanted = Wanted(start=not no_start, **options)
    try:
        changed = run_steps(steps(wanted), dry_run=dry_run, tell=say)
    except ConductorError as error:
        raise click.ClickException(str(error)) from error
    if dry_run:
        say("什么也没有动。" if changed else "都已经好了。")
        return
    for line in how_to_start(wanted):
        say(f"启动：{line}")
    say("好了。看看：scns health；给用户令牌：scns token --user 用户名 --install")
