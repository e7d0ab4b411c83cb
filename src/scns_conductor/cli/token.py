"""scns token：签发访问令牌。"""

import click

from scns_conductor.core.settings import current_user_name, load_settings
from scns_conductor.core.tokens import issue_token
from scns_conductor.core.units import parse_duration


@click.command()
@click.option("--user", help="给谁，缺省是自己")
@click.option("--admin", is_flag=True, help="管理员令牌")
@click.option("--lifetime", help="有效期，Slurm 的时长写法（如 1-0 表示一天），缺省取 SCNS_TOKEN_LIFETIME_S（30 天）")
def token(user: str | None, admin: bool, lifetime: str | None) -> None:
    """签发访问令牌；需要能读数据目录里的签名密钥。"""
    try:
        lifetime_s = None if lifetime is None else parse_duration(lifetime)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--lifetime") from error
    try:
        issued = issue_token(load_settings(), user or current_user_name(), admin=admin, lifetime_s=lifetime_s)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--user") from error
    click.echo(issued)
