"""scns nodes：列出节点；排空、恢复、下线。scns node delete：删除。"""

from collections.abc import Mapping
from typing import Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.containment_text import shortfall
from scns_conductor.cli.say import say

HEADER = ("节点", "状态", "CPU 用/共", "内存 用/共", "GRES 用/共", "负载", "心跳", "原因")


@click.command()
@click.argument("names", metavar="[NODE]...", nargs=-1)
@click.option("--drain", "action", flag_value="drain", help="排空：不再接新作业，运行中的跑完（管理员）")
@click.option("--resume", "action", flag_value="resume", help="恢复接作业（管理员）")
@click.option("--down", "action", flag_value="down", help="下线：其上的作业重新排队或结束（管理员）")
@click.option("--power-up", "action", flag_value="power_up", help="开机（管理员；要设置了节能的程序）")
@click.option("--power-down", "action", flag_value="power_down", help="空下来之后关机（管理员）")
@click.option("--reboot", "action", flag_value="reboot", help="空下来之后重启（管理员）")
@click.option("--cancel-reboot", "action", flag_value="cancel_reboot", help="撤销还没有开始的重启（管理员）")
@click.option("--asap", is_flag=True, help="与 --reboot 一起：从此不接新作业，运行中的跑完就重启")
@click.option(
    "--next-state",
    type=click.Choice(["resume", "down"], case_sensitive=False),
    help="与 --reboot 一起：回来之后恢复（撤掉排空），或下线",
)
@click.option("--reason", help="排空、下线、重启的原因")
@json_option
def nodes(
    names: tuple[str, ...], action: str | None, asap: bool, next_state: str | None, reason: str | None, as_json: bool
) -> None:
    """列出全部或指名的节点；NODE 可写成 n[1-3,5]。"""
    wanted = _expanded(names)
    if action is not None and not wanted:
        raise click.UsageError(f"--{action.replace('_', '-')} 要指明节点")
    if action in ("drain", "down") and not reason:
        raise click.UsageError(f"--{action} 要用 --reason 说明原因")
    if (asap or next_state) and action != "reboot":
        raise click.UsageError("--asap、--next-state 要与 --reboot 一起用")
    with connected() as client:
        if action == "reboot":
            state = None if next_state is None else next_state.upper()
            found = client.reboot_nodes(",".join(wanted), asap=asap, next_state=state, reason=reason)
        elif action == "cancel_reboot":
            found = client.cancel_reboot(",".join(wanted))
        elif action is not None:
            changes = {"state": action.upper(), **({"reason": reason} if reason else {})}
            found = [client.update_node(name, changes) for name in wanted]
        elif wanted:
            found = [client.node(name) for name in wanted]
        else:
            found = client.nodes()
    if as_json:
        print_json({"nodes": found})
        return
    from scns_conductor.cli.table import show_table

    colours = [_colour(str(node["state"])) for node in found]
    show_table(HEADER, [_row(node) for node in found], "还没有节点登记", colours)
    if wanted and (text := shortfall({node["name"]: node.get("containment") for node in found})):
        say("没有圈住的：" + text)


def _colour(state: str) -> str | None:
    return "red" if "DOWN" in state else "yellow" if "DRAIN" in state or state.startswith("UNKNOWN") else None


@click.group()
def node() -> None:
    """声明、删除节点（列出、排空、恢复用 scns nodes）。"""


@node.command()
@click.argument("names", metavar="NODE")
@click.option("--cpus", type=click.IntRange(1), required=True, help="CPU 数")
@click.option("--memory", required=True, help="内存，如 64G")
@click.option("--gres", help="通用资源，如 gpu:a100:4")
@click.option("--features", help="特性，逗号分隔")
@click.option("--weight", type=click.IntRange(0), help="权重，放置时先用小的")
def declare(names: str, cpus: int, memory: str, gres: str | None, features: str | None, weight: int | None) -> None:
    """声明要用时才有的节点（管理员），NODE 可写成 n[1-3]：分配了作业才由 resume_program 开起来。"""
    given = {"gres": gres, "features": features.split(",") if features else None, "weight": weight}
    body = {"name": names, "cpus": cpus, "memory": memory} | {k: v for k, v in given.items() if v is not None}
    with connected() as client:
        for each in client.declare_nodes(body):
            say(f"节点 {each['name']} 已声明")


@node.command()
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
def delete(names: tuple[str, ...]) -> None:
    """删除节点（管理员），NODE 可写成 n[1-3,5]；先排空它，或停下它的代理。作业与用量的历史不动。"""
    with connected() as client:
        for word in names:
            client.delete_node(word)
            say(f"节点 {word} 已删除")


def _expanded(names: tuple[str, ...]) -> list[str]:
    from scns_conductor.core.hostlist import expand

    try:
        return [name for word in names for name in expand(word)]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NODE") from error


def _row(node: Mapping[str, Any]) -> tuple[str, ...]:
    from scns_conductor.cli.job_text import local_time
    from scns_conductor.core.units import format_memory_mb

    gres, used = node.get("gres") or {}, node.get("allocated_gres") or {}
    load = node.get("cpu_load")
    return (
        str(node["name"]),
        str(node["state"]),
        f"{node.get('allocated_cpus', 0)}/{node.get('cpus', 0)}",
        f"{format_memory_mb(node.get('allocated_memory', 0))}/{format_memory_mb(node.get('memory', 0))}",
        " ".join(f"{name} {used.get(name, 0)}/{total}" for name, total in gres.items()) or "-",
        "-" if load is None else f"{load:.2f}",
        local_time(node.get("last_heartbeat")),
        str(node.get("reason") or "-"),
    )
