"""examples/notebook.ipynb 在真的内核里、对着真的系统执行，核对它的输出。"""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from running_system import RunningSystem

PAGE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def outputs(running_system: RunningSystem) -> list[list[Any]]:
    """各段代码的输出。"""
    notebook = nbformat.read(PAGE, as_version=4)
    client = NotebookClient(notebook, timeout=150, resources={"metadata": {"path": str(running_system.data_dir)}})
    # 作业里的函数要找得到本系统；内核的环境就是执行者的。
    saved = dict(os.environ)
    os.environ.update(running_system.environment)
    try:
        client.execute()
    finally:
        os.environ.clear()
        os.environ.update(saved)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def html(outputs: list[Any]) -> str:
    return "".join(each["data"].get("text/html", "") for each in outputs if "data" in each)


def test_submitting_shows_a_progress_bar(outputs: list[list[Any]]) -> None:
    assert "提交" in html(outputs[0])
    assert "<progress" in html(outputs[0])


def test_watching_ends_with_every_job(outputs: list[list[Any]]) -> None:
    shown = html(outputs[1])
    assert shown.count("<table>") == 1, "原地更新，不是一张接一张"
    assert all(f"part-{n}" in shown for n in range(6))
    assert "COMPLETED 2 · FAILED 4" in shown
    assert "6/6" in shown


def test_a_job_shows_its_state_and_last_lines(outputs: list[list[Any]]) -> None:
    shown = html(outputs[2])
    assert "FAILED" in shown
    assert "第 1 份" in shown
    assert "1:0" in shown


def test_the_gantt_chart_is_a_picture(outputs: list[list[Any]]) -> None:
    assert any("image/png" in each.get("data", {}) for each in outputs[3])


def test_functions_run_as_jobs(outputs: list[list[Any]]) -> None:
    assert [each["data"]["text/plain"] for each in outputs[4] if "data" in each] == ["14"]
    assert "COMPLETED" in html(outputs[5])
