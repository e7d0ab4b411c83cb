"""sacct 文本与本系统历史的读取。"""

import json
from pathlib import Path

import pytest

from scns_conductor.simulator.history import read_history, read_sacct
from scns_conductor.simulator.session import read_trace, recognise
from scns_conductor.simulator.trace import TraceUnreadable

SACCT = (Path(__file__).parent.parent / "data" / "sacct.txt").read_text(encoding="utf-8")


@pytest.fixture
def sacct(tmp_path):
    path = tmp_path / "sacct.txt"
    path.write_text(SACCT)
    return path


def test_sacct_jobs_that_ran_to_an_end_are_kept(sacct):
    trace = read_sacct(sacct)
    first, second = trace.records
    assert (first.job_id, first.user, first.wait_s, first.run_s, first.requested_s) == ("100", "ann", 300, 3600, 7200)
    assert (first.requested_cpus, first.nodes, first.memory_mb, first.gpus) == (8, 2, 16384, 2)
    assert (second.job_id, second.run_s, second.requested_s, second.memory_mb) == ("101_3", 10, -1, 500)
    assert first.submit_s - second.submit_s == -1


def test_sacct_rows_that_are_no_finished_job_are_counted(sacct):
    trace = read_sacct(sacct)
    assert trace.ignored == {"ignored_steps": 1, "ignored_not_finished": 2, "ignored_never_started": 1}
    assert [bad.line for bad in trace.bad_lines] == [8, 9]
    assert "someday" in trace.bad_lines[0].reason


def test_sacct_without_the_needed_columns_says_which(tmp_path):
    path = tmp_path / "sacct.txt"
    path.write_text("JobID|User|\n1|ann|\n")
    with pytest.raises(TraceUnreadable, match="State、Submit"):
        read_sacct(path)


def flat_job(**changes):
    job = {
        "job_id": 5,
        "state": "COMPLETED",
        "user_name": "ann",
        "account": None,
        "submit_time": "2026-11-24T08:00:00+08:00",
        "start_time": "2026-11-24T08:00:30+08:00",
        "end_time": "2026-11-24T08:10:30+08:00",
        "time_limit": 900,
        "allocated_cpus": 4,
        "allocated_nodes": 1,
        "allocated_memory": 2048,
        "allocated_gres": "gpu:a100=2",
    }
    return job | changes


def test_own_history_flat_rows_and_pages_one_after_another(tmp_path):
    path = tmp_path / "jobs.json"
    pages = [{"jobs": [flat_job()], "next_cursor": "x"}, {"jobs": [flat_job(job_id=6, state="RUNNING", end_time=None)]}]
    path.write_text("\n".join(json.dumps(page) for page in pages))
    trace = read_history(path)
    (record,) = trace.records
    assert (record.job_id, record.wait_s, record.run_s, record.requested_s) == ("5", 30, 600, 900)
    assert (record.requested_cpus, record.memory_mb, record.gpus, record.user) == (4, 2048, 2, "ann")
    assert trace.ignored == {"ignored_not_finished": 1}


def test_own_history_in_the_nested_form_of_the_query_endpoint(tmp_path):
    path = tmp_path / "job.json"
    times = {
        "submit_time": "2026-11-24T00:00:00Z",
        "start_time": "2026-11-24T00:00:10Z",
        "end_time": "2026-11-24T00:01:10Z",
        "limit_time": "0-00:05:00",
    }
    path.write_text(
        json.dumps({"job_id": "9", "state": "FAILED", "time": times, "detail": {"allocated_cpus": 2, "user": "bob"}})
    )
    (record,) = read_history(path).records
    assert (record.job_id, record.run_s, record.requested_s, record.requested_cpus, record.user) == (
        "9",
        60,
        300,
        2,
        "bob",
    )


def test_own_history_as_csv(tmp_path):
    path = tmp_path / "jobs.csv"
    job = flat_job(account="lab")
    path.write_text(",".join(job) + "\n" + ",".join(map(str, job.values())) + "\n")
    (record,) = read_history(path).records
    assert (record.job_id, record.run_s, record.requested_s, record.account) == ("5", 600, 900, "lab")


def test_history_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "jobs.json"
    path.write_text('{"jobs": [')
    with pytest.raises(TraceUnreadable, match="JSON"):
        read_history(path)


def test_rows_that_are_no_objects_or_lack_a_submit_time_are_reported(tmp_path):
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"jobs": [7, flat_job(submit_time=None), flat_job()]}))
    trace = read_history(path)
    assert len(trace.records) == 1
    assert [bad.line for bad in trace.bad_lines] == [1, 2]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("; Version: 2\n", "swf"),
        ("; a | b\n", "swf"),
        ("1 2 3\n", "swf"),
        ("JobID|State|\n", "sacct"),
        ('\n{"jobs": []}', "history"),
        ("job_id,state\n", "history"),
    ],
)
def test_the_format_is_recognised_by_the_first_line(tmp_path, content, form):
    path = tmp_path / "trace"
    path.write_text(content)
    assert recognise(path) == form


def test_an_empty_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "trace"
    path.write_text("")
    with pytest.raises(TraceUnreadable, match="空的"):
        read_trace(path)
    with pytest.raises(TraceUnreadable, match="无法读取"):
        read_trace(tmp_path / "missing")
