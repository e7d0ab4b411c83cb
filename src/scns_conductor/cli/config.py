"""scns config：现行的设置，以及每一项来自哪里。"""

import re
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

# 地址里的口令：scheme://用户:口令@ 与查询串里的 password=。
_URL_PASSWORD = re.compile(r"(?<=://)([^/?#:@]*):[^/?#@]*@|((?:^|[?&])password=)[^&#]*")
MASK = "******"


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--local", "only_local", is_flag=True, help="只看这里读到的，不问正在运行的系统")
@json_option
def config(names: tuple[str, ...], only_local: bool, as_json: bool) -> None:
    """打印现行的设置与来源；口令遮住。

    正在运行的系统公开的项是它的值，来源写它的地址；别的项（地址、文件的位置）是这里读到的。
    """
    from scns_conductor.core.settings import Settings

    known = list(Settings.model_fields)
    unknown = [name for name in names if _field_name(name) not in known]
    if unknown:
        raise click.BadParameter(f"没有设置项 {'、'.join(unknown)}", param_hint="NAME")
    rows = {} if only_local else _running_rows()
    here = _local_rows(required=not rows)
    chosen = [_field_name(name) for name in names] or known
    wanted = {name: rows.get(name) or here[name] for name in chosen if name in rows or name in here}
    if as_json:
        print_json({name: {"value": value, "source": source} for name, (value, source) in wanted.items()})
        return
    from scns_conductor.cli.table import render

    cells = [(name, _text(value), told(source)) for name, (value, source) in wanted.items()]
    click.echo(render(("设置", "值", "来源"), cells))


def _field_name(given: str) -> str:
    return given.lower().removeprefix("scns_")


def _running_rows() -> dict[str, tuple[Any, str]]:
    """正在运行的系统公开的设置；没有在运行的为空，有而不答话的在标准错误上说一声。"""
    from scns_conductor.client import ClientError, EndpointUnknown

    try:
        with connected() as client:
            return {name: (value, f"正在运行的系统 {client.url}") for name, value in client.config().items()}
    except EndpointUnknown:
        return {}
    except ClientError as error:
        say(f"scns：没有问到正在运行的系统，以下是这里读到的：{error}", err=True)
        return {}


def _local_rows(*, required: bool) -> dict[str, tuple[Any, str]]:
    """这里读到的设置；读不了时，有系统的回答就只在标准错误上说一声。"""
    from scns_conductor.core.errors import SettingsError
    from scns_conductor.core.settings import load_settings

    try:
        settings = load_settings()
        sources = setting_sources()
    except SettingsError as error:
        if required:
            raise
        say(f"scns：只列出系统公开的设置：{error}", err=True)
        return {}
    return {name: (shown_value(settings, name), source) for name, source in sources.items()}


def setting_sources() -> dict[str, str]:
    """每个设置项在这里的来源；先后与 Settings 的相同。"""
    from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

    from scns_conductor.core.config_file import config_file
    from scns_conductor.core.settings import Settings

    file = config_file()
    found: dict[str, str] = dict.fromkeys(Settings.model_fields, "缺省值")
    found |= dict.fromkeys(TomlConfigSettingsSource(Settings, toml_file=file)(), str(file))
    found |= {name: f"环境变量 SCNS_{name.upper()}" for name in EnvSettingsSource(Settings)()}
    return found


def shown_value(settings: "Settings", name: str) -> Any:
    """给人看的值：地址里的口令遮住，别的秘密整个遮住。"""
    from pathlib import Path

    from pydantic import SecretStr

    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return mask_url(text) if "://" in text else MASK
    if isinstance(value, list):
        # 网段等写成文字。
        return [str(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def mask_url(url: str) -> str:
    """遮住地址里的口令，其余照旧。"""
    return _URL_PASSWORD.sub(lambda found: f"{found[2]}{MASK}" if found[2] else f"{found[1]}:{MASK}@", url)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(str(item) for item in value) or "-"
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "-"
    return str(value)
