"""scns api：在本机运行 HTTP API，和一个调度领导者的候选；配了邮件、webhook 的，还有往外送的后台进程。"""

import os
import sys

import click


@click.command()
@click.option("--host", help="监听的地址，缺省 127.0.0.1（SCNS_API_HOST）；别的地址要求先设 SCNS_JWT_KEY_FILE")
@click.option("--port", type=click.IntRange(0, 65535), help="监听的端口，缺省 6820（SCNS_API_PORT）")
@click.option("--no-scheduler", is_flag=True, help="只运行 API，本机不参选调度领导者（SCNS_SCHEDULER_ENABLED=false）")
def api(host: str | None, port: int | None, no_scheduler: bool) -> None:
    """运行 HTTP API，本机并参选调度领导者；API 无状态，可运行任意多个，调度的领导者总只有一个。"""
    from scns_conductor.core.settings import load_settings

    given = {"SCNS_API_HOST": host, "SCNS_API_PORT": None if port is None else str(port)}
    environment = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    settings = load_settings()
    beside = [] if no_scheduler or settings.scheduler_enabled is False else ["scheduler"]
    if settings.background_needed:
        beside.append("background")
    if not beside:
        # 换成 API 自己的进程：信号直接到它，进程表里看得清。
        os.execve(sys.executable, [sys.executable, "-m", "scns_conductor.api"], environment)
    # 监督者在 local 里：换成它，不导入它。
    os.execve(sys.executable, [sys.executable, "-m", "scns_conductor.local.services", *beside, "api"], environment)
