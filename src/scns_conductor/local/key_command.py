"""scns token rotate-key：换签名的密钥，记进审计。"""

import click
import sqlalchemy as sa

from scns_conductor.cli.say import say
from scns_conductor.core.database import sync_engine
from scns_conductor.core.errors import ConductorError, SettingsError
from scns_conductor.core.settings import Settings, current_user_name, load_settings
from scns_conductor.core.signing_keys import old_keys_path, rotate_key
from scns_conductor.core.units import parse_duration
from scns_conductor.statements.audit import AUDIT_INSERT


@click.command("rotate-key")
@click.option(
    "--grace", default="30-0", show_default=True, help="旧的密钥签的令牌再认多久（时长写法如 30-0）；0 是立即不认"
)
def rotate(grace: str) -> None:
    """换一把新的签名密钥；旧的令牌在 --grace 之内照样有效，所以谁也不必马上重新登录。

    要能写密钥文件；运行中的 API 一两秒之内看到，不必重启。API 在几台机器上的，把密钥文件与旁边的 .old 一起拷过去。
    密钥泄露了写 --grace 0：以前签的令牌全部作废。
    """
    try:
        grace_s = 0 if grace == "0" else parse_duration(grace)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--grace") from error
    if grace_s is None:
        raise click.BadParameter("要有尽头", param_hint="--grace")
    settings = load_settings()
    path = settings.jwt_key_path
    try:
        kid = rotate_key(path, grace_s)
    except OSError as error:
        raise SettingsError(f"写不了密钥文件 {path}：{error.strerror}") from error
    say(f"新的密钥是 {kid}（{path}）；旧的在 {old_keys_path(path)}，再认 {grace_s} 秒")
    _record(settings, kid, grace_s)


def _record(settings: Settings, kid: str, grace_s: int) -> None:
    """记进审计；数据库不在也已经换好了：密钥泄露时等不得。"""
    values = {
        "actor": current_user_name(), "role": "administrator", "method": "command", "token_id": None, "address": None,
        "request_id": None, "action": "key.rotate", "target": kid, "before": None,
        "after": f'{{"grace_s": {grace_s}}}',
    }  # fmt: skip
    try:
        engine = sync_engine(settings)
        try:
            with engine.begin() as connection:
                connection.execute(AUDIT_INSERT, values)
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ConductorError, OSError) as error:
        say(f"没有记进审计，数据库连不上：{str(error).splitlines()[0]}", err=True)
