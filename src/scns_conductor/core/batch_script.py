"""批处理脚本头部的 #SBATCH、#SCNS 行，以及几种选项值的解释（sbatch(1)）。

scns submit 与 sbatch 共用；只用标准库，写法有误一律抛 ValueError（中文原因）。
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from scns_conductor.core.text import is_text

MARKS = ("#SBATCH", "#SCNS")
DEFAULT_SIGNAL_DELAY_S = 60
_SIGNAL = re.compile(r"^(?:([RB]+):)?([A-Za-z0-9]+)(?:@(\d+))?$")


class UnmatchedQuote(ValueError):
    """某一行的引号不配对。"""

    def __init__(self, number: int, line: str) -> None:
        super().__init__(f"脚本第 {number} 行的引号不配对：{line}")
        self.number, self.line = number, line


def without_comment(text: str) -> str:
    """去掉空白之后、引号之外的 # 起的注释。"""
    quote = ""
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#" and (index == 0 or text[index - 1].isspace()):
            return text[:index]
    return text


def header_tokens(script: str) -> list[str]:
    """#SBATCH、#SCNS 行里的选项词。"""
    return directive_tokens(script, MARKS)


def directive_tokens(script: str, marks: tuple[str, ...]) -> list[str]:
    """以 marks 之一开头的行里的选项词，先后相连；第一个可执行的行之后不再看。引号不配对抛 ValueError。"""
    tokens: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("#"):
            break
        mark = next((each for each in marks if line.startswith(each)), None)
        if mark is None:
            continue
        try:
            tokens += shlex.split(without_comment(line[len(mark) :]))
        except ValueError as error:
            raise UnmatchedQuote(number, line.strip()) from error
    return tokens


def gpu_fields(given: Mapping[str, Any]) -> dict[str, str]:
    """GPU 的几个选项（gpus、gpus_per_task、gpus_per_node、gres）换成 TRES 的写法。"""
    fields: dict[str, str] = {}
    if given.get("gpus"):
        fields["tres_per_job"] = f"gres/gpu:{given['gpus']}"
    if given.get("gpus_per_task"):
        fields["tres_per_task"] = f"gres/gpu:{given['gpus_per_task']}"
    per_node = [f"gres/gpu:{given['gpus_per_node']}"] if given.get("gpus_per_node") else []
    per_node += [given["gres"]] if given.get("gres") and given["gres"].lower() != "none" else []
    if per_node:
        fields["tres_per_node"] = ",".join(per_node)
    return fields


def warning_signal(text: str) -> dict[str, Any]:
    """--signal 的 [B:]信号[@秒] 换成 API 的三个字段。"""
    match = _SIGNAL.match(text)
    if match is None:
        raise ValueError(f"无法识别 {text!r}；例如 USR1@120、B:USR2@30")
    return {
        "kill_warning_signal": match[2].upper().removeprefix("SIG"),
        "kill_warning_delay": int(match[3]) if match[3] else DEFAULT_SIGNAL_DELAY_S,
        "kill_warning_batch_only": "B" in (match[1] or ""),
    }


def exported(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """--export 选中的环境变量。SLURM_、SCNS_ 开头的不带：前者属于提交者所在的作业，后者有令牌。"""
    chosen: dict[str, str] = {}
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if equals:
            chosen[name] = value
        elif name.upper() == "ALL":
            own = {key: item for key, item in environment.items() if not key.startswith(("SLURM_", "SCNS_", "SBATCH_"))}
            chosen = {**own, **chosen}
        elif name and name.upper() not in ("NONE", "NIL") and name in environment:
            chosen[name] = environment[name]
    return {name: value for name, value in chosen.items() if is_text(name) and is_text(value)}


def not_exported(text: str, environment: Mapping[str, str]) -> list[str]:
    """exported 选中而带不走的变量：名字或值不是 UTF-8（如旧区域设置的路径），写不进 JSON。要告诉用户，不能悄悄没了。"""
    words = [word.strip() for word in text.split(",")]
    every = any(word.upper() == "ALL" for word in words)
    return sorted(
        name
        for name, value in environment.items()
        if not (is_text(name) and is_text(value))
        and (name in words or (every and not name.startswith(("SLURM_", "SCNS_", "SBATCH_"))))
    )
