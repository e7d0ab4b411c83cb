"""按名字导入子命令的命令组：列出帮助也不导入它们，启动要快。"""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import click

from scns_conductor.cli.click_words import in_own_language
from scns_conductor.language import told

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Place(NamedTuple):
    """一个子命令在哪里；section 是它在帮助里的小节，summary 是那里的一行说明。"""

    section: str
    summary: str
    module: str
    attribute: str

    def load(self) -> click.Command:
        """导入并返回它。"""
        command = getattr(importlib.import_module(self.module), self.attribute)
        assert isinstance(command, click.Command)
        in_own_language(command)
        return command


def _use_config(_: click.Context, __: click.Parameter, given: str | None) -> None:
    # 子进程也要用同一个文件，它们的工作目录可能不同。
    named = given or os.environ.get("SCNS_CONFIG")
    if named:
        os.environ["SCNS_CONFIG"] = os.path.abspath(named)


config_option = click.option(
    "--config",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_use_config,
    help="设置文件（SCNS_CONFIG）；缺省是数据目录下的 config.toml 或 /etc/scns-conductor/config.toml",
)


class LazyGroup(click.Group):
    """子命令写在表里的命令组。"""

    places: ClassVar[Mapping[str, Place]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """全部子命令的名字，次序与表相同；模块还没有的不列。"""
        return [name for name, place in self.places.items() if importlib.util.find_spec(place.module) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """导入并返回一个子命令；没有这个名字则为 None。"""
        place = self.places.get(cmd_name)
        if place is None or importlib.util.find_spec(place.module) is None:
            return None
        return place.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """没有这个名字时，像哪个就说出来；click 自己只在已导入的命令里找。"""
        name = args[0]
        if name in self.list_commands(ctx) or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib

        from scns_conductor.slurm.entry import COMMANDS as SLURM_COMMANDS

        if name in SLURM_COMMANDS:
            ctx.fail(f"{name} 是 Slurm 的命令：写 scns-slurm {name}；想直接写 {name}，用 scns slurm install")
        near = difflib.get_close_matches(name, self.list_commands(ctx), n=3)
        ctx.fail(f"没有命令 {name}。" + (f"是不是 {'、'.join(near)}？" if near else ""))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """补全子命令与选项；子命令的说明取自表，不导入它们，按一下 Tab 才不会等。"""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        items = [CompletionItem(name, help=told(self.places[name].summary)) for name in names]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """按小节列出子命令，说明取自表，不导入它们。"""
        present = self.list_commands(ctx)
        sections = dict.fromkeys(self.places[name].section for name in present)
        for section in sections:
            rows = [(name, told(self.places[name].summary)) for name in present if self.places[name].section == section]
            with formatter.section(told(section).capitalize()):
                formatter.write_dl(rows)
