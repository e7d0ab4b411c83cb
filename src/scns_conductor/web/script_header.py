"""脚本里的 #SBATCH 行 -> API 的字段；与 scns submit 用同一张表，写法与错误的说明也一样。"""

from functools import cache
from typing import Any

import click

from scns_conductor.cli.click_words import TEXTS, speak_chinese
from scns_conductor.cli.script_input import header_tokens
from scns_conductor.cli.submit_options import header_options, job_fields
from scns_conductor.language.catalogue import Catalogue, catalogue_with


def prepare() -> None:
    """进程开始时：click 的话从此是中文，给谁看再译。"""
    speak_chinese()


def header_fields(script: str, language: str) -> dict[str, Any]:
    """{"job": 字段} 或 {"error": 哪里写错了，用 language 说}。"""
    try:
        # 环境是浏览器那边没有的；其余与命令行提交相同。
        found = job_fields(header_options(header_tokens(script)), {})
    except click.UsageError as error:
        told = error.format_message()
        return {"error": _catalogue().translated(told) if language == "en" else told}
    return {"job": {name: value for name, value in found.items() if name != "environment" or value}}


@cache
def _catalogue() -> Catalogue:
    """译文，连同 click 自己的话：这个进程里它说中文（prepare）。"""
    return catalogue_with({chinese: english for english, chinese in TEXTS.items()})
