"""不变量 4：改 jobs.state 的每一条语句，WHERE 里的来处都由转移表推出；「占着资源的」只有一种写法。"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import scns_conductor

STATEMENTS = Path(scns_conductor.__file__).parent / "statements"
# SET 的各列里有 state（到 FROM、WHERE 为止）。
_CHANGES_STATE = re.compile(
    r"UPDATE jobs(?: AS j)? SET(?:(?!\bFROM\b|\bWHERE\b|\bUPDATE\b).)*?(?<![\w.])state\s*=", re.DOTALL
)
# 由转移表写出来处的。
_FROM_TABLE = ("leaving(", "sources_of(", "request_end(")
_LITERAL_PAIR = re.compile(r"""\bin\s*\(['"](PENDING['"],\s*['"])?RUNNING['"],\s*['"]SUSPENDED['"]\)""", re.IGNORECASE)


def _unguarded(source: str) -> Iterator[str]:
    """改了 state 而来处不是由转移表推出的：模块里的名字。"""
    tree = ast.parse(source)
    guarded: set[str] = set()
    for node in tree.body:
        text = ast.get_source_segment(source, node) or ""
        named = [node.name] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.Assign):
            named = [each.id for each in node.targets if isinstance(each, ast.Name)]
        uses = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        if any(word in text for word in _FROM_TABLE) or uses & guarded:
            guarded.update(named)
        elif _CHANGES_STATE.search(text):
            yield ", ".join(named)


@pytest.mark.parametrize("path", sorted(STATEMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_change_of_state_takes_its_sources_from_the_table(path: Path) -> None:
    assert not list(_unguarded(path.read_text()))


def test_the_check_sees_a_change_without_the_table() -> None:
    bare = 'END = text("""UPDATE jobs AS j SET end_time = now(), state = \'FAILED\' WHERE j.state = \'RUNNING\'""")'
    assert list(_unguarded(bare)) == ["END"]
    assert list(_unguarded("def end():\n    return 'UPDATE jobs SET state = 1 WHERE true'")) == ["end"]
    assert not list(_unguarded("END = text(f\"UPDATE jobs SET state = 'FAILED' WHERE state IN {leaving(A, to=B)}\")"))
    assert not list(_unguarded("READ = text(\"UPDATE jobs SET reason = 'x' WHERE state = 'PENDING'\")"))


@pytest.mark.parametrize("room", ["statements", "services", "worker", "scheduling", "api"])
def test_the_states_that_hold_resources_are_written_once(room: str) -> None:
    found = [
        str(path.relative_to(STATEMENTS.parent))
        for path in (STATEMENTS.parent / room).rglob("*.py")
        if path.name != "conditions.py" and _LITERAL_PAIR.search(path.read_text())
    ]
    assert not found
