"""scns 命令的入口：子命令用到时才导入，启动要快。"""

import importlib
import sys

import click

# 子命令 -> (模块, 对象)。
COMMANDS: dict[str, tuple[str, str]] = {
    "db": ("scns_conductor.cli.db", "db"),
    "token": ("scns_conductor.cli.token", "token"),
    "worker": ("scns_conductor.cli.worker", "worker"),
}


class LazyGroup(click.Group):
    """按名字导入子命令的命令组。"""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """全部子命令的名字。"""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """导入并返回一个子命令；没有这个名字则为 None。"""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(place[0]), place[1])
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup)
@click.version_option(package_name="scns-conductor", message="%(version)s")
def scns() -> None:
    """SCNS-Conductor：作业调度系统。"""


def main() -> None:
    """错误只有一行，写在标准错误上；退出码非零。"""
    from scns_conductor.core.errors import ConductorError

    try:
        scns()
    except ConductorError as error:
        print(f"scns：{error}", file=sys.stderr)
        sys.exit(1)
