"""命令行的文字：表、作业的一行、设置的遮掩、赋值。"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.cli.config import mask_url
from scns_conductor.cli.field_values import parse_assignments
from scns_conductor.cli.job_text import LIST_HEADER, elapsed_text, field_pairs, job_label, list_row, local_time
from scns_conductor.cli.job_wait import exit_code_of
from scns_conductor.cli.table import printable, render, render_fields, width

NOW = datetime(2026, 11, 24, 9, 0, 0, tzinfo=UTC)


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=5))
def test_columns_line_up(rows: list[tuple[str, str]]) -> None:
    lines = render(("名字", "x"), rows).split("\n")
    assert len(lines) == len(rows) + 1
    start = max(width(printable(row[0])) for row in [("名字", ""), *rows]) + 2
    for line, row in zip(lines[1:], rows, strict=True):
        shown = printable(row[0])
        assert line.startswith(shown.rstrip()) or not shown.rstrip()
        assert width(line) <= start + width(printable(row[1]))


def test_a_name_cannot_upset_the_terminal() -> None:
    assert "\x1b" not in render(("a",), [("\x1b[31m红\n",)])
    assert render(("a",), [("x\ny",)]).count("\n") == 1
    assert render_fields([("名字", "一\n二"), ("b", "")]) == "名字  一\n      二\nb"


def job(**values: Any) -> dict[str, Any]:
    return {
        "job_id": "7",
        "name": "train",
        "user_name": "alice",
        "partition": "main",
        "state": "PENDING",
        "reason": "Resources",
        "tasks": 2,
        "cpus_per_task": 4,
        "minimum_nodes": 1,
        "time_limit": 5400,
        **values,
    }


def test_a_pending_job_shows_what_it_asks_for_and_why_it_waits() -> None:
    row = dict(zip(LIST_HEADER, list_row(job(), NOW), strict=True))
    assert (row["CPU"], row["用时"], row["时限"], row["节点（原因）"]) == ("8", "00:00:00", "01:30:00", "(Resources)")


def test_a_running_job_shows_what_it_got() -> None:
    values = {"state": "RUNNING", "start_time": "2026-11-24T08:00:00+00:00", "suspended_s": 60}
    got = {"allocated_cpus": 16, "allocated_nodes": 2, "node_list": "n[1-2]"}
    row = dict(zip(LIST_HEADER, list_row(job(**values, **got), NOW), strict=True))
    assert (row["CPU"], row["节点数"], row["用时"], row["节点（原因）"]) == ("16", "2", "00:59:00", "n[1-2]")


def test_elapsed_stops_at_the_end_and_while_suspended() -> None:
    start = "2026-11-24T08:00:00Z"
    assert elapsed_text(job(start_time=start, end_time="2026-11-24T08:00:05Z"), NOW) == "00:00:05"
    assert (
        elapsed_text(job(state="SUSPENDED", start_time=start, suspend_time="2026-11-24T08:10:00Z"), NOW) == "00:10:00"
    )


def test_array_tasks_are_labelled_as_slurm_does() -> None:
    assert job_label(job()) == "7"
    assert job_label(job(array_job_id=7, array_task_id=3)) == "7_3"
    assert job_label(job(array_job_id=7, array_remaining="4-9")) == "7_[4-9]"


def test_instants_are_shown_in_the_local_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert local_time("2026-11-24T00:00:00Z") == "2026-11-24 08:00:00"
        assert local_time(None) == "-"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_only_fields_with_a_value_are_shown() -> None:
    pairs = dict(
        field_pairs(job(comment=None, exclusive=False, memory_per_node=2048, 新的="值"), skip=frozenset({"name"}))
    )
    assert "备注" not in pairs
    assert "名字" not in pairs
    assert (pairs["独占"], pairs["每节点内存"], pairs["新的"]) == ("否", "2G", "值")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@h/d", "postgresql://u:******@h/d"),
        ("postgresql://u@h/d?host=/s&password=x%20y&a=1", "postgresql://u@h/d?host=/s&password=******&a=1"),
        ("redis://:pw@h:1/0", "redis://:******@h:1/0"),
        ("postgresql:///scns", "postgresql:///scns"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_assignments() -> None:
    assert parse_assignments(["time-limit=1-0", "comment=", "name=a=b"]) == {
        "time_limit": "1-0",
        "comment": None,
        "name": "a=b",
    }
    for bad in ("x", "=1"):
        with pytest.raises(click.UsageError):
            parse_assignments([bad])


@pytest.mark.parametrize(
    ("state", "exit_code", "code"),
    [
        ("COMPLETED", "0:0", 0),
        ("FAILED", "3:0", 3),
        ("FAILED", "0:9", 137),
        ("CANCELLED", None, 1),
        ("TIMEOUT", "0:0", 1),
        ("NODE_FAIL", "0:0", 1),
    ],
)
def test_the_exit_code_of_a_wait_is_that_of_the_job(state: str, exit_code: str | None, code: int) -> None:
    assert exit_code_of(state, exit_code) == code


@pytest.mark.parametrize(
    "program",
    [
        "from scns_conductor.slurm.entry import main; main(['squeue', '--help'])",
        "from scns_conductor.slurm.entry import main; main(['sinfo', '--version'])",
        "import sys; sys.argv = ['scns', 'config']; from scns_conductor.cli.main import main; main()",
    ],
)
@pytest.mark.parametrize(
    ("streams", "code"), [(">/dev/full", 1), (">&-", 0), (">&- 2>&-", 0), ("<&-", 0), ("| head -c 1 >/dev/null", 0)]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_no_traceback(
    program: str, streams: str, code: int, unbuffered: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {streams}', sys.executable, program],
        env={**os.environ, "SCNS_DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": unbuffered},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done
    # 写不下的说一句；别的什么也不说。
    assert len(done.stderr.splitlines()) == code, done.stderr
