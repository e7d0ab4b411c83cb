"""坏的输入：每一种都有稳定的 code、指名的字段与补救办法，什么也不丢；别人的作业碰不得；数据库不在是 503。"""

import json
import os
import re
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from running_system import RunningSystem, start_system, wait_until

BAD_JOBS: list[tuple[dict[str, Any], str, int, str, str]] = [
    ({}, " \n\t", 422, "script_blank", "script"),
    ({}, "echo a\0b", 422, "script_has_nul", "script"),
    ({}, "echo \ud800", 422, "invalid_field", "script"),
    ({"environment": {"A": "\ud800"}}, "true", 422, "invalid_field", "job.environment"),
    ({"environment": {"\udfff": "1"}}, "true", 422, "invalid_field", "job.environment"),
    ({"name": "\ud800"}, "true", 422, "invalid_field", "job.name"),
    ({"memory_per_nod": "1G"}, "true", 422, "unknown_field", "job.memory_per_nod"),
    ({"memory_per_node": "16Q"}, "true", 422, "invalid_field", "job.memory_per_node"),
    ({"time_limit": "0"}, "true", 422, "invalid_field", "job.time_limit"),
    ({"time_limit": -5}, "true", 422, "invalid_field", "job.time_limit"),
    ({"time_limit": "1-99:00"}, "true", 422, "invalid_field", "job.time_limit"),
    ({"partition": "nope"}, "true", 422, "partition_unknown", "job.partition"),
    ({"current_working_directory": "work"}, "true", 422, "invalid_field", "job.current_working_directory"),
    ({"environment": {"A=B": "1"}}, "true", 422, "invalid_field", "job.environment"),
    ({"environment": {"A\nB": "1"}}, "true", 422, "invalid_field", "job.environment"),
    ({"environment": {"A": "1\0"}}, "true", 422, "invalid_field", "job.environment"),
    ({"name": "n" * 300}, "true", 422, "invalid_field", "job.name"),
    ({"name": "a\0b"}, "true", 422, "invalid_field", "job"),
    ({"array": "0-5:0"}, "true", 422, "array_invalid", "job.array"),
    ({"array": "0-999999999"}, "true", 422, "array_invalid", "job.array"),
    ({"dependency": "afterwards:1"}, "true", 422, "invalid_field", "job.dependency"),
    ({"dependency": "afterok:999999999"}, "true", 422, "dependency_unknown", "job.dependency"),
    ({"dependency": "afterany:9999999999999999999,singleton"}, "true", 422, "invalid_field", "job.dependency"),
    ({"dependency": "afterany:100000000000000000"}, "true", 422, "dependency_unknown", "job.dependency"),
    ({"constraints": "a&&b"}, "true", 422, "invalid_field", "job.constraints"),
    ({"gres": "gpu:a100:x"}, "true", 422, "invalid_field", "job.tres_per_node"),
    ({"begin_time": "someday"}, "true", 422, "invalid_field", "job.begin_time"),
    ({"nodes": "4-2"}, "true", 422, "invalid_field", "job.nodes"),
    ({"cpus_per_task": 0}, "true", 422, "invalid_field", "job.cpus_per_task"),
    ({"cpus_per_task": 2**40}, "true", 422, "invalid_field", "job.cpus_per_task"),
    ({"umask": "99"}, "true", 422, "invalid_field", "job.umask"),
    ({"required_nodes": "n[1-"}, "true", 422, "invalid_field", "job.required_nodes"),
    ({"required_nodes": "n[1-9999][1-9999]"}, "true", 422, "invalid_field", "job.required_nodes"),
    ({"required_nodes": ["n1", "n[9-1]"]}, "true", 422, "invalid_field", "job.required_nodes"),
    ({"excluded_nodes": "n[0-9][0-9][0-9][0-9][0-9][0-9]"}, "true", 422, "invalid_field", "job.excluded_nodes"),
    ({"excluded_nodes": f"n[{'0' * 4000}1-9]"}, "true", 422, "invalid_field", "job.excluded_nodes"),
    ({"array": ",".join(["0-3999999:2,1-9:3"] * 40)}, "true", 422, "array_invalid", "job.array"),
    ({"array": "0-99999999999"}, "true", 422, "array_invalid", "job.array"),
    ({"licenses": f"matlab:{'9' * 4000}"}, "true", 422, "invalid_field", "job.licenses"),
    ({"memory_per_node": "9" * 4000}, "true", 422, "invalid_field", "job.memory_per_node"),
    ({"nodes": "9" * 5000}, "true", 422, "invalid_field", "job.nodes"),
    ({"time_limit": f"{'9' * 400}-1"}, "true", 422, "invalid_field", "job.time_limit"),
    ({"constraints": "(" * 4000}, "true", 422, "invalid_field", "job.constraints"),
    ({"begin_time": "now+9999999weeks"}, "true", 422, "invalid_field", "job.begin_time"),
    ({"begin_time": "0001-01-01T00:00:00+14:00"}, "true", 422, "invalid_field", "job.begin_time"),
    ({"begin_time": "9999-12-31T23:59:59-14:00"}, "true", 422, "invalid_field", "job.begin_time"),
    ({"deadline": "9999-12-31T23:59:59-14:00"}, "true", 422, "invalid_field", "job.deadline"),
    ({"deadline": 1e300}, "true", 422, "invalid_field", "job.deadline"),
]


@pytest.mark.parametrize(("job", "script", "status", "code", "field"), BAD_JOBS, ids=lambda value: str(value)[:40])
def test_a_bad_job_is_refused_by_name(
    running_system: RunningSystem, job: dict[str, Any], script: str, status: int, code: str, field: str
) -> None:
    found, problem = running_system.call("POST", "/jobs/submit", {"job": job, "script": script})
    assert (found, problem["code"]) == (status, code), problem
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}
    assert problem["errors"][0]["field"] == field
    assert any("\u4e00" <= char <= "\u9fff" for char in problem["errors"][0]["message"])


def resident_kb(pid: int) -> int:
    """一个进程的常驻内存（KiB）。"""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


# 二十来个字节，乘起来是几千万、几万万。
HUGE = "n[1-9999][1-9999]"
HUGE_ELSEWHERE: list[tuple[str, str, Any, int, str | None]] = [
    ("PATCH", "/jobs/{}", {"required_nodes": HUGE}, 422, "required_nodes"),
    ("PATCH", "/jobs/{}", {"excluded_nodes": "n[9-1]"}, 422, "excluded_nodes"),
    ("POST", "/jobs/submit/batch", {"jobs": [{"job": {"required_nodes": HUGE}, "script": "true"}]}, 422,
     "jobs[0].job.required_nodes"),
    ("POST", "/jobs/plan", {"job": {"required_nodes": HUGE}, "script": "true"}, 422, "job.required_nodes"),
    ("POST", "/jobs/{}/steps", {"argv": ["true"], "node_list": HUGE}, 422, "node_list"),
    ("POST", "/jobs/{}/steps", {"argv": ["true"], "excluded_nodes": "n[9-1]"}, 422, "excluded_nodes"),
    ("POST", "/jobs/{}/steps", {"argv": ["true"], "cpu_bind": "map_cpu:" + ",".join(["0*1024"] * 500)}, 422,
     "cpu_bind"),
    ("POST", "/reservations", {"name": "r", "nodes": HUGE, "duration": "10"}, 422, "nodes"),
    ("POST", "/reservations", {"name": "r", "nodes": "n[9-1]", "duration": "10"}, 422, "nodes"),
    ("POST", "/partitions", {"name": "p", "nodes": HUGE}, 422, "nodes"),
    ("PATCH", "/partitions/main", {"nodes": "n[1-3"}, 422, "nodes"),
    ("GET", "/jobs/query/999999_[0-9999998:2]", None, 404, None),
    ("POST", "/jobs/cancel/999999_[0-9999998:2,1-9999998:3]", None, 404, None),
    ("GET", "/jobs/steps?job_id=%C2%B2", None, 200, None),
    ("GET", "/priorities?job_id=%C2%B2", None, 422, "job_id"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"), HUGE_ELSEWHERE, ids=lambda value: str(value)[:30]
)
def test_a_short_text_of_millions_is_refused_everywhere(
    running_system: RunningSystem, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    job_id = running_system.submit("true", hold=True)
    (api,) = running_system.services("api")
    before = resident_kb(api)
    found, problem = running_system.call(method, path.format(job_id), body)
    assert found == status, problem
    assert field is None or problem["errors"][0]["field"] == field
    assert resident_kb(api) - before < 30_000
    running_system.call("POST", f"/jobs/cancel/{job_id}")


BODILESS = [
    (method.upper(), path)
    for path, operations in json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())[
        "paths"
    ].items()
    for method, operation in operations.items()
    if method in ("post", "put", "patch", "delete")
    and "requestBody" not in operation
    and path != "/jobs/cancel/{job_id}"
]


@pytest.mark.parametrize(("method", "path"), BODILESS, ids=lambda value: str(value))
def test_a_body_where_there_is_none_is_refused(running_system: RunningSystem, method: str, path: str) -> None:
    """写在请求体里的字段不当作没有写而照做；空的、{} 不算。"""
    there = path.replace("{step_id}", "0").replace("{association_id}", "999999").replace("{token_id}", "999999")
    there = re.sub(r"\{\w+\}", "999999", there)
    status, problem = running_system.call(method, there, {"nope": 1})
    assert (status, problem["code"], problem["errors"][0]["field"]) == (422, "unknown_field", "nope"), problem
    # 没有参数的真的会做（DELETE /tokens）。
    for body in ({}, None) if there != path else ():
        status, answer = running_system.call(method, there, body)
        assert status != 422 or answer["code"] != "unknown_field", answer


def test_a_field_of_the_query_in_the_body_changes_nothing(running_system: RunningSystem) -> None:
    job_id = running_system.submit("#!/bin/sh\nsleep 300\n")
    running_system.wait_state(job_id, "RUNNING")
    status, problem = running_system.call("POST", f"/jobs/{job_id}/requeue", {"hold": True})
    assert (status, problem["errors"][0]["field"]) == (422, "hold"), problem
    assert "?hold=" in problem["detail"]
    status, problem = running_system.call("POST", f"/jobs/cancel/{job_id}", {"reason": "", "signal": "USR1"})
    assert (status, problem["errors"][0]["field"]) == (422, "signal"), problem
    job = running_system.call("GET", f"/jobs/{job_id}")[1]
    assert (job["state"], job["restart_count"]) == ("RUNNING", 0)
    # 从不破坏的接口：多带了什么从前都照办。
    assert running_system.call("POST", f"/jobs/cancel/{job_id}", {"job_id": str(job_id)})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?submit_after=0001-01-01T00:00:00%2B14:00",
        "/jobs?submit_before=9999-12-31T23:59:59-14:00",
        "/reports/usage?since=0001-01-01T00:00:00%2B14:00",
        "/reports/usage?since=now-99999999weeks",
        # ["submit_time", "0001-01-01T00:00:00+14:00", 1]
        "/jobs?sort=submit_time&cursor=WyJzdWJtaXRfdGltZSIsICIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgMV0",
    ],
)
def test_a_moment_at_the_edge_of_the_calendar_is_refused(running_system: RunningSystem, path: str) -> None:
    status, problem = running_system.call("GET", path)
    assert status == 422, problem


def test_waiting_for_ten_thousand_years_does_not_stop_the_scheduler(running_system: RunningSystem) -> None:
    """几个时限四千年的作业排着队：预计的开始出了日历，调度器照常。"""
    jobs = [running_system.submit("sleep 300", exclusive=True, time_limit=2**31 - 1) for _ in range(4)]

    def told() -> bool:
        return running_system.call("GET", f"/jobs/{jobs[-1]}")[1]["reason"] in ("Priority", "Resources")

    wait_until(told, 60, "调度器写下原因")
    status, why = running_system.call("GET", f"/jobs/{jobs[-1]}/why")
    assert (status, why["expected_start_time"]) == (200, None)
    for job_id in jobs:
        running_system.call("POST", f"/jobs/cancel/{job_id}")
    assert running_system.wait_state(running_system.submit("true"))["state"] == "COMPLETED"


@pytest.mark.parametrize("number", ["9999999999999999999.0", "1.9999999999", "9223372036854775808.0", "1.999999999"])
def test_a_job_token_of_huge_numbers_is_just_not_valid(running_system: RunningSystem, number: str) -> None:
    """谁都能送来，不必有令牌。"""
    token = f"scnsjob.{number}.{'0' * 64}"
    stranger = RunningSystem(running_system.data_dir, running_system.process, running_system.url, token)
    for method, path in (("GET", "/jobs"), ("POST", "/jobs/submit")):
        status, problem = stranger.call(method, path, {"script": "true"} if method == "POST" else None)
        assert (status, problem["code"]) == (401, "token_invalid")


def test_an_unknown_field_names_the_nearest_known_one(running_system: RunningSystem) -> None:
    problem = running_system.call("POST", "/jobs/submit", {"job": {"memory_per_nod": 1}, "script": "true"})[1]
    assert "memory_per_node" in problem["detail"]


def send(
    system: RunningSystem, data: bytes, kind: str = "application/json", path: str = "/jobs/submit"
) -> tuple[int, Any]:
    request = urllib.request.Request(
        system.url + path, data, {"Authorization": f"Bearer {system.token}", "Content-Type": kind}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_body_that_is_not_json_or_too_big(running_system: RunningSystem) -> None:
    assert send(running_system, b'{"job": ')[1]["code"] == "malformed_json"
    assert send(running_system, b"\xff\xfe")[0] in (400, 422)
    assert send(running_system, b"job=1", "application/x-www-form-urlencoded")[0] == 415
    status, problem = send(running_system, json.dumps({"script": "x" * (17 * 1024**2)}).encode())
    assert (status, problem["code"]) == (413, "script_too_large")
    assert send(running_system, b"[" * 100_000)[0] in (400, 422)


@pytest.mark.parametrize("job_id", ["999999999", str(2**70), "abc", "0", "-1", "1_", "12_[3"])
@pytest.mark.parametrize(
    "path", ["/jobs/query/{}", "/jobs/{}", "/jobs/{}/events", "/jobs/{}/script", "/jobs/{}/logs/stdout"]
)
def test_an_unknown_job_is_404(running_system: RunningSystem, path: str, job_id: str) -> None:
    status, problem = running_system.call("GET", path.format(job_id))
    assert (status, problem["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("path", ["/partitions/%00", "/nodes/a%00", "/qos/%00", "/jobs?name=%00"])
def test_a_nul_in_the_address_is_refused(running_system: RunningSystem, path: str) -> None:
    status, problem = running_system.call("GET", path)
    assert (status, problem["code"]) == (422, "invalid_field")
    assert "NUL" in problem["detail"]


def test_bad_listing_conditions(running_system: RunningSystem) -> None:
    for query in ("state=NOPE", "sort=nope", "fields=nope", "cursor=nope", "limit=0", "limit=x", "submit_after=nope"):
        status, problem = running_system.call("GET", f"/jobs?{query}")
        assert status == 422, (query, problem)
        assert problem["errors"][0]["field"] == query.split("=")[0]


def test_a_job_that_cannot_run_fails_with_a_message_and_nothing_else_does(
    running_system: RunningSystem, tmp_path: Path
) -> None:
    missing = running_system.submit("true", current_working_directory=str(tmp_path / "missing"))
    unwritable = running_system.submit("true", standard_output="/proc/nope/out")
    climbing = running_system.submit(
        "echo hi", name="../../x", standard_output="%x.out", current_working_directory=str(tmp_path)
    )
    first = running_system.wait_state(missing)
    assert first["state"] == "FAILED"
    assert "missing" in first["error_msg"]
    second = running_system.wait_state(unwritable)
    assert second["state"] == "FAILED"
    assert "/proc/nope" in second["error_msg"]
    assert running_system.wait_state(climbing)["state"] == "COMPLETED"
    assert [path.name for path in tmp_path.iterdir()] == [".._.._x.out"]
    assert running_system.wait_state(running_system.submit("true"))["state"] == "COMPLETED"


def test_too_big_for_any_node_is_refused_and_says_which_falls_short(running_system: RunningSystem) -> None:
    job = {"cpus_per_task": 512}
    status, problem = running_system.call("POST", "/jobs/submit", {"job": job, "script": "true"})
    assert (status, problem["code"]) == (422, "cpus_exceed_partition")
    assert problem["errors"][0]["field"] == "job.cpus_per_task"
    assert "512 个 CPU" in problem["detail"]


def test_another_users_job_is_seen_but_not_touched_nor_read(running_system: RunningSystem) -> None:
    job_id = running_system.submit("echo secret", environment={"SECRET": "1"}, hold=True)
    token = running_system.call("POST", "/tokens", {"user_name": "mallory"})[1]["token"]
    other = RunningSystem(running_system.data_dir, running_system.process, running_system.url, token)
    assert job_id in [job["job_id"] for job in other.call("GET", "/jobs?limit=1000")[1]["jobs"]]
    shown = other.call("GET", f"/jobs/{job_id}")[1]
    assert not {"script", "environment", "argv"} & set(shown)
    assert other.query(job_id)["job_log"] == {"stdout": None, "stderr": None}
    for method, path, body in (
        ("POST", f"/jobs/cancel/{job_id}", None),
        ("POST", f"/jobs/{job_id}/release", None),
        ("POST", f"/jobs/{job_id}/hold", None),
        ("PATCH", f"/jobs/{job_id}", {"name": "mine"}),
        ("GET", f"/jobs/{job_id}/script", None),
        ("GET", f"/jobs/{job_id}/logs/stdout", None),
        ("GET", f"/jobs/{job_id}/logs/stdout?follow=true", None),
        ("PATCH", "/nodes/node1", {"state": "DRAIN", "reason": "x"}),
        ("POST", "/partitions", {"name": "x"}),
        ("POST", "/tokens", {"user_name": "root"}),
        ("POST", "/tokens", {"admin": True}),
        ("POST", "/jobs/submit", {"job": {"priority": 9}, "script": "true"}),
        ("POST", "/jobs/submit", {"job": {"nice": -1}, "script": "true"}),
    ):
        assert other.call(method, path, body)[0] == 403, (method, path)
    assert running_system.query(job_id)["state"] == "PENDING"
    assert running_system.call("GET", f"/jobs/{job_id}")[1]["environment"] == {"SECRET": "1"}
    running_system.call("POST", f"/jobs/cancel/{job_id}")


def test_without_a_good_token_nothing_but_health_answers(running_system: RunningSystem) -> None:
    for token in ("", "x.y.z", running_system.token[:-2] + "AA"):
        anonymous = RunningSystem(running_system.data_dir, running_system.process, running_system.url, token)
        assert anonymous.call("GET", "/jobs")[0] == 401
        assert anonymous.call("GET", "/metrics")[0] == 401
        assert anonymous.call("GET", "/health/live")[0] == 200


def test_a_database_away_is_503_and_comes_back() -> None:
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    with start_system(scratch / "s", "--nodes", "1", "--cpus", "2", "--memory", "2G") as system:
        job_id = system.submit("true")
        system.wait_state(job_id)
        postmaster = int((scratch / "s" / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        refusals: list[tuple[int, str | None, bytes]] = []

        def away() -> bool:
            request = urllib.request.Request(
                f"{system.url}/jobs/query/{job_id}", headers={"Authorization": f"Bearer {system.token}"}
            )
            try:
                urllib.request.urlopen(request, timeout=30).close()
            except urllib.error.HTTPError as error:
                with error:
                    refusals.append((error.code, error.headers["Retry-After"], error.read()))
            return bool(refusals)

        wait_until(away, 60, "503")
        wait_until(lambda: system.call("GET", f"/jobs/query/{job_id}")[0] == 200, 60, "数据库回来")
        assert {code for code, _, _ in refusals} == {503}
        assert all(int(retry_after or 0) > 0 for _, retry_after, _ in refusals)
        assert {json.loads(body)["code"] for _, _, body in refusals} == {"database_unavailable"}
        assert system.wait_state(system.submit("true"))["state"] == "COMPLETED"
    shutil.rmtree(scratch)
