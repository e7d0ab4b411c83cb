"""scns 命令的入口：子命令用到时才导入，启动要快。"""

import sys

import click

from scns_conductor.cli.click_words import in_own_language, speak

speak()

from scns_conductor.cli.command_group import LazyGroup, Place, config_option  # noqa: E402
from scns_conductor.core.text import is_text, output_written, tolerant_streams  # noqa: E402
from scns_conductor.language import told  # noqa: E402

JOBS, CLUSTER, SERVER, TOOLS = "作业", "集群", "系统", "工具"
_CLI = "scns_conductor.cli."
# 要启动进程、碰数据库的命令在组合根里；这里只写名字，用到才导入。
_LOCAL = "scns_conductor.local."

COMMANDS: dict[str, Place] = {
    "submit": Place(JOBS, "提交脚本（文件或标准输入）", _CLI + "submit", "submit"),
    "jobs": Place(JOBS, "列出作业", _CLI + "jobs", "jobs"),
    "top": Place(JOBS, "终端里一直是新的队列与节点", _CLI + "top", "top"),
    "show": Place(JOBS, "显示作业的一切", _CLI + "show", "show"),
    "logs": Place(JOBS, "显示作业的输出，-f 跟随", _CLI + "logs", "logs"),
    "ssh": Place(JOBS, "到运行中的作业里开一个 shell", _CLI + "ssh", "ssh"),
    "why": Place(JOBS, "作业为什么还没有开始，预计何时开始", _CLI + "why", "why"),
    "efficiency": Place(JOBS, "作业要了多少、用了多少，下次怎样要", _CLI + "efficiency", "efficiency"),
    "report": Place(CLUSTER, "用量的报告：谁用了多少，谁白占了多少", _CLI + "report", "report"),
    "cancel": Place(JOBS, "取消作业，或给它发信号", _CLI + "control", "cancel"),
    "hold": Place(JOBS, "保留作业：排队但不启动", _CLI + "control", "hold"),
    "release": Place(JOBS, "放行被保留的作业", _CLI + "control", "release"),
    "requeue": Place(JOBS, "重新排队", _CLI + "control", "requeue"),
    "suspend": Place(JOBS, "挂起运行中的作业", _CLI + "control", "suspend"),
    "resume": Place(JOBS, "恢复挂起的作业", _CLI + "control", "resume"),
    "update": Place(JOBS, "修改作业", _CLI + "update", "update"),
    "notifications": Place(JOBS, "作业的邮件发了没有", _CLI + "notifications", "notifications"),
    "webhooks": Place(JOBS, "出了事就往一个地址说：订阅、送了没有、重送", _CLI + "webhooks", "webhooks"),
    "nodes": Place(CLUSTER, "列出节点；排空、恢复、下线、重启、开关机", _CLI + "nodes", "nodes"),
    "node": Place(CLUSTER, "声明、删除节点", _CLI + "nodes", "node"),
    "login": Place(CLUSTER, "登录：换一个令牌，存起来", _CLI + "login", "login"),
    "logout": Place(CLUSTER, "放下令牌", _CLI + "login", "logout"),
    "whoami": Place(CLUSTER, "系统当我是谁，令牌何时到期", _CLI + "login", "whoami"),
    "partitions": Place(CLUSTER, "列出、新建、修改、删除分区", _CLI + "partitions", "partitions"),
    "apply": Place(CLUSTER, "照 cluster.yaml 改集群，先看差别", _CLI + "apply", "apply"),
    "export": Place(CLUSTER, "此刻的 cluster.yaml", _CLI + "apply", "export"),
    "import": Place(CLUSTER, "从 Slurm 搬来：写出 cluster.yaml", _CLI + "import_slurm", "import_group"),
    "health": Place(CLUSTER, "系统是否就绪", _CLI + "health", "health"),
    "up": Place(SERVER, "在本机启动整个系统", _LOCAL + "up_command", "up"),
    "down": Place(SERVER, "停止本机的系统", _LOCAL + "up_command", "down"),
    "api": Place(SERVER, "运行 HTTP API", _CLI + "api", "api"),
    "web": Place(SERVER, "运行网页看板；--link 打印登录链接", _LOCAL + "web_command", "web"),
    "worker": Place(SERVER, "运行节点代理", _LOCAL + "worker_command", "worker"),
    "db": Place(SERVER, "数据库：升级、降级、版本，备份与恢复", _LOCAL + "database_command", "db"),
    "setup": Place(SERVER, "把一台机器准备好：用户、目录、数据库、设置、服务", _LOCAL + "setup_command", "setup"),
    "token": Place(SERVER, "签发、列出、作废访问令牌；换密钥", _CLI + "token", "token"),
    "audit": Place(CLUSTER, "谁、何时、从哪里做了什么；导出", _CLI + "audit", "audit"),
    "config": Place(SERVER, "现行的设置与它们的来源", _CLI + "config", "config"),
    "slurm": Place(TOOLS, "安装 Slurm 的命令（sbatch、squeue 等）", _CLI + "slurm", "slurm"),
    "simulate": Place(TOOLS, "用虚拟时钟重放作业踪迹，比较策略", _CLI + "simulate", "simulate"),
    "completion": Place(TOOLS, "打印 bash、zsh、fish 的补全脚本", _CLI + "completion", "completion"),
}


class Commands(LazyGroup):
    """scns 的全部子命令。"""

    places = COMMANDS


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from scns_conductor import __version__

        click.echo(__version__)
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="显示版本")
@config_option
def scns() -> None:
    """SCNS-Conductor：作业调度系统。

    系统的地址与令牌取自 SCNS_URL 与 SCNS_TOKEN；
    否则取自 SCNS_DATA_DIR 或缺省数据目录下的 client.json（scns up 写下的）、scns login 存下的；
    没有令牌而本机有 API 的套接字，就用它，是谁由内核说。
    """


def main() -> None:
    """错误只有一行，写在标准错误上；退出码 1，用法错误是 2。"""
    from scns_conductor.client.problem import ClientError
    from scns_conductor.core.errors import ConductorError

    tolerant_streams()
    in_own_language(scns)
    broken = next((word for word in sys.argv[1:] if not is_text(word)), None)
    if broken is not None:
        # 参数要写进 JSON；与其处处防着，不如在门口说清楚。
        print(told(f"scns：参数 {broken!r} 不是 UTF-8；请用 UTF-8 的名字"), file=sys.stderr)
        sys.exit(2)
    try:
        with output_written(lambda why: told(f"scns：写不下标准输出：{why}")):
            scns()
    except (ClientError, ConductorError) as error:
        print(told(f"scns：{error}"), file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "scns_conductor").partition(".")[0] == "scns_conductor":
            raise
        # 只装了客户端。
        hint = "pip install 'scns-conductor[server]'"
        print(told(f"scns：没有装 {error.name}；这条命令要服务器的部分：{hint}"), file=sys.stderr)
        sys.exit(1)
