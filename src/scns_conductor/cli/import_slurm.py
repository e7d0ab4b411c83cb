"""scns import slurm：读 Slurm 的设置与记账的文件，写成 cluster.yaml；搬不过来的一行行说为什么。"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import json_option, print_json
from scns_conductor.cli.say import say
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.slurm.moving.findings import Findings

_LARGEST = 512 * 1024**2


@click.group(name="import")
def import_group() -> None:
    """从别的系统搬来。"""


@import_group.command()
@click.option("--conf", metavar="FILE", help="slurm.conf；包含的文件、旁边的 gres.conf 与 topology.conf 一并读")
@click.option(
    "--accounts",
    "tables",
    metavar="FILE",
    multiple=True,
    help="sacctmgr dump 的文件，或 sacctmgr show assoc（account、user、qos）-P 的表；可以写几个",
)
@click.option("-o", "--output", metavar="FILE", help="写到文件；缺省是标准输出")
@json_option
def slurm(conf: str | None, tables: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """读 Slurm 的文件，写成 cluster.yaml，再用 scns apply 看差别、改集群。

    读不了、这里没有的，一行行写在标准错误上：文件:行号、原文、为什么。不连系统，什么也不改。
    """
    if conf is None and not tables:
        raise click.UsageError("写明 --conf slurm.conf，或 --accounts sacctmgr.dump")
    from scns_conductor.cli.cluster_yaml import write_cluster_yaml
    from scns_conductor.slurm.moving.findings import Findings
    from scns_conductor.slurm.moving.slurm_conf import read_slurm_conf

    findings = Findings()
    content: dict[str, Any] = {"version": 1}
    if conf is not None:
        content |= read_slurm_conf(Path(conf), findings).content()
    if tables:
        content |= _accounts(tables, findings)
    findings.found.sort(key=lambda each: (each.place.file, each.place.line))
    if as_json:
        told_findings = [
            {"place": str(each.place), "text": each.text, "reason": each.reason} for each in findings.found
        ]
        print_json({"content": content, "findings": told_findings, "settings": findings.hints})
        return
    text = write_cluster_yaml(content)
    for each in findings.found:
        print(f"{each.place}: {each.text}: {told(each.reason)}", file=sys.stderr)
    if findings.hints:
        say("这些要写进 config.toml（docs/deployment.md）：", err=True)
        for name, value in findings.hints.items():
            print(f"  {name} = {value}", file=sys.stderr)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            Path(output).write_text(text, "utf-8")
        except OSError as error:
            raise click.ClickException(told(f"写不了 {output}：{error.strerror}")) from error
    counts = {name: len(value) for name, value in content.items() if isinstance(value, list | dict)}
    say(f"写好了 {'，'.join(f'{name} {count}' for name, count in counts.items()) or '空的'}；"
        f"搬不过来的 {len(findings.found)} 处", err=True)  # fmt: skip


def _accounts(tables: tuple[str, ...], findings: "Findings") -> dict[str, Any]:
    from scns_conductor.slurm.moving.account_dump import is_dump, read_dump
    from scns_conductor.slurm.moving.account_records import AccountRecords
    from scns_conductor.slurm.moving.account_tables import read_table

    records = AccountRecords(findings)
    for name in tables:
        try:
            with open(name, "rb") as file:
                text = file.read(_LARGEST).decode("utf-8-sig", "replace")
        except OSError as error:
            raise click.ClickException(told(f"读不了 {name}：{error.strerror}")) from error
        if is_dump(text):
            records.absorb(read_dump(name, text, findings))
        else:
            read_table(name, text, findings, records)
    return records.content()
