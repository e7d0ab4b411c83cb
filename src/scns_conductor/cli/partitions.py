"""scns partitions：列出、新建、修改、删除分区。"""

from collections.abc import Mapping
from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.field_values import parse_assignments
from scns_conductor.cli.say import say
from scns_conductor.language import told

HEADER = ("分区", "状态", "节点", "时限上限", "缺省时限", "节点数限制", "层级")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def partitions(ctx: click.Context, as_json: bool) -> None:
    """列出全部分区；* 是缺省分区。"""
    if ctx.invoked_subcommand is not None:
        return
    with connected() as client:
        found = client.partitions()
    if as_json:
        print_json({"partitions": found})
        return
    _print_list(found)


def _print_list(found: list[dict[str, Any]]) -> None:
    from scns_conductor.cli.table import show_table

    show_table(HEADER, [_row(partition) for partition in found], "一个分区也没有")


def _row(partition: Mapping[str, Any]) -> tuple[str, ...]:
    from scns_conductor.cli.job_text import time_limit_text

    default_time = partition.get("default_time")
    most = partition.get("max_nodes")
    return (
        str(partition["name"]) + ("*" if partition.get("is_default") else ""),
        str(partition.get("state") or "-"),
        str(partition.get("nodes") or "-"),
        time_limit_text(partition.get("max_time")),
        "-" if default_time is None else time_limit_text(default_time),
        f"{partition.get('min_nodes') or 1}-{most if most is not None else told('不限')}",
        str(partition.get("priority_tier", 1)),
    )


@partitions.command()
@click.argument("name")
@click.argument("words", metavar="[FIELD=VALUE]...", nargs=-1)
@json_option
def create(name: str, words: tuple[str, ...], as_json: bool) -> None:
    """新建分区（管理员），如 scns partitions create gpu nodes=g[1-4] max_time=1-0 is_default=false。"""
    with connected() as client:
        made = client.create_partition({"name": name, **parse_assignments(words)})
    print_json(made) if as_json else _print_list([made])


@partitions.command()
@click.argument("name")
@click.argument("words", metavar="FIELD=VALUE...", nargs=-1, required=True)
@json_option
def update(name: str, words: tuple[str, ...], as_json: bool) -> None:
    """修改分区（管理员），如 scns partitions update gpu state=DOWN。"""
    with connected() as client:
        changed = client.update_partition(name, parse_assignments(words))
    print_json(changed) if as_json else _print_list([changed])


@partitions.command()
@click.argument("name")
def delete(name: str) -> None:
    """删除分区（管理员）；还有作业在里面时不许。"""
    with connected() as client:
        client.delete_partition(name)
    say(f"分区 {name} 已删除")
