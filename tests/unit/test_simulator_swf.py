"""SWF 的读取与清洗：坏行跳过、计数、说明；清洗的每条规则各有一例。"""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.simulator.swf import parse_swf, read_swf
from scns_conductor.simulator.trace import TraceUnreadable
from scns_conductor.simulator.workload import cap_time_limit, clean, first_jobs, recorded_machine, scale_load

DATA = Path(__file__).parent.parent / "data"


def line(job=1, submit=0, wait=-1, run=60, allocated=4, requested=-1, requested_s=-1, user=7):
    """一行 SWF。"""
    return f"{job} {submit} {wait} {run} {allocated} -1 -1 {requested} {requested_s} -1 1 {user} 3 -1 -1 -1 -1 -1"


def cleaned(*lines: str, max_cpus: int = 100):
    return clean(parse_swf(lines), max_cpus)


def test_reads_the_header_and_every_job_of_a_real_log():
    trace = read_swf(DATA / "kth-sp2-cut.swf")
    assert trace.header["Computer"] == "IBM SP2"
    assert trace.max_procs == 100
    assert len(trace.records) == 1500
    assert trace.bad_line_count == 0


def test_machine_size_falls_back_to_max_nodes_and_ignores_remarks():
    assert parse_swf(["; MaxNodes: 338 (batch partition; 512 total)"]).max_procs == 338
    assert parse_swf(["; MaxNodes: 338", "; MaxProcs: 676"]).max_procs == 676
    assert parse_swf(["; Computer: none"]).max_procs == 0


def test_gzip_is_recognised_by_content_not_by_name(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_bytes(gzip.compress(f"; MaxProcs: 8\n{line()}\n".encode()))
    assert len(read_swf(path).records) == 1


def test_bad_lines_are_skipped_counted_and_explained():
    trace = parse_swf(
        [line(), "1 2 3", line(job=2).replace("60", "sixty"), line(run="nan"), line(run="1e400"), line(job=3)]
    )
    assert [record.job_id for record in trace.records] == ["1", "3"]
    assert trace.bad_line_count == 4
    assert [bad.line for bad in trace.bad_lines] == [2, 3, 4, 5]
    assert "应有 18 个字段，实有 3 个" in trace.bad_lines[0].reason
    assert "sixty" in trace.bad_lines[1].reason


def test_only_the_first_bad_lines_are_kept_but_all_are_counted():
    trace = parse_swf(["broken"] * 1000)
    assert trace.bad_line_count == 1000
    assert len(trace.bad_lines) == 20


@given(st.text(max_size=200))
def test_no_line_whatever_raises(text):
    trace = parse_swf(text.split("\n"))
    assert trace.bad_line_count + len(trace.records) <= text.count("\n") + 1


def test_a_file_without_a_job_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "broken.swf"
    path.write_text("; MaxProcs: 8\nnot a job\n")
    with pytest.raises(TraceUnreadable, match="第 2 行"):
        read_swf(path)


def test_a_truncated_gzip_file_is_refused(tmp_path):
    path = tmp_path / "cut.swf.gz"
    path.write_bytes(gzip.compress((line() + "\n").encode() * 5000)[:200])
    with pytest.raises(TraceUnreadable, match="gzip"):
        read_swf(path)


def test_processors_are_the_requested_else_the_allocated_capped_at_the_machine():
    jobs = cleaned(line(1, allocated=4, requested=2), line(2, allocated=4), line(3, requested=500), max_cpus=100)
    assert [job.cpus for job in jobs.jobs] == [2, 4, 100]
    assert jobs.notes["capped_to_machine"] == 1


def test_run_time_is_cut_at_the_request_and_the_estimate_is_never_below_it():
    jobs = cleaned(line(1, run=100, requested_s=60), line(2, run=100, requested_s=600), line(3, run=100)).jobs
    assert [(job.run_s, job.limit_s) for job in jobs] == [(60, 60), (100, 600), (100, 100)]


def test_jobs_that_cannot_be_replayed_are_dropped_and_counted():
    workload = cleaned(
        line(1),
        line(2, run=0),
        line(3, run=-1),
        line(4, allocated=-1),
        line(5, submit=-5),
    )
    assert [job.job_id for job in workload.jobs] == ["1"]
    assert workload.notes == {"dropped_no_run_time": 2, "dropped_no_processors": 1, "dropped_negative_submit": 1}


def test_jobs_out_of_order_are_sorted_stably_and_said():
    workload = cleaned(line(1, submit=50), line(2, submit=10), line(3, submit=50))
    assert [job.job_id for job in workload.jobs] == ["2", "1", "3"]
    assert workload.notes["reordered_by_submit"] == 1


def test_duplicate_ids_keep_both_jobs():
    workload = cleaned(line(1), line(1, submit=3))
    assert [job.job_id for job in workload.jobs] == ["1", "1#2"]


def test_nothing_left_is_an_error():
    with pytest.raises(TraceUnreadable, match="没有剩下作业"):
        cleaned(line(run=-1))


def test_what_if_variants():
    workload = cleaned(line(1, submit=100, run=7200, requested_s=90000), line(2, submit=300, run=60, requested_s=120))
    capped = cap_time_limit(workload, 3600)
    assert [(job.run_s, job.limit_s) for job in capped.jobs] == [(3600, 3600), (60, 120)]
    assert capped.notes["killed_at_capped_limit"] == 1
    assert [job.submit_s for job in scale_load(workload, 2.0, origin_s=100).jobs] == [100, 200]
    assert [job.job_id for job in first_jobs(workload, 1).jobs] == ["1"]


def test_recorded_machine_is_at_least_the_recorded_peak():
    trace = parse_swf([line(1, wait=0, run=100), line(2, submit=50, wait=10, run=100), line(3, submit=160, wait=0)])
    assert recorded_machine(trace.records) == (8, 0)
