"""squeue 的格式、时间与大小、脚本的核对。"""

from datetime import datetime, timedelta

import pytest

from scns_conductor.slurm.accounting.sacct_table import chosen_fields
from scns_conductor.slurm.parse.hosts import split_list
from scns_conductor.slurm.queue.queue_columns import LETTERS, NAMES
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.batch_file import checked_script
from scns_conductor.slurm.table.columns import fields, letters, table
from scns_conductor.slurm.table.times import memory, past_instant, short_duration

JOB = {
    "job_id": "12",
    "array_job_id": None,
    "array_task_id": None,
    "name": "a long job name",
    "state": "PENDING",
    "reason": "Resources",
    "partition": "main",
}


def squeue(form: str) -> list[str]:
    return table(letters("squeue", form, LETTERS), [JOB])


def test_unpadded_columns_have_no_blanks_around_them() -> None:
    assert squeue("%i|%j|%t") == ["JOBID|NAME|ST", "12|a long job name|PD"]


def test_literal_text_stays_in_header_and_rows() -> None:
    assert squeue('"%i","%t"') == ['"JOBID","ST"', '"12","PD"']


def test_width_pads_and_cuts_and_a_dot_aligns_right() -> None:
    assert squeue("%.6i %5j|") == [" JOBID NAME |", "    12 a lon|"]


def test_pending_reason_is_in_parentheses() -> None:
    assert squeue("%R %r")[1] == "(Resources) Resources"


def test_unknown_letter_is_refused() -> None:
    with pytest.raises(Fatal):
        squeue("%i %@ %b%?%1q%E%%s%s")


def test_long_format_has_default_width_of_twenty() -> None:
    assert table(fields("jobid,name:6", NAMES), [JOB])[1] == "12" + " " * 18 + "a long"


@pytest.mark.parametrize(
    ("form", "text"),
    [("Name:6,Name:-6,Name:.6", "a longa longa long"), ("Name:,State:9", "a long job namePENDING  "),
     ("Name:6|,State:3 ,State:x", "a long|PEN PENDINGx"), ("JobID:.5 ,Name:1", "   12 a")],
)  # fmt: skip
def test_a_colon_sets_the_width_and_what_follows_it_is_printed(form: str, text: str) -> None:
    assert table(fields(form, NAMES), [JOB], header=False) == [text]


def test_unknown_field_is_refused() -> None:
    with pytest.raises(Fatal):
        fields("jobid,nonsense", NAMES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "1-01:01:01"), (None, "UNLIMITED")],
)
def test_durations(seconds: int | None, text: str) -> None:
    assert short_duration(seconds) == text


@pytest.mark.parametrize(("megabytes", "text"), [(0, "0"), (512, "512M"), (16384, "16G"), (1500, "1500M"), (None, "0")])
def test_memory(megabytes: int | None, text: str) -> None:
    assert memory(megabytes) == text


def test_commas_in_brackets_do_not_separate() -> None:
    assert split_list("12,13_[1,3-5],14") == ["12", "13_[1,3-5]", "14"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Batch script is empty!"),
        (b" \n\t\n", "Batch script contains only whitespace!"),
        (b"echo hi\n", "This does not look like a batch script.  The first"),
        (b"\x7fELF\x00", "This does not look like a batch script.  The first"),
        (b"#!/bin/sh\n\0", "The Slurm controller does not allow scripts that"),
        (b"#!/bin/sh\r\necho\r\n", "Batch script contains DOS line breaks (\\r\\n)"),
    ],
)
def test_what_is_no_script_is_refused_in_slurms_words(data: bytes, message: str) -> None:
    with pytest.raises(Fatal) as found:
        checked_script(data)
    assert found.value.lines[0] == message


def test_sacct_fields_may_be_all_and_have_no_width() -> None:
    names = [field.name for field, _ in chosen_fields(["ALL"])]
    # 22.05 的 109 个，与之后的版本加的。
    newer = {"Licenses", "Planned", "PlannedCPU", "PlannedCPURAW", "QOSREQ", "Restarts", "StdErr", "StdIn", "StdOut"}
    assert len(set(names)) == len(names) == 109 + len(newer)
    assert newer <= set(names)
    assert [(field.name, width) for field, width in chosen_fields(["jobname%,state%-5,user%0"])] == [
        ("JobName", 0), ("State", -5), ("User", 0)
    ]  # fmt: skip


def test_a_bare_hour_of_accounting_is_today_and_never_tomorrow() -> None:
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    assert past_instant("midnight") == past_instant("00:00") == midnight.timestamp()
    assert past_instant("23:59") == (midnight + timedelta(hours=23, minutes=59)).timestamp()
