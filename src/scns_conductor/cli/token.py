"""scns token：签发访问令牌。"""

import json
import os
import pwd
from pathlib import Path

import click

from scns_conductor.cli.say import say
from scns_conductor.core.settings import Settings, current_user_name, load_settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.core.units import parse_duration


@click.command()
@click.option("--user", help="给谁，缺省是自己")
@click.option("--admin", is_flag=True, help="管理员令牌")
@click.option("--lifetime", help="有效期，Slurm 的时长写法（如 1-0 表示一天），缺省取 SCNS_TOKEN_LIFETIME_S（30 天）")
@click.option("--install", is_flag=True, help="不打印，写进这个用户的 ~/.config/scns-conductor/client.json（要 root）")
def token(user: str | None, admin: bool, lifetime: str | None, install: bool) -> None:
    """签发访问令牌；需要能读数据目录里的签名密钥。"""
    try:
        lifetime_s = None if lifetime is None else parse_duration(lifetime)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--lifetime") from error
    settings, name = load_settings(), user or current_user_name()
    try:
        issued = issue_token(settings, name, admin=admin, lifetime_s=lifetime_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--user") from error
    if install:
        say(f"写好了 {_install(settings, name, issued)}；{name} 现在就能用 scns、sbatch")
    else:
        click.echo(issued)


def _install(settings: Settings, user_name: str, issued: str) -> Path:
    """写进用户自己的目录，0600；以那个用户的身份写，家目录里的链接骗不了 root。"""
    if settings.api_url is None:
        raise click.ClickException("设置里没有 api_url（API 的地址）；scns setup 会写好它")
    try:
        account = pwd.getpwnam(user_name)
    except KeyError as error:
        raise click.ClickException(f"本机没有用户 {user_name}；请先建这个用户，或去掉 --install") from error
    folder = Path(account.pw_dir) / ".config/scns-conductor"
    target = folder / "client.json"
    text = json.dumps({"url": settings.api_url, "token": issued})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() != account.pw_uid:
                os.initgroups(user_name, account.pw_gid)
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = folder / ".client.json.new"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            fresh.rename(target)
            status = 0
        finally:
            os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise click.ClickException(f"写不进 {target}；请检查 {user_name} 的家目录，以及是不是以 root 运行")
    return target
