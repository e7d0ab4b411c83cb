"""scns up 与 scns down：在本机启动、停止整个系统。"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scns_conductor.cli.command_group import config_option

if TYPE_CHECKING:
    from scns_conductor.local.system import UpOptions


DATA_DIR_HELP = "数据目录，缺省 /var/lib/scns-conductor（root）或 ~/.local/share/scns-conductor"


def _data_dir(given: Path | None) -> Path:
    from scns_conductor.core.settings import load_settings

    if given is not None:
        # 设置文件也在那里找；子进程同样。
        os.environ["SCNS_DATA_DIR"] = os.path.abspath(given)
    return load_settings().data_dir


@click.command(short_help="在本机启动整个系统（数据库、消息队列、API、调度器、节点）")
@click.option("--data-dir", type=click.Path(path_type=Path), help=DATA_DIR_HELP + "；环境变量 SCNS_DATA_DIR")
@click.option("--host", help="API 监听的地址，缺省 127.0.0.1；别的地址要求先设 SCNS_JWT_KEY_FILE")
@click.option("--port", type=click.IntRange(0, 65535), help="API 监听的端口；缺省 6820，被占用就用它之后空闲的；0 任选")
@click.option("--ready-file", type=click.Path(path_type=Path), help="就绪后写入 {url, token, pid} 的文件（0600）")
@click.option("--nodes", type=click.IntRange(1, 1000), help="节点个数，依次叫 node1、node2……；缺省一个，以主机命名")
@click.option("--cpus", type=click.IntRange(1, 65536), help="每个节点声明的 CPU 数，可以多于真有的")
@click.option("--memory", help="每个节点声明的内存，如 64G")
@click.option("--gpus", type=click.IntRange(min=0), help="每个节点声明的 GPU 数")
@click.option("--web/--no-web", default=None, help="要不要网页看板；缺省是装了附加组件 web 就要")
@click.option("--keep-jobs", is_flag=True, help="停止时留着运行中的作业，下次启动时接上")
@click.option(
    "--external-database",
    is_flag=True,
    help="用 SCNS_DATABASE_URL 指的 PostgreSQL，不起内嵌的；结构由这里升级",
)
@click.option("--in-background", is_flag=True, hidden=True)
@click.option("-d", "--detach", is_flag=True, help="在后台运行，就绪后返回；用 scns down 停止")
def up(
    data_dir: Path | None,
    host: str | None,
    port: int | None,
    ready_file: Path | None,
    nodes: int | None,
    cpus: int | None,
    memory: str | None,
    gpus: int | None,
    web: bool | None,
    keep_jobs: bool,
    external_database: bool,
    in_background: bool,
    detach: bool,
) -> None:
    """在本机启动整个系统：内嵌的 PostgreSQL 与 Valkey、API、调度器、一个或多个节点。

    不需要 root，也不需要任何配置；Ctrl-C 或 scns down 停止，数据都留着，下次启动接着用。
    """
    from scns_conductor.core.errors import ConductorError
    from scns_conductor.core.settings import load_settings
    from scns_conductor.core.units import parse_memory_mb
    from scns_conductor.local.system import UpOptions
    from scns_conductor.local.up import run_detached, run_up
    from scns_conductor.local.web_command import web_installed

    if web and not web_installed():
        raise click.ClickException("没有装看板要的库；请执行 pip install 'scns-conductor[web]'")
    try:
        chosen_dir = _data_dir(data_dir)
        settings = load_settings()
        if memory is not None:
            parse_memory_mb(memory)
        options = UpOptions(
            data_dir=chosen_dir,
            host=host if host is not None else settings.api_host,
            port=port,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            nodes=nodes,
            keep_jobs=keep_jobs,
            web=web_installed() if web is None else web,
            external_database=external_database,
        )
        if detach:
            raise SystemExit(run_detached(_arguments(options, ready_file), options.data_dir, ready_file))
        raise SystemExit(run_up(options, ready_file, in_background=in_background))
    except (ConductorError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _arguments(options: "UpOptions", ready_file: Path | None) -> list[str]:
    """后台进程的选项，与前台的相同。"""
    given = {
        "--data-dir": options.data_dir.absolute(),
        "--host": options.host,
        "--port": options.port,
        "--ready-file": ready_file.absolute() if ready_file else None,
        "--nodes": options.nodes,
        "--cpus": options.cpus,
        "--memory": options.memory,
        "--gpus": options.gpus,
    }
    pairs = [(name, str(value)) for name, value in given.items() if value is not None]
    flags = ["--web" if options.web else "--no-web"]
    flags += ["--keep-jobs"] if options.keep_jobs else []
    flags += ["--external-database"] if options.external_database else []
    return [part for pair in pairs for part in pair] + flags


@click.command(short_help="停止本机的系统")
@click.option("--data-dir", type=click.Path(path_type=Path), help=DATA_DIR_HELP)
def down(data_dir: Path | None) -> None:
    """停止本机的系统，等它全部停完。"""
    from scns_conductor.core.errors import ConductorError
    from scns_conductor.local.up import run_down

    try:
        raise SystemExit(run_down(_data_dir(data_dir)))
    except ConductorError as error:
        raise click.ClickException(str(error)) from error


@click.group()
@config_option
def local() -> None:
    """本机的系统。"""


local.add_command(up)
local.add_command(down)
