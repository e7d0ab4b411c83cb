"""scns token：签发访问令牌（用密钥离线签，或请 API 签发并登记）、列出、作废、换密钥。"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from scns_conductor.cli.command_group import LazyGroup, Place
from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.client.endpoint import own_file, write_client_file
from scns_conductor.core.token_words import ROLES, SCOPES
from scns_conductor.core.units import parse_duration

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

_LIFETIME = "有效期，Slurm 的时长写法（如 1-0 表示一天），缺省取 SCNS_TOKEN_LIFETIME_S（30 天）"


class TokenCommands(LazyGroup):
    """子命令；换密钥的要碰数据库，在组合根里。"""

    places: ClassVar[Mapping[str, Place]] = {
        "create": Place("令牌", "签发并登记：有名字、范围，列得出、收得回", __name__, "create"),
        "list": Place("令牌", "列出没有到期的", __name__, "list_"),
        "revoke": Place("令牌", "作废，一秒之内生效", __name__, "revoke"),
        "rotate-key": Place("令牌", "换签名的密钥，旧的再认一阵子", "scns_conductor.local.key_command", "rotate"),
    }


def _seconds(lifetime: str | None) -> int | None:
    try:
        return None if lifetime is None else parse_duration(lifetime)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--lifetime") from error


@click.group(cls=TokenCommands, invoke_without_command=True)
@click.option("--user", help="给谁，缺省是自己")
@click.option("--admin", is_flag=True, help="管理员令牌")
@click.option("--lifetime", help=_LIFETIME)
@click.option("--install", is_flag=True, help="不打印，写进这个用户的 ~/.config/scns-conductor/client.json（要 root）")
@click.pass_context
def token(context: click.Context, user: str | None, admin: bool, lifetime: str | None, install: bool) -> None:
    """没有写子命令时用密钥当场签一个，不登记：要能读数据目录里的签名密钥，API 不在也行。

    登记的（scns token create）列得出、收得回，知道最近何时用过。
    """
    if context.invoked_subcommand is not None:
        return
    # 只装了客户端的没有签名的库；登记的那些子命令用不着它。
    from scns_conductor.core.settings import current_user_name, load_settings
    from scns_conductor.core.tokens import issue_token

    lifetime_s = _seconds(lifetime)
    settings, name = load_settings(), user or current_user_name()
    try:
        issued = issue_token(settings, name, admin=admin, lifetime_s=lifetime_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--user") from error
    if install:
        say(f"写好了 {_install(settings, name, issued)}；{name} 现在就能用 scns、sbatch")
    else:
        click.echo(issued)


def _install(settings: "Settings", user_name: str, issued: str) -> Path:
    """写进用户自己的目录，0600；以那个用户的身份写，家目录里的链接骗不了 root。"""
    if settings.api_url is None:
        raise click.ClickException("设置里没有 api_url（API 的地址）；scns setup 会写好它")
    try:
        account = pwd.getpwnam(user_name)
    except KeyError as error:
        raise click.ClickException(f"本机没有用户 {user_name}；请先建这个用户，或去掉 --install") from error
    target = Path(own_file({"HOME": account.pw_dir}))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() != account.pw_uid:
                os.initgroups(user_name, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            write_client_file(str(target), settings.api_url, issued)
            status = 0
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise click.ClickException(f"写不进 {target}；请检查 {user_name} 的家目录，以及是不是以 root 运行")
    return target


@click.command()
@click.argument("name")
@click.option("--user", help="给谁，缺省是自己；别人的要管理员")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="read 只许看，submit 只许提交；可写两次"
)
@click.option("--account", help="只管这个账户的作业")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True, help="别的角色只有管理员能签")
@click.option("--lifetime", help=_LIFETIME)
@json_option
def create(
    name: str, user: str | None, scopes: tuple[str, ...], account: str | None, role: str, lifetime: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """请 API 签发一个叫 NAME 的令牌，登记并打印；令牌只在这里出现一次。

    例如给 CI 一个只许提交到账户 lab、九十天的：scns token create ci --scope submit --account lab --lifetime 90-0
    """
    wanted: dict[str, Any] = {
        "name": name, "user_name": user, "scopes": list(scopes), "account": account, "role": role,
        "lifetime_s": _seconds(lifetime),
    }  # fmt: skip
    with connected() as client:
        issued = client.create_token({key: value for key, value in wanted.items() if value not in (None, [])})
    if as_json:
        print_json(issued)
    else:
        click.echo(issued["token"])


@click.command("list")
@click.option("--user", help="谁的，缺省是自己；* 是全部（管理员、审计员）")
@json_option
def list_(user: str | None, as_json: bool) -> None:
    """列出登记过、没有到期的令牌，新的在前；作废了的也在。"""
    with connected() as client:
        found = list(client.tokens(user=user))
    if as_json:
        print_json({"tokens": found})
        return
    from scns_conductor.cli.job_text import local_time
    from scns_conductor.cli.table import show_table

    header = ("令牌", "名字", "用户", "角色", "范围", "账户", "到期", "最近用", "从哪里", "作废")
    shown = [
        (one["token_id"], one["name"] or "-", one["user_name"], one["role"], ",".join(one["scopes"]) or "-",
         one["account"] or "-", local_time(one["expires_at"]), local_time(one["last_used_at"]),
         one["last_used_from"] or "-", local_time(one["revoked_at"]))
        for one in found
    ]  # fmt: skip
    show_table(header, shown, "没有登记过的令牌")


@click.command()
@click.argument("token_ids", metavar="TOKEN...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="这个用户的全部令牌，没有登记的也是")
@click.option("--user", help="与 --all 一起写：谁的，缺省是自己")
def revoke(token_ids: tuple[str, ...], everything: bool, user: str | None) -> None:
    """作废令牌（写号，见 scns token list），一秒之内全部 API 进程都不认。

    --all 连你正在用的这一个也作废。
    """
    if bool(token_ids) == everything or (user and not everything):
        raise click.UsageError("要么写令牌的号，要么写 --all（可加 --user）")
    with connected() as client:
        for token_id in token_ids:
            client.revoke_token(token_id)
        if everything:
            say(f"作废了 {client.revoke_tokens(user=user)} 个登记过的令牌，与没有登记的全部")
