"""自带的一种开机、关机的程序：在本机起、停节点代理。试用、测试节能时用，一台机器演一个集群。

resume_program = "python3 -m scns_conductor.local.elastic_nodes resume --cpus 2 --memory 1G"
suspend_program = "python3 -m scns_conductor.local.elastic_nodes suspend"

设置（数据库、Valkey、数据目录）从环境来，与运行它的后台进程相同；节点的工作目录是
数据目录/spool/节点名。再运行一遍无妨。
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click

from scns_conductor.core.hostlist import expand
from scns_conductor.core.settings import load_settings

STOP_WAIT_S = 30.0


@click.group()
def main() -> None:
    """在本机起、停节点代理；NODES 可写成 n[1-3]。"""


@main.command()
@click.argument("nodes")
@click.option("--cpus", type=click.IntRange(1), help="各节点的 CPU 数，缺省为探测值")
@click.option("--memory", help="各节点的内存，如 4G，缺省为探测值")
def resume(nodes: str, cpus: int | None, memory: str | None) -> None:
    """起这些节点的代理；已经有的不动。"""
    declared = {"SCNS_NODE_CPUS": cpus, "SCNS_NODE_MEMORY": memory}
    extra = {name: str(value) for name, value in declared.items() if value is not None}
    for name in expand(nodes):
        data = load_settings().data_dir
        if _agent_of(data / "spool" / name) is not None:
            continue
        log = data / "log" / f"agent-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(log, "ab") as output:
            subprocess.Popen(
                [sys.executable, "-m", "scns_conductor.worker.agent.process"],
                env={**os.environ, **extra, "SCNS_NODE_NAME": name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


@main.command()
@click.argument("nodes")
def suspend(nodes: str) -> None:
    """停下这些节点的代理，等它们退出。"""
    left = stop_agents(load_settings().data_dir / "spool", expand(nodes))
    if left:
        raise click.ClickException(f"{'、'.join(left)} 的代理 {STOP_WAIT_S:g} 秒没有停下")


def stop_agents(spool: Path, names: Iterable[str]) -> list[str]:
    """请这些节点的代理结束作业、退出，至多等 STOP_WAIT_S 秒；返回还在的。spool 是各节点的工作目录所在。"""
    stopping = {name: pid for name in names if (pid := _agent_of(spool / name)) is not None}
    for pid in stopping.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + STOP_WAIT_S
    while (left := [name for name in stopping if _agent_of(spool / name) is not None]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _agent_of(folder: Path) -> int | None:
    """节点的代理的进程号；没有在跑的是 None。锁文件里的号要真是它：名字对得上才算。"""
    try:
        pid = int((folder / "agent.lock").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, ValueError):
        return None
    return None if ended or b"scns_conductor.worker.agent.process" not in words else pid


if __name__ == "__main__":
    main()
