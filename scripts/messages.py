"""更新英文的译文目录：从源码取出给人看的中文，合进 PO 文件（make messages）。

取的是：含中文的字符串与 f-string（空位依次写成 {0}、{1}……，注释里是原来的式子）；命令、接口与模型的文档字符串
（它们就是 --help 与 OpenAPI 里的说明）。不取注释、其余的文档字符串。已有的译文留着，源码里没有了的删去。
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from scns_conductor.language.catalogue import CHINESE, PO_FILE

PACKAGE = Path(__file__).parents[1] / "src" / "scns_conductor"
PO = PACKAGE / "language" / PO_FILE
# 这些里的中文不是给人看的话，或本身就是 click 文字的中文。
SKIPPED = {"cli/click_words.py", "language/catalogue.py"}
# 文档字符串也给人看的地方。
SHOWN_DOCSTRINGS = ("api/", "slurmrestd/", "core/answers", "core/models", "core/runtime_settings", "cli/", "local/")
HEADER = "# SCNS-Conductor 给人看的话：中文是原文，英文是译文。由 make messages 更新。"
# 写进配置文件与脚本的注释、正则表达式，不是对使用者说的话。
FILE_CONTENT = re.compile(r"^#|（scns setup 写的）|\[，；）\]")
SQL = re.compile(r"\b(SELECT|UPDATE|INSERT INTO)\b.*\n", re.DOTALL)
CHAIN = re.compile(r"(?:[\w.]+\s*\|\|\s*)?'[^']*'(?:\s*\|\|\s*(?:'[^']*'|[\w.]+))*")
PO_HEADER = 'msgid ""\nmsgstr "Language: en\\nContent-Type: text/plain; charset=utf-8\\n"'
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def messages(path: Path, name: str) -> Iterator[tuple[int, str, list[str]]]:
    """一个文件里的（行号，原文，各空位的式子）。"""
    tree = ast.parse(path.read_text("utf-8"))
    passed: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, Documented):
            # 文档字符串，与写在字段下面的说明。
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    passed.add(id(statement.value))
            text = ast.get_docstring(node)
            if text and CHINESE.search(text) and _is_shown(node, name):
                yield node.lineno, text, []
        elif isinstance(node, ast.JoinedStr):
            passed.update(id(value) for value in node.values)
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            text, places = template(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text, places = node.value, []
        else:
            continue
        if not CHINESE.search(text) or FILE_CONTENT.search(text):
            continue
        if SQL.search(text):
            yield from ((node.lineno, said, []) for said in said_by_sql(text))
        else:
            yield node.lineno, text, places
            if name.startswith("core/models/"):
                # 接口的说明由字段的含义换上自己的写法得来（api/derived.py）：括号前后的各是一段。
                pieces = (piece.strip("；") for piece in re.split("（[^）]*）", text))
                yield from ((node.lineno, piece, []) for piece in pieces if piece != text and CHINESE.search(piece))


def said_by_sql(statement: str) -> Iterator[str]:
    """一条语句里写进数据库的话：引号里的中文，|| 接着的列是空位；注释不算。"""
    for chain in CHAIN.finditer(re.sub(r"--.*", "", statement)):
        text, places = "", 0
        for piece in chain[0].split("||"):
            literal = piece.strip()
            if literal.startswith("'"):
                text += literal[1:-1]
            else:
                text += f"{{{places}}}"
                places += 1
        if CHINESE.search(text):
            yield text


def _is_shown(node: Documented, name: str) -> bool:
    if isinstance(node, ast.Module) or not name.startswith(SHOWN_DOCSTRINGS):
        return False
    if isinstance(node, ast.ClassDef) and name.startswith("core/answers"):
        # 进了接口的说明的，字段都写着含义。
        return any(isinstance(each, ast.AnnAssign) and "Annotated[" in ast.unparse(each) for each in node.body)
    if isinstance(node, ast.ClassDef):
        return bool(node.bases) and name.startswith(("api/", "slurmrestd/", "core/models", "core/runtime_settings"))
    return any("router." in (text := ast.unparse(each)) or "command" in text or "group" in text
               for each in node.decorator_list)  # fmt: skip


def template(node: ast.JoinedStr) -> tuple[str, list[str]]:
    """f-string 的原文与各空位的式子。"""
    text, places = "", []
    for value in node.values:
        if isinstance(value, ast.Constant):
            text += str(value.value).replace("{", "{{").replace("}", "}}")
        else:
            assert isinstance(value, ast.FormattedValue)
            text += f"{{{len(places)}}}"
            places.append(ast.unparse(value.value))
    return text, places


def extracted() -> Catalog:
    """源码里现有的全部。"""
    catalog = Catalog(locale="en", header_comment=HEADER, fuzzy=False)
    for path in [*sorted(PACKAGE.rglob("*.py")), Path(__file__).with_name("health_check.py")]:
        name = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else Path(__file__).parents[1]).as_posix()
        if name in SKIPPED or name.startswith("migrations/versions/"):
            continue
        for _, text, places in messages(path, name):
            comments = [f"{index}: {place}" for index, place in enumerate(places)]
            catalog.add(text, None, [(name, None)], auto_comments=comments)
    return catalog


def known() -> Catalog:
    """目录里现有的。"""
    with PO.open("rb") as file:
        return read_po(file, locale="en")


def updated() -> Catalog:
    """现有的原文，已有的译文。"""
    wanted, before = extracted(), known()
    for message in wanted:
        found = before.get(message.id) if message.id else None
        if found is not None:
            message.string = found.string
    return wanted


def write(catalog: Catalog) -> None:
    """写出目录。"""
    with PO.open("wb") as file:
        file.write(f"{HEADER}\n{PO_HEADER}\n\n".encode())
        # 没有时刻与作者的头：同样的源码写出同样的文件。
        write_po(file, catalog, width=110, sort_by_file=True, omit_header=True, include_lineno=False)


def main() -> None:
    """写出目录，说还有几条没有译文。"""
    catalog = updated()
    write(catalog)
    missing = [message.id for message in catalog if message.id and not message.string]
    print(f"共 {len(catalog)} 条，{len(missing)} 条没有译文：{PO}")
    for text in missing[:20]:
        print("  ", text)
    sys.exit(bool(missing))


if __name__ == "__main__":
    main()
