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
        from scns_conductor.cli.table import render

        rows = [("系统", "就绪" if good else "没有就绪", url)]
        rows += [_row(name, check) for name, check in answer.get("checks", {}).items() if check]
        click.echo(render(("部分", "状况", "说明"), rows))
    raise SystemExit(0 if good else 1)


def _row(name: str, check: Any) -> tuple[str, str, str]:
    """一项检查的一行；除 status 之外有值的都写进说明。"""
    if not isinstance(check, dict):
        return name, str(check), ""
    if name == "containment":
        told = {node: found for node, found in check.items() if isinstance(found, dict)}
        weak = [
            f"{node}：{'、'.join(found['not_enforced'])}" for node, found in told.items() if found.get("not_enforced")
        ]
        return name, "weak" if weak else "ok", "；".join(weak)
    if "blocked_by" in check:
        blocks = check["blocked_by"]
        blocking = [f"{_locked(block)}被 {block['application_name']}（pid={block['pid']}）锁着" for block in blocks]
        return name, str(check.get("status", "-")), "；".join(blocking)
    rest = {key: value for key, value in check.items() if key != "status" and value not in (None, [], {})}
    return name, str(check.get("status", "-")), "，".join(f"{key}={value}" for key, value in rest.items())


def _locked(block: dict[str, Any]) -> str:
    return f"{block['table']} {','.join(block['rows'])} " if block["rows"] else f"整个 {block['table']} "
