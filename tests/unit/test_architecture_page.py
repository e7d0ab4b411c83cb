"""docs/architecture.md 说的每个文件、每个函数都在那里：陌生人照着走不会落空。"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scns_conductor"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLACES = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)(?:::(\w+))?`", PAGE)))
ROOMS = sorted(set(re.findall(r"^\| `([a-z_/]+)/`", PAGE, re.MULTILINE)))


def test_the_page_names_places() -> None:
    assert len(PLACES) > 30
    assert len(ROOMS) > 10


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_every_place_is_where_the_page_says(file: str, name: str) -> None:
    if file.startswith("tests/"):
        assert (ROOT / file).is_file()
        return
    path = SOURCE / file
    assert path.is_file(), f"{file} 不在"
    if name:
        found = {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}
        assert name in found, f"{file} 里没有 {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_lives_in_it(room: str) -> None:
    module = ast.parse((SOURCE / room / "__init__.py").read_text())
    assert ast.get_docstring(module)


def test_every_folder_is_on_the_page() -> None:
    folders = {path.parent.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py") if path.parent != SOURCE}
    missing = {folder for folder in folders if f"`{folder}/" not in PAGE}
    assert not missing
