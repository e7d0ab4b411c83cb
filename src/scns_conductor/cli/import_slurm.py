"""scns import slurm：读 Slurm 的设置与记账的文件，写成 cluster.yaml；sacct 的历史写进系统。搬不过来的说为什么。"""

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
@click.option("-o", "--output", metavar="FILE", help="cluster.yaml 写到文件；缺省是标准输出")
@click.option(
    "--jobs", "histories", metavar="FILE", multiple=True, help="sacct -P 的历史（可以是 .gz），写进系统；可以写几个"
)
@click.option("--timezone", metavar="ZONE", help="--jobs：时刻是哪个时区的，如 Asia/Shanghai；缺省是这台机器的")
@click.option("--dry-run", is_flag=True, help="--jobs：只看读得出多少，不写进系统")
@json_option
def slurm(
    conf: str | None,
    tables: tuple[str, ...],
    output: str | None,
    histories: tuple[str, ...],
    timezone: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """读 Slurm 的文件，写成 cluster.yaml，再用 scns apply 看差别、改集群：只读文件，不连系统，什么也不改。

    --jobs 把 sacct 的历史写进系统（管理员）：作业看得到，用量算进公平份额与报告，scns simulate --live 可以重放；
    再来一遍不重。账户先要有（--accounts，再 apply）。怎样导出见 docs/operators.md。

    读不了、这里没有的，一行行写在标准错误上：文件:行号、原文、为什么。
    """
    if conf is None and not tables and not histories:
        raise click.UsageError("写明 --conf slurm.conf、--accounts sacctmgr.dump，或 --jobs 历史")
    if not histories and (timezone or dry_run):
        raise click.UsageError("--timezone、--dry-run 只与 --jobs 同用")
    if histories:
        if conf is not None or tables:
            raise click.UsageError("--jobs 单独来：先把 cluster.yaml 应用好")
        from scns_conductor.cli.import_history import import_jobs

        import_jobs(histories, timezone, dry_run=dry_run, as_json=as_json)
        return
    from scns_conductor.cli.cluster_yaml import write_cluster_yaml
    from scns_conductor.slurm.moving.findings import Findings
    from scns_conductor.slurm.moving.slurm_conf import read_slurm_conf

    findings = Findings()
    content: dict[str, Any] = {"version": 1}
    if conf is not None:
        try:
            open(conf, "rb").close()
        except OSError as error:
            raise click.ClickException(f"读不了 {conf}：{error.strerror}") from error
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
