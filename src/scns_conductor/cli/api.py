"""scns api：在本机运行 HTTP API。"""

import os
import sys

import click


@click.command()
@click.option("--host", help="监听的地址，缺省 127.0.0.1（SCNS_API_HOST）；别的地址要求先设 SCNS_JWT_KEY_FILE")
@click.option("--port", type=click.IntRange(0, 65535), help="监听的端口，缺省 6820（SCNS_API_PORT）")
def api(host: str | None, port: int | None) -> None:
    """运行 HTTP API；无状态，可运行任意多个。"""
    given = {"SCNS_API_HOST": host, "SCNS_API_PORT": None if port is None else str(port)}
    environment = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    # 换成 API 自己的进程：信号直接到它，进程表里看得清。
    os.execve(sys.executable, [sys.executable, "-m", "scns_conductor.api"], environment)
