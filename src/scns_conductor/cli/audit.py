"""scns audit：谁、何时、从哪里做了什么；导出成 JSON 行，写进文件或送给 syslog。"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import connected, json_option, print_json
from scns_conductor.cli.say import say

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient

_PAGE = 1000
_SYSLOG_PORT = 514


@click.group(invoke_without_command=True)
@click.option("--actor", help="谁做的")
@click.option("--action", help="做了什么，如 node.update；只写 node 是节点的全部")
@click.option("--target", help="对什么做的")
@click.option("--since", help="此后的（含），如 2026-01-31、now-1day")
@click.option("--until", help="此前的")
@click.option("-n", "--most", type=click.IntRange(1, _PAGE), default=50, show_default=True, help="至多几条")
@json_option
@click.pass_context
def audit(context: click.Context, /, most: int, as_json: bool, **conditions: str | None) -> None:
    """列出审计，新的在前（管理员、审计员）。只增不改。"""
    if context.invoked_subcommand is not None:
        return
    with connected() as client:
        found = list(client.audit(limit=most, **conditions))
    if as_json:
        print_json({"audit": found})
        return
    from scns_conductor.cli.job_text import local_time
    from scns_conductor.cli.table import show_table

    header = ("时刻", "谁", "角色", "从哪里", "做了什么", "对什么", "之前", "之后")
    shown = [
        (local_time(one["at"]), one["actor"], one["role"], one["address"] or "-", one["action"], one["target"],
         _short(one["before"]), _short(one["after"]))
        for one in found
    ]  # fmt: skip
    show_table(header, shown, "没有审计")


def _short(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)


@audit.command()
@click.option("--file", "path", type=click.Path(path_type=Path), help="接在这个文件后面；已经有的不重")
@click.option("--syslog", metavar="ADDRESS", help="送给 syslog：/dev/log，或 主机[:端口]（UDP）；要写 --state")
@click.option("--state", type=click.Path(path_type=Path), help="送到了哪一条，记在这个文件里")
def export(path: Path | None, syslog: str | None, state: Path | None) -> None:
    """把还没有导出的各条，旧的在前，一行一个 JSON，写进文件或送给 syslog。

    可以放在 crontab、systemd 的 timer 里反复执行。
    """
    if (path is None) is (syslog is None) or (syslog is not None and state is None):
        raise click.UsageError("要么写 --file，要么写 --syslog 与 --state")
    with connected() as client:
        if path is not None:
            sent = _to_file(client, path)
        else:
            assert syslog is not None
            assert state is not None
            sent = _to_syslog(client, syslog, state)
    say(f"导出了 {sent} 条")


def _entries(client: "JsonClient", after: int) -> Iterator[dict[str, Any]]:
    while page := list(client.audit(after=after, limit=_PAGE)):
        yield from page
        after = page[-1]["audit_id"]


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _to_file(client: "JsonClient", path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b") as file:
            after, sent = _last_exported(file.read().rstrip(b"\n").rpartition(b"\n")[2], path), 0
            for sent, entry in enumerate(_entries(client, after), 1):  # noqa: B007 - 要最后的数
                file.write(f"{_line(entry)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise click.ClickException(f"写不了 {path}：{error.strerror}") from error
    return sent


def _last_exported(line: bytes, path: Path) -> int:
    if not line:
        return 0
    try:
        return int(json.loads(line)["audit_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} 的最后一行不是审计的 JSON；请另写一个文件") from error


def _to_syslog(client: "JsonClient", address: str, state: Path) -> int:
    import logging
    from logging.handlers import SysLogHandler

    class Handler(SysLogHandler):
        """送不到的要说，也不能记成送过了；标准库缺省把错误打印出来就算了。"""

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - 标准库的名字
            raise click.ClickException(f"送不到 syslog {address}：{sys.exc_info()[1]}；已送 {sent} 条")

    host, _, port = address.partition(":")
    try:
        after = int(state.read_text()) if state.exists() else 0
        place = address if address.startswith("/") else (host, int(port or _SYSLOG_PORT))
        handler = Handler(place, facility=SysLogHandler.LOG_AUTHPRIV)
    except ValueError as error:
        raise click.ClickException(f"{state} 或 {address} 写得不对：{error}") from error
    except OSError as error:
        raise click.ClickException(f"连不上 syslog {address}，或读不了 {state}：{error.strerror}") from error
    sent = 0
    for entry in _entries(client, after):
        text = f"scns-audit: {_line(entry)}"
        handler.emit(logging.LogRecord("scns.audit", logging.INFO, "", 0, text, None, None))
        sent += 1
        state.write_text(str(entry["audit_id"]))
    handler.close()
    return sent
