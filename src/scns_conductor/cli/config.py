"""scns config：现行的设置，以及每一项来自哪里。"""

import re
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import json_option, print_json

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

# 地址里的口令：scheme://用户:口令@ 与查询串里的 password=。
_URL_PASSWORD = re.compile(r"(?<=://)([^/?#:@]*):[^/?#@]*@|((?:^|[?&])password=)[^&#]*")
MASK = "******"


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def config(names: tuple[str, ...], as_json: bool) -> None:
    """打印现行的设置与来源（缺省值、环境变量、.env、TOML 文件）；口令遮住。"""
    from scns_conductor.core.settings import Settings, load_settings

    settings = load_settings()
    known = list(Settings.model_fields)
    unknown = [name for name in names if _field_name(name) not in known]
    if unknown:
        raise click.BadParameter(f"没有设置项 {'、'.join(unknown)}", param_hint="NAME")
    chosen = [_field_name(name) for name in names] or known
    sources = setting_sources()
    rows = {name: (shown_value(settings, name), sources[name]) for name in chosen}
    if as_json:
        print_json({name: {"value": value, "source": source} for name, (value, source) in rows.items()})
        return
    from scns_conductor.cli.table import render

    cells = [(name, _text(value), source) for name, (value, source) in rows.items()]
    click.echo(render(("设置", "值", "来源"), cells))


def _field_name(given: str) -> str:
    return given.lower().removeprefix("scns_")


def setting_sources() -> dict[str, str]:
    """每个设置项的来源；先后与 Settings 的相同。"""
    from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, TomlConfigSettingsSource

    from scns_conductor.core.settings import Settings, config_file

    file = config_file()
    found: dict[str, str] = dict.fromkeys(Settings.model_fields, "缺省值")
    layers: list[tuple[dict[str, Any], str]] = [
        (TomlConfigSettingsSource(Settings, toml_file=file)(), str(file)),
        (DotEnvSettingsSource(Settings)(), ".env"),
        (EnvSettingsSource(Settings)(), "环境变量"),
    ]
    for values, source in layers:
        for name in values:
            if name in found:
                found[name] = f"环境变量 SCNS_{name.upper()}" if source == "环境变量" else source
    return found


def shown_value(settings: "Settings", name: str) -> Any:
    """给人看的值：地址里的口令遮住，别的秘密整个遮住。"""
    from pathlib import Path

    from pydantic import SecretStr

    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return mask_url(text) if "://" in text else MASK
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
