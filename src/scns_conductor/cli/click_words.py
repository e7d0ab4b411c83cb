"""click 自带文字的中文，与命令的帮助的英文：帮助的标题、用法错误。

click 经 gettext 取文字，但那取决于使用者的 LANG 与已装的译文；这里只替换 click 各模块里的取字函数。
"""

import inspect
from types import ModuleType

import click

from scns_conductor.language import own_language, told

TEXTS = {
    "Usage:": "用法：",
    "Options": "选项",
    "Commands": "命令",
    "Positional arguments": "参数",
    "Error: {message}": "错误：{message}",
    "Aborted!": "已中断",
    "Try '{command} {option}' for help.": "用 {command} {option} 看帮助。",
    "Show this message and exit.": "显示这份帮助",
    "Show the version and exit.": "显示版本",
    "default: {default}": "缺省 {default}",
    "(dynamic)": "（动态）",
    "env var: {var}": "环境变量 {var}",
    "deprecated": "已废弃",
    "Missing command.": "缺少命令。",
    "Missing argument": "缺少参数",
    "Missing option": "缺少选项",
    "Missing parameter": "缺少参数",
    "Missing parameter: {param_name}": "缺少参数：{param_name}",
    "Missing {param_type}": "缺少 {param_type}",
    "Invalid value: {message}": "值不对：{message}",
    "Invalid value for {param_hint}: {message}": "{param_hint} 的值不对：{message}",
    "No such option {name!r}.": "没有选项 {name}。",
    "No such command {name!r}.": "没有命令 {name}。",
    "Did you mean {possibility}?": "是不是 {possibility}？",
    "(Did you mean one of: {possibilities}?)": "（是不是其中之一：{possibilities}？）",
    "Got unexpected extra argument ({args})": "多出了参数（{args}）",
    "Got unexpected extra arguments ({args})": "多出了参数（{args}）",
    "Option {name!r} does not take a value.": "选项 {name} 不带值。",
    "Option {name!r} requires an argument.": "选项 {name} 要带一个值。",
    "Option {name!r} requires {nargs} arguments.": "选项 {name} 要带 {nargs} 个值。",
    "Argument {name!r} takes {nargs} values.": "参数 {name} 要 {nargs} 个值。",
    "Could not open file {filename!r}: {message}": "打不开文件 {filename}：{message}",
    "unknown error": "原因不明",
    "Choose from:\n\t{choices}": "可选：\n\t{choices}",
    "{value!r} is not {choice}.": "{value} 不是 {choice}。",
    "{value!r} is not one of {choices}.": "{value} 不在 {choices} 之中。",
    "{value} is not in the range {range}.": "{value} 不在范围 {range} 内。",
    "{value!r} is not a valid {number_type}.": "{value} 不是 {number_type}。",
    "{name} {filename!r} is a file.": "{filename} 是文件。",
    "{name} {filename!r} is a directory.": "{filename} 是目录。",
    "{name} {filename!r} is not readable.": "{filename} 不可读。",
    "{name} {filename!r} is not writable.": "{filename} 不可写。",
    "{name} {filename!r} does not exist.": "{filename} 不存在。",
}


def translated(text: str) -> str:
    """一条文字的中文；没有译文的原样返回。"""
    return TEXTS.get(text, text)


def translated_plural(singular: str, plural: str, number: int) -> str:
    """单复数两种写法里取一种，再译。"""
    return translated(singular if number == 1 else plural)


def _modules() -> list[ModuleType]:
    names = ("core", "exceptions", "parser", "formatting", "types", "decorators", "termui")
    return [found for name in names if isinstance(found := getattr(click, name, None), ModuleType)]


def speak() -> None:
    """从此 click 说使用者的语言；要在定义命令之前调用，选项的说明在定义时就取好了。"""
    if own_language() == "zh":
        speak_chinese()
        return
    # click 自己的文字就是英文；错误里我们写的那一句要译。
    for kind in (click.ClickException, click.BadParameter, click.UsageError, click.exceptions.FileError):
        if "format_message" in vars(kind):
            _translate_message(kind)


def speak_chinese() -> None:
    """从此 click 说中文，不论环境（看板：一个进程对各人说各人的语言，由它自己译）。"""
    for module in _modules():
        for name, function in (("_", translated), ("ngettext", translated_plural)):
            if hasattr(module, name):
                setattr(module, name, function)


def _translate_message(kind: type[click.ClickException]) -> None:
    original = kind.format_message

    def format_message(error: click.ClickException) -> str:
        # 里面那句先译：它外面的英文（Invalid value for --time: …）里认不出来。
        vars(error)["message"] = told(error.message)
        return told(original(error))

    setattr(kind, "format_message", format_message)  # noqa: B010  类的方法，mypy 不许赋值


def in_own_language(command: click.Command) -> None:
    """一个命令的帮助换成使用者的语言；命令组连同已有的子命令。"""
    if own_language() == "zh":
        return
    for name in ("help", "short_help", "epilog", "deprecated", "options_metavar", "subcommand_metavar"):
        text = getattr(command, name, None)
        if isinstance(text, str):
            setattr(command, name, told(inspect.cleandoc(text)))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help:
            parameter.help = told(parameter.help)
        if parameter.metavar:
            parameter.metavar = told(parameter.metavar)
    for each in getattr(command, "commands", {}).values():
        in_own_language(each)
