"""scns login、logout、whoami：换令牌、放下令牌、我是谁。"""

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.core.units import parse_duration

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient


@click.command()
@click.option("--url", help="API 的地址，缺省是命令平时用的那个")
@click.option("--user", help="用户名，缺省是自己的登录名")
@click.option("--password-stdin", is_flag=True, help="口令从标准输入读（脚本用），不问")
@click.option("--web", is_flag=True, help="在浏览器里登录、批准；没有开口令登录、或有单点登录时就是这样")
@click.option("--lifetime", help="令牌用多久，Slurm 的时长写法（如 1-0 表示一天）；上限由系统定")
def login(url: str | None, user: str | None, password_stdin: bool, web: bool, lifetime: str | None) -> None:
    """登录：换一个令牌，存进 ~/.config/scns-conductor/client.json（0600），以后的命令就用它。"""
    from scns_conductor.client import JsonClient
    from scns_conductor.client.endpoint import find_endpoint, own_file, write_client_file
    from scns_conductor.client.wire import SOCKET_SCHEME

    try:
        lifetime_s = None if lifetime is None else parse_duration(lifetime)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--lifetime") from error
    place = (url or find_endpoint().url).rstrip("/")
    if place.startswith(SOCKET_SCHEME):
        with JsonClient(place, None) as client:
            say(f"不用登录：本机的套接字知道你是 {client.whoami()['user_name']}")
        return
    with JsonClient(place, None) as client:
        methods = client.login_methods()
        by_password = not web and methods["password"] and (user or password_stdin or methods["oidc"] is None)
        if by_password:
            found = _by_password(client, user, password_stdin, lifetime_s)
        elif methods["device"]:
            found = _by_browser(client)
        else:
            raise click.ClickException(f"{place} 没有开登录，或没有开这一种；令牌请找管理员要（scns token）")
    path = own_file(os.environ)
    write_client_file(path, place, found["token"])
    say(f"登录好了：{found['user_name']}，令牌 {_moment(found['expires_at'])} 到期，存在 {path}")
    used = find_endpoint()
    if used.token != found["token"]:
        say(f"注意：命令现在用的还是 {used.source} 的；它在前面", err=True)


def _by_password(
    client: "JsonClient", user: str | None, password_stdin: bool, lifetime_s: int | None
) -> dict[str, Any]:
    name = user or _own_name()
    password = sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt(f"{name} 的口令", hide_input=True)
    return client.password_login(name, password, lifetime_s=lifetime_s)


def _by_browser(client: "JsonClient") -> dict[str, Any]:
    """在浏览器里批准：终端这边等着。"""
    from scns_conductor.client import Problem

    begun = client.begin_device_login(re.sub(r"[^A-Za-z0-9._-]", "", os.uname().nodename)[:253])
    say(f"请在浏览器里打开 {begun['verification_url_complete']}")
    say(f"登录，核对码 {begun['user_code']}，批准；{begun['expires_in'] // 60} 分钟内有效，这里等着……")
    while True:
        time.sleep(begun["interval"])
        try:
            found = client.device_token(begun["device_code"])
        except Problem as problem:
            if problem.status not in (429, 503):
                raise
            continue
        if found["status"] == "approved":
            return found


@click.command()
def logout() -> None:
    """放下令牌：作废它，从 ~/.config/scns-conductor/client.json 里删掉。"""
    from scns_conductor.client import ClientError, JsonClient
    from scns_conductor.client.endpoint import own_file, read_client_file, write_client_file
    from scns_conductor.client.token_claims import token_id_of

    path = own_file(os.environ)
    found = read_client_file(path)
    if found is None or found.token is None:
        say(f"本来就没有登录（{path} 里没有令牌）")
        return
    # 地址留着：再登录时不必再写。
    write_client_file(path, found.url, None)
    token_id = token_id_of(found.token)
    try:
        if token_id is not None:
            with JsonClient(found.url, found.token) as client:
                client.revoke_token(token_id)
    except ClientError as error:
        say(f"已从 {path} 删掉令牌；没有作废它：{error}", err=True)
        return
    say(f"已从 {path} 删掉令牌")


@click.command()
@json_option
def whoami(as_json: bool) -> None:
    """系统当我是谁，有什么权，令牌何时到期。"""
    with connected() as client:
        found = client.whoami()
        url = client.url
    if as_json:
        print_json(found)
        return
    right = "管理员" if found["admin"] else "能改记账" if found["operator"] else "用户"
    until = "没有令牌" if found["expires_at"] is None else f"令牌 {_moment(found['expires_at'])} 到期"
    if found["job_id"] is not None:
        until = f"作业 {found['job_id']} 的令牌，作业结束为止"
    say(f"{found['user_name']}（{right}），{until}；{url}")


def _moment(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


def _own_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise click.ClickException("不知道你的登录名；请写 --user") from error
