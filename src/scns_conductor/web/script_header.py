"""脚本里的 #SBATCH 行 -> API 的字段；与 scns submit 用同一张表，写法与错误的说明也一样。"""

from typing import Any

import click

from scns_conductor.cli.script_input import header_tokens
from scns_conductor.cli.submit_options import header_options, job_fields


def header_fields(script: str) -> dict[str, Any]:
    """{"job": 字段} 或 {"error": 哪里写错了}。"""
    try:
        # 环境是浏览器那边没有的；其余与命令行提交相同。
        found = job_fields(header_options(header_tokens(script)), {})
    except click.UsageError as error:
        return {"error": error.format_message()}
    return {"job": {name: value for name, value in found.items() if name != "environment" or value}}
