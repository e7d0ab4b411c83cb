"""scns health：系统是否就绪。"""

from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.containment_text import shortfall
from scns_conductor.language import told


@click.command()
@json_option
def health(as_json: bool) -> None:
    """系统是否就绪（作业能不能跑），以及各部分的状况；没有就绪时退出码为 1。"""
    with connected() as client:
        good, answer = client.ready()
        url = client.url
    checks = answer.get("checks", {})
    lacking = [name for name in ("scheduler", "nodes") if checks.get(name, {}).get("status") == "absent"]
    good = good and not lacking
    if as_json:
        print_json(answer)
    else:
        from scns_conductor.cli.table import render

        why = "、".join({"scheduler": "没有调度器", "nodes": "没有可用的节点"}[name] for name in lacking)
        rows = [("系统", "就绪" if good else "没有就绪", f"{url}（{why}）" if why else url)]
        rows += [_row(name, check) for name, check in checks.items() if check]
        if not checks:
            rows.append(("原因", str(answer.get("code", "")), str(answer.get("detail", ""))))
        click.echo(render(("部分", "状况", "说明"), [tuple(map(told, row)) for row in rows]))
    raise SystemExit(0 if good else 1)


def _row(name: str, check: Any) -> tuple[str, str, str]:
    """一项检查的一行；除 status 之外有值的都写进说明。"""
    if not isinstance(check, dict):
        return name, str(check), ""
    if name == "containment":
        text = shortfall(check)
        return name, "weak" if text else "ok", text
    rest: dict[str, Any] = {
        key: value for key, value in check.items() if key != "status" and value not in (None, [], {})
    }
    rest.pop("instance", None)
    extra = [
        *rest.pop("shortfalls", []),
        *(_holder(each) for each in rest.pop("held", [])),
        *(_blocker(each) for each in rest.pop("blocked_by", [])),
    ]
    text = "，".join(f"{key}={value}" for key, value in rest.items())
    return name, str(check.get("status", "-")), "；".join([*([text] if text else []), *extra])


def _holder(held: dict[str, Any]) -> str:
    """锁着我们的行的会话；别的用户的看不见多久。"""
    pid, name, tables = held["pid"], held["application_name"] or "没有名字", "、".join(held["tables"])
    if held["held_s"] is None:
        return f"会话 {pid}（{name}）锁着 {tables}（看不见多久）；可执行 SELECT pg_terminate_backend({pid})"
    since_s = f"{held['held_s']:.0f}"
    return f"会话 {pid}（{name}）的事务锁着 {tables}，已 {since_s} 秒；可执行 SELECT pg_terminate_backend({pid})"


def _blocker(block: dict[str, Any]) -> str:
    """锁着调度器要写的行的会话。"""
    what = f"{block['table']} {','.join(block['rows'])}" if block["rows"] else f"整个 {block['table']}"
    return f"{what} 被 {block['application_name']}（pid={block['pid']}）锁着"
