"""语句只在 statements 里：别的房间写了 SQL 就失败（谁可以导入谁由 .importlinter 管）。"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import scns_conductor

SOURCE = Path(scns_conductor.__file__).parent
# 新的房间不用写在这里；语句的家、数据表、迁移以外都看。
HOMES = (SOURCE / "statements", SOURCE / "core" / "models", SOURCE / "migrations")
ROOMS = sorted({path.parent for path in SOURCE.rglob("*.py")} - {*HOMES, SOURCE / "migrations" / "versions"})
# 碰到我们的表之前：会话的设置、库的版本，库与角色在不在。
BEFORE_TABLES = {
    "core/database.py", "core/schema_version.py", "local/postgres.py", "local/setup/engines.py", "local/setup/plan.py",
}  # fmt: skip
_SQL = re.compile(r"\s*\(?\s*(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|WITH|LOCK\s+TABLE|NOTIFY)\s")
_BUILDERS = {"text", "select", "insert", "update", "delete", "func", "exists", "column", "table", "literal_column"}


def _sql(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """写了 SQL 的行：以 SQL 的动词开头的文字，或 SQLAlchemy 造语句的函数（不论怎样导入）。"""
    modules: set[str] = set()
    functions: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(each.asname or each.name for each in node.names if each.name in ("sqlalchemy", "sqlmodel"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("sqlalchemy", "sqlmodel"):
            functions.update(each.asname or each.name for each in node.names if each.name in _BUILDERS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
            yield node.lineno, node.value.strip()[:40]
        elif isinstance(node, ast.Name) and node.id in functions:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and node.attr in _BUILDERS and ast.unparse(node.value) in modules:
            yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_no_sql_outside_statements(room: Path) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text}"
        for path in sorted(room.glob("*.py"))
        if str(path.relative_to(SOURCE)) not in BEFORE_TABLES
        for line, text in _sql(ast.parse(path.read_text()))
    ]
    assert not found, "SQL 要放进 statements/，起个名字：\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        'QUERY = "SELECT 1"',
        'QUERY = f"""\n  WITH ended AS ({x}) SELECT 1"""',
        'run("(select)", "(SELECT * FROM jobs)")',
        'run("UPDATE jobs SET state = 1")',
        'import sqlalchemy as sa\nsa.text("x")',
        "import sqlalchemy as sa\nnow = sa.func.now()",
        "from sqlalchemy import select as pick\npick(1)",
        "import sqlmodel\nsqlmodel.delete(Job)",
    ],
)
def test_the_check_sees_sql(source: str) -> None:
    assert list(_sql(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ['word = "UPDATED"', "import sqlalchemy as sa\ndef f(x: sa.TextClause) -> None: ...", "table.update(x)"]
)
def test_the_check_lets_other_text_pass(source: str) -> None:
    assert not list(_sql(ast.parse(source)))


def test_every_statement_has_a_sentence() -> None:
    """公开的语句：常量上面有一行 #，函数有文档字符串。"""
    bare = []
    for path in sorted((SOURCE / "statements").glob("*.py")):
        lines = path.read_text().splitlines()
        for node in ast.parse(path.read_text()).body:
            name, said = "_", True
            if isinstance(node, ast.FunctionDef):
                name, said = node.name, ast.get_docstring(node) is not None
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _holds_sql(node.value):
                name, said = ast.unparse(node.targets[0]), lines[node.lineno - 2].startswith("#")
            if not said and not name.startswith("_"):
                bare.append(f"{path.name}: {name}")
    assert not bare, f"缺一句话说明：{bare}"


def _holds_sql(tree: ast.AST) -> bool:
    return any(True for _ in _sql(tree)) or "request_end(" in ast.unparse(tree)


def test_no_name_stands_for_two_statements() -> None:
    """公开的语句各有各的名字。"""
    seen: dict[str, str] = {}
    twice = []
    for path in sorted((SOURCE / "statements").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                names = [each.id for each in node.targets if isinstance(each, ast.Name)]
            for name in names:
                if not name.startswith("_") and seen.setdefault(name, path.name) != path.name:
                    twice.append(f"{name}: {seen[name]}, {path.name}")
    assert not twice
