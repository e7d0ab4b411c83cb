"""笔记本里的样子：一个作业、一列作业、进度条、别的回答。全部文字都转义。"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from scns_conductor.client.job_states import TERMINAL_STATES
from scns_conductor.client.live_display import ROWS_MOST, counts, elapsed_text, fraction_of, label_of, ordered
from scns_conductor.language import told

if TYPE_CHECKING:
    from scns_conductor.client.answer import Answer
    from scns_conductor.client.answers import Job, JobAnswer

# 输出只给末尾这么多行。
LINES_MOST = 20
_COLOURS = {"COMPLETED": "#2a9d6f", "RUNNING": "#2f6fbb", "PENDING": "#8a8f98", "SUSPENDED": "#e09f3e"}
_BAD_COLOUR = "#d1495b"


def answer_html(answer: "Answer") -> str:
    """任何一个回答。"""
    kind = type(answer).__name__
    if kind == "Job":
        return job_html(answer)  # type: ignore[arg-type]
    if kind == "JobAnswer":
        return query_html(answer)  # type: ignore[arg-type]
    return _card(kind, [(name, value) for name, value in answer.json.items() if value not in (None, [], {}, "")])


def job_html(job: "Job") -> str:
    """状态、时刻、原因。fields 没有取的不写。"""
    names = {
        "提交": "submit_time",
        "开始": "start_time",
        "预计开始": "expected_start_time",
        "结束": "end_time",
        "节点": "node_list",
        "退出码": "exit_code",
        "说明": "error_msg",
    }
    rows: list[tuple[str, Any]] = [("状态", _state(job))]
    if getattr(job, "reason", "None") not in ("None", None, ""):
        rows.append(("原因", job.reason))
    rows += [(title, value) for title, name in names.items() if (value := getattr(job, name, None)) not in (None, "")]
    name = getattr(job, "name", "")
    return _card(f"{told('作业')} {job.job_id} {name}".strip(), rows)


def query_html(answer: "JobAnswer") -> str:
    """状态、时刻、原因，与输出的末尾。"""
    detail, times = answer.detail, answer.time
    rows: list[tuple[str, Any]] = [("状态", _state(answer))]
    rows += [
        (title, value)
        for title, value in (
            ("说明", answer.error_msg),
            ("提交", _instant(times.submit_time)),
            ("开始", _instant(times.start_time)),
            ("结束", _instant(times.end_time)),
            ("用时", times.elapsed_time),
            ("节点", detail.node_list),
            ("退出码", detail.exit_code),
        )
        if value not in (None, "")
    ]
    lines = "".join(lines_html(text) for text in (answer.job_log.stdout, answer.job_log.stderr) if text)
    return _card(f"{told('作业')} {answer.job_id} {detail.job_name}", rows) + lines


def lines_html(text: str) -> str:
    """输出的末尾。"""
    last = "\n".join(text.rstrip("\n").split("\n")[-LINES_MOST:])
    return f"<pre style='max-height:20em;overflow:auto'>{escape(last)}</pre>" if last else ""


def jobs_html(jobs: "Sequence[Job]") -> str:
    """一张表：在跑的在前，各有一条走了时限几成的进度条；下面是合计。"""
    now = datetime.now(UTC)
    ended = sum(job.state in TERMINAL_STATES for job in jobs)
    rows = []
    for job in ordered(jobs)[:ROWS_MOST]:
        fraction = fraction_of(job, now)
        bar = "" if fraction is None else f"<progress value='{fraction:.3f}' max='1'></progress>"
        reason = "" if job.reason == "None" else job.reason
        words = [escape(label_of(job)), escape(job.name), _state(job), escape(reason), elapsed_text(job, now), bar]
        rows.append("<tr>" + "".join(f"<td>{word}</td>" for word in words) + "</tr>")
    head = "".join(f"<th>{told(title)}</th>" for title in ("作业", "名字", "状态", "原因", "用时", "时限"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>" + bar_html(counts(jobs), ended, len(jobs))


def bar_html(title: str, done: int, total: int | None) -> str:
    """进度条；不知道总数的来回走。"""
    how = "" if total is None else f" value='{done}' max='{max(1, total)}'"
    return f"<div>{escape(told(title))} <progress{how}></progress> {done}{'' if total is None else f'/{total}'}</div>"


def _state(job: Any) -> "_Html":
    colour = _COLOURS.get(job.state, _BAD_COLOUR)
    return _Html(f"<b style='color:{colour}'>{escape(job.state)}</b>")


class _Html(str):
    """已经是 HTML 的。"""


def _card(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(told(name))}</th>"
        f"<td style='text-align:left'>{value if isinstance(value, _Html) else escape(_text(value))}</td></tr>"
        for name, value in rows
    )
    return f"<table><caption style='text-align:left'><b>{escape(title)}</b></caption>{cells}</table>"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _instant(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
