"""作业在笔记本与终端里的样子：文字都转义，进度照实，不是终端就不画。"""

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib
import pytest
from rich.console import Console

from scns_conductor.client.answers import Job, JobAnswer, Node
from scns_conductor.client.gantt import gantt
from scns_conductor.client.html import jobs_html
from scns_conductor.client.live_display import bar_for, fraction_of, label_of, rich_table, table_for
from scns_conductor.language.choice import own_language

NOW = datetime(2026, 11, 29, 8, tzinfo=UTC)


def job(**known: Any) -> Job:
    start = None if known.get("state") == "PENDING" else (NOW - timedelta(minutes=5)).isoformat()
    return Job.from_json(
        {
            "job_id": "7", "name": "<b>坏", "state": "RUNNING", "reason": "None", "start_time": start, "end_time": None,
            "submit_time": (NOW - timedelta(minutes=9)).isoformat(), "time_limit": 1200, "array_job_id": None,
            "array_task_id": None, "array_remaining": None, **known,
        }
    )  # fmt: skip


def test_every_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    answer = {
        "job_id": "7", "state": "FAILED", "error_msg": evil, "time": {"submit_time": None, "start_time": None,
        "end_time": None, "elapsed_time": "0-00:00:01"}, "job_log": {"stdout": f"行\n{evil}", "stderr": None},
        "detail": {"job_name": evil, "node_list": evil, "exit_code": "1:0"},
    }  # fmt: skip
    shown = [
        job(name=evil, reason=evil, error_msg=evil, node_list=evil, state=evil)._repr_html_(),
        jobs_html([job(name=evil, reason=evil, state=evil, job_id=evil)]),
        JobAnswer.from_json(answer)._repr_html_(),
        Node.from_json({"name": evil, evil: evil})._repr_html_(),
    ]
    for html in shown:
        assert "<script" not in html
        assert "&lt;script" in html


def test_how_far_a_job_is() -> None:
    assert fraction_of(job(), NOW) == 0.25
    assert fraction_of(job(state="FAILED"), NOW) == 1.0
    assert fraction_of(job(time_limit=None), NOW) is None
    assert fraction_of(job(state="PENDING"), NOW) is None
    assert fraction_of(job(time_limit=60), NOW) == 1.0
    # 这里的钟慢了。
    assert fraction_of(job(), NOW - timedelta(hours=1)) == 0.0
    assert [label_of(each) for each in (job(array_job_id="5", array_task_id=3), job(array_remaining="4-9"))] == [
        "5_3",
        "7_[4-9]",
    ]


def test_the_table_in_a_terminal() -> None:
    stream = io.StringIO()
    jobs = [job(state="PENDING", reason="Priority"), job(state="COMPLETED"), job(name="[red]名字")]
    Console(file=stream, width=100).print(rich_table(jobs))
    shown = stream.getvalue()
    # 名字里的方括号不是 rich 的记号；在跑的在前。
    assert "[red]名字" in shown
    assert shown.index("RUNNING") < shown.index("Priority") < shown.index("COMPLETED")
    assert "1/3 · COMPLETED 1 · PENDING 1 · RUNNING 1" in shown


def test_without_a_terminal_only_changes_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    table = table_for()
    for state in ("PENDING", "PENDING", "COMPLETED"):
        table.show([job(state=state)])
    table.close()
    bar = bar_for(True, "提交", 3)
    bar.advance(2)
    bar.close()
    assert capsys.readouterr() == ("PENDING 1\nCOMPLETED 1\n", "提交 2/3\n")
    told: list[tuple[int, int | None]] = []
    bar = bar_for(lambda *words: told.append(words), "提交", None)
    bar.advance(2)
    bar.advance(1)
    assert told == [(2, None), (3, None)]


def test_english_users_read_english(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SCNS_LANG", "en")
    own_language.cache_clear()
    shown = job(name="n")._repr_html_() + jobs_html([job(name="n")])
    stream = io.StringIO()
    Console(file=stream, width=100).print(rich_table([job(name="n")]))
    bar_for(True, "提交", 3).close()
    own_language.cache_clear()
    shown += stream.getvalue() + capsys.readouterr().err
    assert not [letter for letter in shown if "\u4e00" <= letter <= "\u9fff"], shown


@pytest.fixture
def _no_screen() -> Iterator[None]:
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    matplotlib.use(before)


@pytest.mark.usefixtures("_no_screen")
def test_the_gantt_chart_has_a_row_for_each_job() -> None:
    never = job(job_id="8", state="CANCELLED", start_time=None, end_time=NOW.isoformat())
    axes = gantt([job(state="PENDING", job_id="9"), job(name="a"), never], now=NOW)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["9 <b>坏", "7 a", "8 <b>坏"]
    # 排队的各一段，开始了的再一段。
    assert len(axes.patches) == 4
    with pytest.raises(ValueError, match="没有作业"):
        gantt([])
    sys.modules["matplotlib.pyplot"].close("all")
