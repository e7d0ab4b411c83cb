"""scns apply：照 cluster.yaml 改集群；scns export：写出此刻的 cluster.yaml。"""

import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.cli.cluster_yaml import ClusterYaml
    from scns_conductor.client import Problem

# 文件里的一处，如 qos[0]。
_OTHER_PLACE = re.compile(r"\b[a-z]+\[\d+\]")
_SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}


@click.command()
@click.option("-f", "--file", "source", metavar="FILE", help="cluster.yaml；- 是标准输入")
@click.option("-y", "--yes", is_flag=True, help="不问，直接改")
@click.option("--dry-run", is_flag=True, help="只看差别，什么也不改")
@click.option("--prune", is_flag=True, help="写了的节里，文件没有写的对象也删除（节点与用户除外）")
@click.option("--schema", is_flag=True, help="打印 cluster.yaml 的 JSON Schema")
@json_option
def apply(source: str | None, yes: bool, dry_run: bool, prune: bool, schema: bool, as_json: bool) -> None:
    """照 cluster.yaml 改集群：先列出差别，确认之后一次改完，全部成功或什么也不改。

    没有写的节不动；写了的对象就是它的全部，没有写的字段回到缺省值。文件的样子用 scns export 看。
    """
    if schema:
        with connected() as client:
            print_json(client.cluster_schema())
        return
    if source is None:
        raise click.UsageError("写明文件：-f cluster.yaml；- 是标准输入")
    from scns_conductor.cli.cluster_yaml import read_cluster_yaml
    from scns_conductor.client import Problem

    name = "-" if source == "-" else source
    file = read_cluster_yaml(_read(source), name)
    with connected() as client:
        try:
            found = client.apply_cluster(file.content, dry_run=True, prune=prune)
            if not as_json:
                _print_changes(found["changes"])
            if found["changes"] and not dry_run and (yes or _agreed(source)):
                found = client.apply_cluster(file.content, prune=prune, expect=found["fingerprint"])
                if not as_json:
                    say(f"改好了，共 {len(found['changes'])} 处")
        except Problem as problem:
            if problem.status != 422 or not problem.errors:
                raise
            _print_faults(file, problem)
            sys.exit(1)
    if as_json:
        print_json(found)


def _read(source: str) -> bytes:
    from scns_conductor.cli.cluster_yaml import LARGEST

    # 多读一个字节：太大的由 read_cluster_yaml 拒绝，没有尽头的（/dev/zero）也不读到内存满。
    if source == "-":
        return sys.stdin.buffer.read(LARGEST + 1)
    try:
        with open(source, "rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise click.ClickException(told(f"读不了 {source}：{error.strerror}")) from error


def _agreed(source: str) -> bool:
    if source == "-" or not sys.stdin.isatty():
        raise click.UsageError("没有人可问；确实要改请加 --yes，只看请加 --dry-run")
    if click.confirm(told("照这样改？"), default=False):
        return True
    say("没有改")
    return False


def _print_faults(file: "ClusterYaml", problem: "Problem") -> None:
    """一处一行：文件:行号：位置：怎么了。"""
    for each in problem.errors:
        place = each.get("field", "")
        message = _OTHER_PLACE.sub(lambda found: _with_line(file, found[0]), each.get("message", ""))
        print(told(f"scns：{file.where(place)}：{place}：{message}"), file=sys.stderr)


def _with_line(file: "ClusterYaml", place: str) -> str:
    """话里提到的另一处（qos[0] 与它重复）：加上第几行。"""
    line = file.lines.get(place)
    return place if line is None else told(f"{place}（第 {line} 行）")


def _print_changes(changes: list[dict[str, Any]]) -> None:
    if not changes:
        say("没有差别，什么也不用改")
    for change in changes:
        sign, colour = _SIGNS[change["action"]]
        click.echo(click.style(f"{sign} {change['section']} {change['name']}", fg=colour))
        for each in change["fields"]:
            click.echo(f"    {_field_text(change['action'], each)}")
    if changes:
        counts = {action: sum(change["action"] == action for change in changes) for action in _SIGNS}
        say(f"新建 {counts['create']}，修改 {counts['update']}，删除 {counts['delete']}")


def _field_text(action: str, found: Mapping[str, Any]) -> str:
    after = _value_text(found["after"])
    if action == "create":
        return f"{found['name']}: {after}"
    return f"{found['name']}: {_value_text(found['before'])} -> {after}"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


@click.command()
@click.option("-o", "--output", metavar="FILE", help="写到文件；缺省是标准输出")
@json_option
def export(output: str | None, as_json: bool) -> None:
    """写出此刻的 cluster.yaml：再 scns apply 它，什么也不改。与缺省值相同的字段不写。"""
    from scns_conductor.cli.cluster_yaml import write_cluster_yaml

    with connected() as client:
        content = client.export_cluster()
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n" if as_json else write_cluster_yaml(content)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(told(f"写不了 {output}：{error.strerror}")) from error
