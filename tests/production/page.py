"""docs/deployment.md 里要人照着敲的命令。"""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


def section(title: str) -> str:
    """一节的正文。"""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"页上没有「{title}」这一节"
    return found[1]


def commands(text: str, introduction: str) -> list[str]:
    """以 introduction 开头的那一段之后的代码块，一行一条。"""
    found = re.search(rf"^{re.escape(introduction)}.*?\n+```sh\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"页上没有「{introduction}」的命令"
    return [line for line in found[1].splitlines() if line.strip()]
