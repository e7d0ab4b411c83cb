"""scns logs：作业的输出。"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from scns_conductor.cli.connection import array_rows, connected, job_id_argument, json_option, print_json
from scns_conductor.cli.say import say

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient
    from scns_conductor.client.output_calls import Stream

# --tail 从文件末尾取这么多字节再数行。
TAIL_BYTES = 1024**2


@click.command()
@job_id_argument()
@click.option("-f", "--follow", is_flag=True, help="作业还在运行时一直跟着，到它结束为止")
@click.option("-e", "--stderr", "want_stderr", is_flag=True, help="标准错误；缺省是标准输出")
@click.option("-n", "--tail", "lines", type=click.IntRange(min=0), help="只要最后几行")
@json_option
def logs(job_id: str, follow: bool, want_stderr: bool, lines: int | None, as_json: bool) -> None:
    """打印作业的输出，原样的字节；没有另设 --error 时，标准错误在标准输出里。"""
    stream: Stream = "stderr" if want_stderr else "stdout"
    if follow and as_json:
        raise click.UsageError("--follow 与 --json 不能同用")
    with connected() as client:
        rows = array_rows(client, job_id)
        if rows:
            _each_task(client, rows, stream, lines, as_json=as_json, follow=follow)
            return
        if follow:
            _follow(client, job_id, stream, lines)
            return
        data = client.output(job_id, stream) if lines is None else last_lines(client, job_id, stream, lines)
    if as_json:
        print_json({"job_id": job_id, "stream": stream, "output": data.decode(errors="replace")})
    else:
        write_bytes(data)


def _each_task(
    client: "JsonClient",
    rows: Sequence[Mapping[str, Any]],
    stream: "Stream",
    lines: int | None,
    *,
    as_json: bool,
    follow: bool,
) -> None:
    """数组：各任务的输出依次打印，标准错误上一行说明是哪一个（同 tail(1) 看几个文件）；没有开始的略过。"""
    from scns_conductor.cli.job_text import job_label

    if follow:
        raise click.UsageError(f"--follow 一次只能跟一个任务，如 scns logs -f {job_label(rows[0])}")
    started = [job_label(row) for row in rows if row["start_time"] is not None and row["array_task_id"] is not None]
    found: dict[str, str] = {}
    for label in started:
        data = client.output(label, stream) if lines is None else last_lines(client, label, stream, lines)
        if as_json:
            found[label] = data.decode(errors="replace")
        else:
            click.echo(f"==> {label} <==", err=True)
            write_bytes(data)
    if as_json:
        print_json({"stream": stream, "tasks": found})
    elif not started:
        say("一个任务也还没有开始", err=True)


def write_bytes(data: bytes) -> None:
    """原样写到标准输出，立即可见。"""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def last_lines(client: "JsonClient", job_id: str, stream: "Stream", lines: int) -> bytes:
    """最后几行；每行再长，总共也只看最后 TAIL_BYTES 字节。"""
    if lines == 0:
        return b""
    return b"".join(client.output(job_id, stream, tail=TAIL_BYTES).splitlines(keepends=True)[-lines:])


def _follow(client: "JsonClient", job_id: str, stream: "Stream", lines: int | None) -> None:
    from scns_conductor.cli.job_output import follow_output

    offset = 0
    try:
        if lines is not None:
            # 先取全部再跟：已有的只显示最后几行，接着跟的部分从已取的末尾开始，不漏不重。
            data = client.output(job_id, stream)
            offset = len(data)
            write_bytes(b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b"")
        follow_output(client, job_id, stream, write_bytes, offset=offset)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
