"""sacct 的历史读成 POST /jobs/history 的样子：每一行不是读成了，就是说了为什么。"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.api.history_request import HistoryRequest
from scns_conductor.slurm.moving.findings import Findings
from scns_conductor.slurm.moving.job_history import NotASacctTable, read_jobs
from scns_conductor.slurm.moving.sacct_values import Moments, clock_s, peak_kb, tres_amounts

FILE = Path(__file__).parents[1] / "data" / "slurm" / "history.sacct"
SHANGHAI = Moments(ZoneInfo("Asia/Shanghai"))
TITLES = "JobID|JobIDRaw|User|Partition|State|Submit|Start|End|ElapsedRaw|NodeList|AllocCPUS"


def read(lines: Iterable[str], moments: Moments = SHANGHAI) -> tuple[dict[int, dict[str, Any]], list[str]]:
    findings = Findings()
    jobs = {each.job["job_id"]: each.job for each in read_jobs("f", lines, moments, findings)}
    told = sorted(findings.found, key=lambda each: each.place.line)
    return jobs, [f"{each.place.line} {each.reason}" for each in told]


def test_a_history_becomes_jobs_and_every_other_line_has_a_reason() -> None:
    jobs, reasons = read(FILE.read_text().splitlines())
    HistoryRequest.model_validate({"jobs": list(jobs.values())})
    assert sorted(jobs) == [4101, 4102, 4103, 4104, 4105, 4106, 4107]
    assert reasons == [
        "13 没有结束（RUNNING）", "14 应有 33 列，实有 34 列", "15 无法识别的时刻 'yesterday'", "16 没有用户",
        "17 没有结束（REVOKED）",
    ]  # fmt: skip
    relax = jobs[4101]
    (attempt,) = relax["attempts"]
    assert attempt == {
        "restart_count": 0, "start_time": "2026-11-02T01:10:00+00:00", "end_time": "2026-11-02T03:10:00+00:00",
        "run_s": 7200, "state": "COMPLETED", "node_list": "node[1-2]", "cpus": 9, "memory": 32768,
        "gres": {"gpu:a100": 2},
    }  # fmt: skip
    assert (relax["tasks"], relax["minimum_nodes"], relax["memory_per_node"]) == (8, 2, 16384)
    assert (relax["tres_per_job"], relax["time_limit"], relax["comment"]) == ("gres/gpu:a100:2", 14400, "nightly")
    # 各步里最大的；CPU 时间在作业那一行。
    assert (relax["max_rss_kb"], relax["cpu_user_s"], relax["cpu_system_s"]) == (3 * 1024**2, 30600, 600.5)
    assert "wckey" not in relax


def test_arrays_requeues_and_heterogeneous_jobs() -> None:
    jobs, _ = read(FILE.read_text().splitlines())
    assert [(jobs[n]["array_job_id"], jobs[n]["array_task_id"]) for n in (4103, 4102)] == [(4102, 1), (4102, 2)]
    assert "time_limit" not in jobs[4103]
    assert (jobs[4104]["array_tasks"], jobs[4104]["attempts"], jobs[4104]["state"]) == ("3-5,9", [], "CANCELLED")
    # 三次，新的在前地给出；早的在前地记下。
    again = jobs[4105]
    assert [(each["restart_count"], each.get("state"), each["run_s"]) for each in again["attempts"]] == [
        (0, None, 3590), (1, "NODE_FAIL", 9000), (2, "COMPLETED", 3600),
    ]  # fmt: skip
    assert (again["restart_count"], again["submit_time"]) == (2, "2026-11-01T23:00:00+00:00")
    assert again["licenses"] == "matlab:1"
    assert [(jobs[n]["het_job_id"], jobs[n]["het_job_offset"]) for n in (4106, 4107)] == [(4106, 0), (4106, 1)]
    # 挂起过五分钟：结束的时刻照写的，运行的时长不含挂起的。
    assert (jobs[4106]["suspended_s"], jobs[4106]["attempts"][0]["run_s"]) == (300, 900)
    assert jobs[4106]["end_time"] == "2026-11-02T07:20:05+00:00"


def test_moments_in_several_forms_and_the_hour_that_comes_twice() -> None:
    berlin = Moments(ZoneInfo("Europe/Berlin"))
    lines = [
        TITLES,
        # 2026-10-25 三点拨回两点：从 02:30（夏）到 02:15（冬）是 45 分钟。
        "1|1|u|p|COMPLETED|2026-10-25T02:29:00|2026-10-25T02:30:00|2026-10-25T02:15:00|2700|n1|1",
        "2|2|u|p|COMPLETED|1793000000|1793000010|1793000070|60|n1|1",
        "3|3|u|p|COMPLETED|2026-10-25T00:00:00+08:00|2026-10-25T00:00:10+08:00|2026-10-25T00:01:10+08:00|60|n1|1",
    ]
    jobs, reasons = read(lines, berlin)
    assert reasons == []
    assert jobs[1]["attempts"][0]["start_time"] == "2026-10-25T00:30:00+00:00"
    assert jobs[1]["end_time"] == "2026-10-25T01:15:00+00:00"
    assert datetime.fromisoformat(jobs[2]["end_time"]).timestamp() == 1793000070
    assert jobs[3]["submit_time"] == "2026-10-24T16:00:00+00:00"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1_3||u|p|COMPLETED|1|2|3|1|n1|1", "JobIDRaw"),
        ("1_[1-3,...]|1|u|p|CANCELLED|1793000000||1793000001|0|None assigned|0", "SLURM_BITSTR_LEN"),
        ("1|1|u|p|COMPLETED|1793000000|1793000010|1793000070|60|n[1-|1", "主机列表"),
        ("1|1|u|p|COMPLETED|1793000000|1793000010|1793000070|60|n1|0", "几个 CPU"),
        ("1|1|u|p||1793000000|1793000010|1793000070|60|n1|1", "没有状态"),
        ("x|x|u|p|COMPLETED|1793000000|1793000010|1793000070|60|n1|1", "不是整数"),
        ("1|1|u|p|COMPLETED||1793000010|1793000070|60|n1|1", "没有提交时刻"),
        ("1|1|u|p|CANCELLED|1793000000||Unknown|0|None assigned|0", "没有结束时刻"),
        ("1|1|u|p|REQUEUED|1793000000|1793000010|1793000070|60|n1|1", "没有结束"),
    ],
)
def test_a_line_that_cannot_be_moved_says_why(row: str, reason: str) -> None:
    jobs, reasons = read([TITLES, row])
    assert not jobs
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_a_file_without_the_columns_says_how_to_export() -> None:
    with pytest.raises(NotASacctTable, match=r"nodelist.*sacct -a -D -P"):
        read(["JobID|User|State"])
    with pytest.raises(NotASacctTable, match="空的"):
        read(["", " "])


@given(st.lists(st.lists(st.text(max_size=8), min_size=11, max_size=12).map("|".join), max_size=6))
def test_any_table_is_read_or_told(lines: list[str]) -> None:
    read([TITLES, *(line.replace("\n", " ") for line in lines)])


def test_the_values_of_single_columns() -> None:
    assert clock_s("1-02:03:04.5") == 93784.5
    assert clock_s("00:03.120") == 3.12
    assert (peak_kb("2048K"), peak_kb("1.50M"), peak_kb("4096"), peak_kb("?")) == (2048, 1536, 4, None)
    assert tres_amounts("cpu=2,energy=15.3K,fs/disk=12,mem=1.5G,gres/gpu=1") == {"cpu": 2, "mem": 1536, "gres/gpu": 1}
