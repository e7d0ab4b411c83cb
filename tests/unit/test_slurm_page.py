"""docs/slurm-compat.md 里的选项表是真的：由解析用的表写出；说照办、收下的命令都收，说拒绝的都点名拒绝。"""

import ast
import importlib
import os
import re
import sys
from pathlib import Path

import pytest

from scns_conductor.language.catalogue import CHINESE
from scns_conductor.slurm import entry
from scns_conductor.slurm.entry import COMMANDS
from scns_conductor.slurm.parse.options import Option
from scns_conductor.slurm.session import run

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import slurm_page

# 选项之前、之后要写什么，命令才走到看选项的那一步。
BEFORE = {"sstat": ["-j1"], "sbcast": ["-j1"], "strigger": ["--set"]}
AFTER = {
    "sbatch": ["--wrap=true"], "srun": ["true"], "salloc": ["true"], "sattach": ["1.0"], "scancel": ["1"],
    "sbcast": ["here", "there"], "sgather": ["here", "there"], "sacctmgr": ["show", "qos"],
    "scontrol": ["show", "job"], "sreport": ["cluster", "utilization"], "seff": ["1"],
}  # fmt: skip
# 自己的退出码与话，Slurm 也是这样说的。
OWN_WORDS = {("sacct", "completion"): "Slurm job completion is disabled"}
NOT_KNOWN = ("unrecognized option", "invalid option", "is ambiguous")


@pytest.fixture(autouse=True)
def nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """没有系统可问：命令看完选项就停在连接上。"""
    for name in list(os.environ):
        if name.startswith(("SLURM", "SBATCH", "SCNS", "SRUN", "SALLOC")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SCNS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SCNS_TOKEN", "nobody")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    monkeypatch.setattr("scns_conductor.slurm.session._helped", [])
    monkeypatch.setattr("scns_conductor.slurm.session._used", [])


def given(option: Option) -> list[str]:
    """一个选项写一次；值是什么都行：写错了的话也是认得它。"""
    if option.takes == "none":
        return [f"--{option.long[0]}" if option.long else f"-{option.short}"]
    return [f"--{option.long[0]}=1"] if option.long else [f"-{option.short}", "1"]


def answer(command: str, option: Option, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    module = importlib.import_module(f"scns_conductor.slurm.{COMMANDS[command]}.{command}")
    words = [*BEFORE.get(command, []), *given(option), *AFTER.get(command, [])]
    try:
        code = run(command, module.main, words)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_does_what_its_row_says(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[str] = []
    for option in slurm_page.options_of(command):
        code, told = answer(command, option, capsys)
        # 服务器不答话、选项写错的话，也都是英文。
        if CHINESE.search(told):
            wrong.append(f"{option.key} 不是英文：{told!r}")
        name = f"--{option.long[0]}" if option.long else f"-{option.short}"
        if option.effect == "refused":
            words = OWN_WORDS.get((command, option.key), "is not supported by this system")
            if code == 0 or words not in told or (words not in OWN_WORDS.values() and name not in told):
                wrong.append(f"{name} 说是拒绝：{code} {told!r}")
        elif option.effect == "warned" and "has no effect" not in told and "Invalid" not in told:
            wrong.append(f"{name} 说是提醒：{code} {told!r}")
        elif any(word in told for word in (*NOT_KNOWN, f"{name} is not supported")):
            wrong.append(f"{name} 说是收下：{code} {told!r}")
    assert not wrong, "\n".join(wrong)


def test_every_option_not_obeyed_has_one_reason() -> None:
    """收下、提醒、拒绝的都写着为什么；没有用处的理由不留。"""
    used: set[str] = set()
    silent: list[str] = []
    for command in COMMANDS:
        effects: dict[str, set[str]] = {}
        for option in slurm_page.options_of(command):
            name = slurm_page.name_of(option)
            effects.setdefault(name, set()).add(option.effect)
            key = slurm_page.key_of(command, name)
            if option.effect == "works":
                continue
            if key is None:
                silent.append(f"{command} {name}")
            else:
                used.add(key)
        assert all(len(found) == 1 for found in effects.values()), (command, effects)
    assert not silent, f"没有写为什么不照办：{silent}"
    assert not set(slurm_page.REASONS) - used


# 选项是在哪些模块里看的；没有列的是命令自己的模块。
SEEN_IN = {
    "sbatch": ["submit"], "salloc": ["submit"], "srun": ["step", "submit"], "sbcast": ["step/broadcast.py"],
    "squeue": ["queue/queue_filter.py"], "sacct": ["accounting/sacct_selection.py", "accounting/sacct_table.py"],
    "sstat": ["accounting/sacct_table.py"],
    "sacctmgr": ["accounting/sacctmgr_changes.py", "accounting/sacctmgr_more.py", "accounting/sacctmgr_words.py"],
    "sreport": ["table/report_table.py"], "strigger": ["../core/node_events.py"],
    "scontrol": ["control/control_show.py", "control/control_jobs.py"],
}  # fmt: skip
# 每个命令都由同一处看的。
EVERYWHERE = {"help", "usage", "version", "verbose", "json", "yaml"}
_TABLES = {"flags", "values", "hints", "option", "refused", "warned"}


def words_in(path: Path) -> set[str]:
    """一个模块里的文字常量；选项的表里的不算。"""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TABLES:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_said_to_be_obeyed_is_looked_at(command: str) -> None:
    """说照办而没有一处看它的，就是悄悄忽略。"""
    room = Path(entry.__file__).parent
    places = [room / COMMANDS[command] / f"{command}.py", *(room / name for name in SEEN_IN.get(command, ()))]
    files = [file for place in places for file in (place.glob("*.py") if place.is_dir() else [place])]
    seen = set().union(*map(words_in, files)) | EVERYWHERE
    ignored = [
        slurm_page.name_of(option)
        for option in slurm_page.options_of(command)
        if option.effect == "works" and option.key not in seen
    ]
    assert not ignored, ignored


# scns import、scns slurm install 的：说使用者的语言。
NOT_OF_SLURM = ("moving/", "install.py")
HAN = re.compile("[\u3400-\u9fff]")


def test_no_command_has_a_word_of_chinese_of_its_own() -> None:
    """Slurm 的命令总说英文：源码里的文字，除了注释与文档字符串，没有中文。"""
    room = Path(entry.__file__).parent
    found: list[str] = []
    for file in sorted(room.rglob("*.py")):
        if str(file.relative_to(room)).startswith(NOT_OF_SLURM):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            # 文档字符串是单独的一句。
            own = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.Constant)]
            if isinstance(node, ast.Expr):
                continue
            found += [f"{file.name}: {each.value}" for each in own if HAN.search(str(each.value))]
    assert not found


def test_the_page_has_the_table_of_every_command() -> None:
    text = slurm_page.PAGE.read_text()
    assert slurm_page.rewritten(text) == text, "先 python scripts/slurm_page.py"
    assert sorted(slurm_page.commands_in(text)) == sorted(COMMANDS)
