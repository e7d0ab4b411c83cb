"""什么时候发邮件、发给谁、标题写什么（sbatch(1) 的 --mail-type）。"""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scns_conductor.core.mail import parse_mail_types, parse_recipients
from scns_conductor.core.settings import Settings
from scns_conductor.worker.background.mail_text import clock, message_of, subject_of
from scns_conductor.worker.background.occasions import Change, due, ended_arrays

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def change(from_state: str | None, to_state: str, mail_type: str = "ALL", **more: Any) -> Change:
    """一次变化。"""
    values = {"job_id": 7, "restart_count": 0, "mail_user": None, "user_name": "ada", "array_job_id": None, **more}
    return Change(from_state=from_state, to_state=to_state, mail_type=mail_type, **values)


def occasions(*changes: Change, unfinished: tuple[int, ...] = (), failed: tuple[int, ...] = ()) -> list[str]:
    return [one.occasion for one in due(changes, unfinished, failed)]


@pytest.mark.parametrize(
    ("moved", "mail_type", "expected"),
    [
        (("PENDING", "RUNNING"), "BEGIN", ["BEGIN"]),
        (("PENDING", "RUNNING"), "END,FAIL", []),
        (("SUSPENDED", "RUNNING"), "ALL", []),
        (("RUNNING", "SUSPENDED"), "ALL", []),
        (("RUNNING", "COMPLETED"), "END", ["END"]),
        (("RUNNING", "COMPLETED"), "FAIL", []),
        (("RUNNING", "FAILED"), "FAIL", ["FAIL"]),
        (("RUNNING", "FAILED"), "END", ["END"]),
        (("RUNNING", "FAILED"), "ALL", ["FAIL"]),
        (("RUNNING", "TIMEOUT"), "TIME_LIMIT", ["TIME_LIMIT"]),
        (("RUNNING", "NODE_FAIL"), "fail", ["FAIL"]),
        (("PENDING", "CANCELLED"), "END", ["END"]),
        (("PENDING", "CANCELLED"), "FAIL", []),
        (("RUNNING", "PENDING"), "REQUEUE", ["REQUEUE"]),
        (("PENDING", "PENDING"), "INVALID_DEPEND", ["INVALID_DEPEND"]),
        (("PENDING", "PENDING"), "END", []),
        (("RUNNING", "COMPLETED"), "NONE", []),
    ],
)
def test_a_change_is_told_when_it_was_asked_for(moved: tuple[str, str], mail_type: str, expected: list[str]) -> None:
    assert occasions(change(*moved, mail_type)) == expected


def test_an_array_is_told_once_and_after_its_last_task() -> None:
    starts = [change(None, "RUNNING", job_id=job, array_job_id=7) for job in (8, 9)]
    ends = [change("RUNNING", state, job_id=job, array_job_id=7) for job, state in ((8, "FAILED"), (9, "COMPLETED"))]
    assert occasions(*starts) == ["BEGIN"]
    assert ended_arrays(ends) == [7]
    assert occasions(ends[0], unfinished=(7,), failed=(7,)) == []
    assert occasions(ends[1], failed=(7,)) == ["FAIL"]
    assert occasions(ends[1]) == ["END"]
    # 一项一封的写法：各说各的。
    tasks = [change("RUNNING", "COMPLETED", "END,ARRAY_TASKS", job_id=job, array_job_id=7) for job in (8, 9)]
    assert [one.job_id for one in due(tasks, (7,), ())] == [8, 9]


def test_words_and_recipients_are_checked() -> None:
    assert parse_mail_types("all") == parse_mail_types("BEGIN,END,FAIL,REQUEUE,INVALID_DEPEND,STAGE_OUT")
    with pytest.raises(ValueError, match="FINISH"):
        parse_mail_types("FINISH")
    assert parse_recipients("ada, bob@example.org") == ["ada", "bob@example.org"]
    for bad in ("", "a b", "a@b\nBcc: c@d", "a@b>", "a@-", ",", "x" * 80, ",".join(["a@b"] * 11)):
        with pytest.raises(ValueError, match="收件人"):
            parse_recipients(bad)


def row(**values: Any) -> Any:
    """statements.notifications.TO_SEND 的一行。"""
    known = {
        "notification_id": 3, "job_id": 7, "occasion": "END", "recipients": "ada", "attempts": 1, "name": "train",
        "created_at": BEGAN, "user_name": "ada", "account": None, "partition": "main", "state": "COMPLETED",
        "array_job_id": None, "array_task_id": None, "exit_status": 0, "exit_signal": 0, "error_msg": None,
        "submit_time": BEGAN, "start_time": BEGAN + timedelta(seconds=5), "end_time": BEGAN + timedelta(seconds=95),
        "suspended_s": 0, "time_limit": 3600, "node_list": "n1", "allocated_cpus": 4, "allocated_memory": 8192,
        "max_rss_kb": 102400, "cpu_user_s": 80.0, "cpu_system_s": 1.0, "standard_output": "slurm-%j.out",
        "mail_type": "ALL", "current_working_directory": "/home/ada", "now": BEGAN + timedelta(seconds=100),
    }  # fmt: skip
    return SimpleNamespace(**{**known, **values})


def test_subjects_are_slurms() -> None:
    assert subject_of(row()) == "Slurm Job_id=7 Name=train Ended, Run time 00:01:30, COMPLETED, ExitCode 0"
    failed = row(occasion="FAIL", state="FAILED", exit_status=0, exit_signal=9)
    assert subject_of(failed) == "Slurm Job_id=7 Name=train Failed, Run time 00:01:30, FAILED, Signal 9"
    assert subject_of(row(occasion="BEGIN")) == "Slurm Job_id=7 Name=train Began, Queued time 00:00:05"
    assert subject_of(row(occasion="TIME_LIMIT_80")).endswith(" Reached 80% of time limit")
    assert subject_of(row(array_job_id=6, array_task_id=2)).startswith("Slurm Array Task Job_id=6_2 (7) Name=train ")
    outcomes = [
        SimpleNamespace(state="COMPLETED", tasks=2, least=0, most=0),
        SimpleNamespace(state="FAILED", tasks=1, least=3, most=3),
    ]
    summary = "Slurm Array Summary Job_id=7_* (7) Name=train Failed, Mixed, ExitCode [0-3]"
    assert subject_of(row(occasion="FAIL"), outcomes) == summary
    assert clock(90061) == "1-01:01:01"


def test_the_body_says_what_was_used_in_the_chosen_language() -> None:
    message = message_of(row(), [], SENDER)
    text = message.get_content()
    assert message["To"] == "ada@example.org"
    assert "内存：100 MiB（要了 8192 MiB）" in text
    assert "下次：" in text
    english = message_of(row(), [], SENDER.model_copy(update={"mail_language": "en"})).get_content()
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english), english


@pytest.mark.parametrize("name", ["train", "n" * 60, "训练", "训" * 60])
def test_the_subject_line_begins_with_the_subject(name: str) -> None:
    """折了行的标题从一个空格开头，按标题的开头过滤的认不出它。"""
    sent = message_of(row(name=name, occasion="FAIL", state="OUT_OF_MEMORY"), [], SENDER).as_bytes()
    assert b"\r\nSubject: Slurm Job_id=7 " in b"\r\n" + sent
    assert max(map(len, sent.split(b"\r\n"))) <= 998


SENDER = Settings(mail_from="scns@cluster.example", mail_domain="example.org")


@example("a\x85Bcc: eve@evil.example", "b\u2028c\x1cd")
@given(st.text(min_size=1, max_size=80), st.text(max_size=80))
def test_no_name_or_message_forges_a_header(name: str, told: str) -> None:
    message = message_of(row(name=name, error_msg=told), [], SENDER)
    raw = message.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    assert sorted(set(names)) == sorted(names)
    assert {name.lower() for name in names} <= {
        b"subject", b"from", b"to", b"date", b"message-id", b"auto-submitted", b"x-scns-cluster", b"x-scns-job-id",
        b"content-type", b"content-transfer-encoding", b"mime-version",
    }  # fmt: skip
