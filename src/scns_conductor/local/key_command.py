"""scns token rotate-key：换签名的密钥，记进审计。"""

import click

from scns_conductor.cli.say import say
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import load_settings
from scns_conductor.core.signing_keys import old_keys_path, rotate_key
from scns_conductor.core.units import parse_duration
from scns_conductor.local.command_audit import record_command


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
    # 数据库不在也已经换好了：密钥泄露时等不得。
    record_command(settings, "key.rotate", kid, {"grace_s": grace_s})
