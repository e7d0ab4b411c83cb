"""scns health：系统是否就绪。"""

from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json


@click.command()
@json_option
def health(as_json: bool) -> None:
    """系统是否就绪，以及各部分的状况；没有就绪时退出码为 1。"""
    with connected() as client:
        good, answer = client.ready()
        url = client.url
    if as_json:
        print_json(answer)
    else:
        from scns_conductor.cli.table import render_fields

        pairs = [("系统", url), ("就绪", "是" if good else "否")]
        pairs += [pair for name, value in answer.items() if name != "status" for pair in _flat(name, value)]
        click.echo(render_fields(pairs))
    raise SystemExit(0 if good else 1)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """嵌套的对象摊平成 a.b。"""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(f"{name}.{key}", item)]
    if isinstance(value, bool):
        return [(name, "是" if value else "否")]
    return [(name, "-" if value is None else str(value))]
