"""Slurm 的命令说英文：服务器的每个错误码、源码里用它说的每句话，打印出来没有中文，也不是光秃秃的码。"""

import ast
from collections import defaultdict
from pathlib import Path

from scns_conductor.client import Problem, Unreachable
from scns_conductor.client.problems import BY_CODE
from scns_conductor.language.catalogue import CHINESE
from scns_conductor.slurm.error_words import slurm_words
from scns_conductor.slurm.session import slurm_error

SOURCE = Path(__file__).parents[2] / "src" / "scns_conductor"


def _filled(node: ast.expr) -> str | None:
    """字面的一句话，空位里填 x1；不是字面的 None。"""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x1" for part in node.values)
    return None


def _said() -> dict[str, set[str]]:
    """错误码 -> 源码里与它写在一个调用里的话。"""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            words = [text for text in map(_filled, call.args) if text is not None]
            named = {each.arg: _filled(each.value) for each in call.keywords}
            code = named.get("code") or next((word for word in words if word in BY_CODE), None)
            if code in BY_CODE:
                found[str(code)] |= {text for text in [*words, named.get("detail") or ""] if CHINESE.search(text)}
    return found


def test_every_error_code_is_told_in_english_without_the_bare_code() -> None:
    said = _said()
    assert len(said) > 120, "源码里的写法变了，这个测试看不见了"
    for code in BY_CODE:
        for text in said[code] or {"说明"}:
            shown = slurm_error(Problem(422, code, f"job.x：{text}", errors=[{"field": "job.x", "message": text}]))
            if text == "说明" and slurm_words(code) is None:
                continue
            assert shown, code
            assert not CHINESE.search(shown), (code, shown)
            assert f"{code}:" not in shown, (code, shown)


def test_faults_of_the_connection_are_told_in_english() -> None:
    assert slurm_error(Unreachable("连不上")) == "Unable to contact slurm controller (connect failure)"
    problem = Problem(502, "http_error", "服务器回答 502 Bad Gateway", "Bad Gateway", request_id="r1")
    assert not CHINESE.search(slurm_error(problem))
