"""scns setup：把一台机器准备好。"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from scns_conductor.cli.say import say
from scns_conductor.core.errors import ConductorError
from scns_conductor.core.hostlist import compress, expand
from scns_conductor.local.setup.plan import DEFAULT_CLUSTER, Wanted, how_to_start, steps
from scns_conductor.local.setup.remote import NodeSetup, check_here, set_up_nodes
from scns_conductor.local.setup.steps import run_steps

_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group()
def setup() -> None:
    """把一台机器准备好：用户、目录、数据库、设置、服务。要 root；再跑一遍只补缺的。

    先在一台机器上 scns setup api（或 all-in-one）。节点经 ssh 一起装：在那台机器上 scns setup node n[1-200]；
    或者把它的 /etc/scns-conductor/config.toml 抄到节点，在节点上 scns setup worker。
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
    click.option("-q", "--quiet", is_flag=True, help="已有的不说"),
)
_SERVER = (
    click.option("--cluster-name", show_default=DEFAULT_CLUSTER, help="集群名"),
    click.option("--address", default="", help="别的机器用来找到这台的名字或地址；缺省是本机的全名"),
    click.option(
        "--allow",
        multiple=True,
        metavar="NETWORK",
        help="放行这个网段里的机器（如 10.0.0.0/24），可重复；缺省只给本机用",
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


@setup.command("node")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option(
    "--package",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="先在那些机器上装这个 .deb；不写就是已经装好了",
)
@click.option("--ssh", default="ssh", show_default=True, help="ssh 命令连同它的选项，如 'ssh -i 密钥 -p 2222'")
@click.option("--replace-settings", is_flag=True, help="那边的设置与这里的不同时换成这里的；缺省不动，报出来")
@click.option("--dry-run", is_flag=True, help="只看缺什么、要做什么，不动任何东西")
def node(hosts: tuple[str, ...], package: Path | None, ssh: str, replace_settings: bool, dry_run: bool) -> None:
    """在 API 的机器上，经 ssh 把别的机器装成节点：抄设置、装软件包、scns setup worker。

    主机可以写成 n[1-200]；几台同时做，一台不成不碍别的，再跑一遍只补缺的。root 要能用密钥登录，或者 sudo 不问口令。
    """
    try:
        names = [name for word in hosts for name in expand(word)]
        check_here()
        wanted = NodeSetup(tuple(shlex.split(ssh)) or ("ssh",), package, replace_settings, dry_run)
        failed = set_up_nodes(names, wanted, click.echo)
    except (ConductorError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}：{error.strerror}") from error
    if failed:
        raise click.ClickException(
            f"{len(names)} 台里有 {len(failed)} 台没有做成：{compress(failed)}；改好之后再跑一遍"
        )
    say(f"{len(names)} 台都好了。看看：scns nodes" if not dry_run else "什么也没有动。")


def _run(*, dry_run: bool, no_start: bool, quiet: bool, **options: Any) -> None:
    wanted = Wanted(start=not no_start, **options)
    try:
        changed = run_steps(steps(wanted), dry_run=dry_run, tell=say, quiet=quiet)
    except ConductorError as error:
        raise click.ClickException(str(error)) from error
    if dry_run:
        say("什么也没有动。" if changed else "都已经好了。")
        return
    for line in how_to_start(wanted):
        say(f"启动：{line}")
    say("好了。看看：scns health；API 的机器上用户不用令牌，别的机器上：scns token --user 用户名 --install")
