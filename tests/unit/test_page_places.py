"""文档里写的每个文件、目录、函数都在那里：陌生人照着走不会落空。"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scns_conductor"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
# `a/b.py`、`b.py`、`a/b.py::Name.method`、`a/b.py` 的 `NAME`
_FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.py)(?:::([\w.]+))?`(?: ?的 ?`(\w+))?")
_FOLDER = re.compile(r"`((?:[a-z_]+/)+)`")
# 别的文件（`docs/openapi.json`、`deploy/nginx`），与一类文件（`test_node_faults*.py`）。
_OTHER = re.compile(r"`((?:[\w.*-]+/)+[\w.*-]+|[\w-]+\*[\w*-]*\.py)`")
_LINK = re.compile(r"\]\(([^)\s:#]+)(?:#[^)\s]*)?\)")
# 写给人照着起名字的样子。
_SAMPLE = re.compile(r"[^\x00-\x7f]")


def _files() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for room in ("src", "tests", "scripts", "benchmarks", "examples"):
        for path in (ROOT / room).rglob("*.py"):
            found.setdefault(path.name, []).append(path)
    return found


FILES = _files()


def _candidates(text: str) -> list[Path]:
    """文档里的写法指的文件：从仓库、包或 tests 起，末几段相同的也算。"""
    parts = tuple(text.split("/"))
    return [path for path in FILES.get(parts[-1], ()) if path.parts[-len(parts) :] == parts]


def _names(path: Path) -> set[str]:
    """模块里的名字：顶层的，与类里的。"""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(each.id for each in node.targets if isinstance(each, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def _wrong(text: str) -> Iterator[str]:
    for file, inside, owned in _FILE.findall(text):
        if _SAMPLE.search(file):
            continue
        places = _candidates(file)
        if not places:
            yield f"没有文件 {file}"
        for name in (inside or owned).split("."):
            if name and not any(name in _names(path) for path in places):
                yield f"{file} 里没有 {name}"
    for folder in _FOLDER.findall(text):
        if not any((base / folder).is_dir() for base in (ROOT, SOURCE, ROOT / "tests", SOURCE / "worker")):
            yield f"没有目录 {folder}"
    for path in _OTHER.findall(text):
        if path.endswith(".py") and "*" not in path:
            continue
        bases = [ROOT, SOURCE, SOURCE / "language", ROOT / "tests"]
        if "/" not in path:
            bases = [ROOT / "tests" / "integration", ROOT / "tests" / "unit"]
        elif not any((base / path.split("/")[0]).is_dir() for base in bases):
            # 不是仓库里的：数据目录里的、Slurm 的选项与资源。
            continue
        if not any(list(base.glob(path)) for base in bases):
            yield f"没有 {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_place_on_the_page_is_there(page: Path) -> None:
    text = page.read_text()
    assert not list(_wrong(text))
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_pages_name_places(name: str) -> None:
    """认得出写法：不是因为一处也没有认出来才没有错。"""
    text = (ROOT / name).read_text()
    assert len(_FILE.findall(text)) > 30
    assert len(_LINK.findall(text)) > 2


@pytest.mark.parametrize(
    "text",
    [
        "`worker/agent/nothing.py`",
        "`nothing.py`",
        "`core/states.py::NOTHING`",
        "`core/states.py` 的 `NOTHING`",
        "`worker/nothing/`",
        "`docs/nothing.json`",
        "`tests/data/nothing*.zip`",
        "`test_nothing*.py`",
    ],
)
def test_the_check_sees_what_is_not_there(text: str) -> None:
    assert list(_wrong(text))


@pytest.mark.parametrize(
    "text",
    [
        "`core/states.py::TRANSITIONS`",
        "`core/states.py` 的 `TRANSITIONS`",
        "`worker/scheduler/memory.py::QueueMemory.refresh`",
        "`cli/名字.py`",
        "`tests/unit/`",
        "`docs/openapi.json`",
        "`locale/en/LC_MESSAGES/scns_conductor.po`",
        "`test_node_faults*.py`",
        "`spool/dead-letters.jsonl`",
    ],
)
def test_the_check_lets_real_places_pass(text: str) -> None:
    assert not list(_wrong(text))


def _told_tests(text: str) -> Iterator[str]:
    """「测试」一栏（表的最后一栏）里写的每一处；栏名里写着文件的（「测试（`…/test_x.py`）」），是那里面的。"""
    listed, file = False, ""
    for line in text.splitlines():
        if not line.startswith("|"):
            listed = False
        elif not listed:
            title = re.search(r"\| 测试(?:（`tests/(\w+)/test_(\w+)\.py`）)? \|$", line)
            listed = title is not None
            file = f"{title[1]}/{title[2]}::" if title is not None and title[1] else ""
        elif not line.startswith("|---"):
            told = line.rstrip().removesuffix("|").rpartition("|")[2].strip()
            if not file:
                yield told
            elif told.startswith("`") and ".py" not in told:
                yield f"{file}{told.strip('`')}"


def _wrong_tests(cell: str) -> Iterator[str]:
    """「文件::测试名里的几个字, 同一个文件里的另一个」；文件在 tests/integration 下，别的写上目录。"""
    current: Path | None = None
    for word in re.split(r"[,，;；、]\s*", cell):
        file, _, part = word.strip().strip("`").partition("::")
        room, _, name = (file if "/" in file else f"integration/{file}").partition("/")
        place = ROOT / "tests" / room / f"test_{name}.py"
        if place.is_file():
            current = place
        elif (ROOT / file).is_file() or file in ("", "同上"):
            continue
        elif part or current is None:
            yield f"没有测试文件 {file}"
            continue
        else:
            part = file
        functions = [name for name in _names(current) if name.startswith("test_")] if current is not None else []
        if part and not any(all(piece in each for piece in part.split("…")) for each in functions):
            yield f"{current} 里没有 {part}"


@pytest.mark.parametrize(("name", "least"), [("failures.md", 20), ("security.md", 20), ("decisions/0011-relay.md", 6)])
def test_every_test_of_a_table_is_there(name: str, least: int) -> None:
    cells = list(_told_tests((ROOT / "docs" / name).read_text()))
    assert len(cells) > least
    assert [wrong for cell in cells for wrong in _wrong_tests(cell)] == []


def test_the_check_of_tables_sees_what_is_not_there() -> None:
    assert list(_wrong_tests("nothing_at_all::this"))
    assert list(_wrong_tests("restore::half_a_database, not_in_there"))
    assert not list(_wrong_tests("restore::half_a_database, a_message_of_another, backup"))
