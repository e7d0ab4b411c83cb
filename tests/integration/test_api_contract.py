"""三个固定的端点与固定的接口（design.md §1、§7）：答案的样子逐项钉住。"""

import base64
import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from running_system import RunningSystem, wait_until

INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$")


def test_submit_query_cancel_have_exactly_the_agreed_shape(running_system: RunningSystem) -> None:
    job = {
        "account": "lab",
        "name": "contract",
        "partition": "main",
        "environment": {"GREETING": "你好"},
        "current_working_directory": str(running_system.data_dir),
        "standard_output": "%x-%j.out",
        "standard_error": "%x-%j.err",
        "ntasks_per_node": 1,
        "cpus_per_task": 1,
        "memory_per_node": "1G",
        "time_limit": "120",
        "exclusive": False,
    }
    status, submitted = running_system.call(
        "POST", "/jobs/submit", {"job": job, "script": "#!/bin/bash\necho $GREETING\necho bad >&2\nexit 3\n"}
    )
    assert status == 200
    assert list(submitted) == ["job_id"]
    assert re.fullmatch(r"\d+", submitted["job_id"])
    job_id = submitted["job_id"]
    answer = running_system.wait_state(job_id)
    assert list(answer) == ["job_id", "state", "error_msg", "time", "job_log", "detail"]
    assert (answer["job_id"], answer["state"]) == (job_id, "FAILED")
    assert list(answer["time"]) == [
        "submit_time", "eligible_time", "start_time", "end_time", "elapsed_time", "limit_time",
    ]  # fmt: skip
    assert all(INSTANT.match(answer["time"][name]) for name in list(answer["time"])[:4])
    assert re.fullmatch(r"\d+-\d\d:\d\d:\d\d", answer["time"]["elapsed_time"])
    assert answer["time"]["limit_time"] == "0-02:00:00"
    assert answer["job_log"] == {"stdout": "你好\n", "stderr": "bad\n"}
    assert answer["detail"] == {
        "job_name": "contract",
        "user": "root" if answer["detail"]["user"] == "root" else answer["detail"]["user"],
        "partition": "main",
        "allocated_cpus": 1,
        "allocated_nodes": 1,
        "node_list": "node1",
        "exit_code": "3:0",
        "work_dir": str(running_system.data_dir),
        "data_source": "API",
        "account": "lab",
    }
    status, cancelled = running_system.call("POST", f"/jobs/cancel/{job_id}")
    assert (status, cancelled["job_id"], cancelled["state"]) == (200, job_id, "FAILED")


def test_a_running_job_is_cancelled_and_cancelling_again_changes_nothing(running_system: RunningSystem) -> None:
    job_id = running_system.submit("sleep 60")
    running_system.wait_state(job_id, "RUNNING")
    assert running_system.call("POST", f"/jobs/cancel/{job_id}")[0] == 200
    first = running_system.wait_state(job_id)
    assert first["state"] == "CANCELLED"
    assert running_system.call("POST", f"/jobs/cancel/{job_id}")[1]["state"] == "CANCELLED"
    assert running_system.query(job_id) == first


def test_batch_is_all_or_nothing_and_names_the_bad_one(running_system: RunningSystem) -> None:
    newest = int(running_system.submit("true"))
    good = {"job": {"hold": True}, "script": "true"}
    bad = {"job": {"memory_per_node": "16Q"}, "script": "true"}
    status, problem = running_system.call("POST", "/jobs/submit/batch", {"jobs": [good] * 17 + [bad]})
    assert status == 422
    assert problem["errors"][0]["field"] == "jobs[17].job.memory_per_node"
    status, problem = running_system.call("POST", "/jobs/submit/batch", {"jobs": [good, {"job": {}, "script": " \n"}]})
    assert (status, problem["errors"][0]["field"]) == (422, "jobs[1].script")
    status, answer = running_system.call("POST", "/jobs/submit/batch", {"jobs": [good] * 10_000})
    assert status == 200
    ids = [int(job_id) for job_id in answer["job_ids"]]
    assert len(set(ids)) == 10_000
    assert ids == sorted(ids)
    # 被拒的两批一个也没有留下；更早的是别的测试的。
    listed = running_system.call("GET", "/jobs?state=PENDING&limit=1000&sort=job_id&fields=job_id,hold")[1]["jobs"]
    since = [int(job["job_id"]) for job in listed if int(job["job_id"]) > newest]
    assert since
    assert since == ids[: len(since)]
    status, problem = running_system.call("POST", "/jobs/submit/batch", {"jobs": [good] * 10_001})
    assert (status, problem["code"]) == (422, "batch_too_large")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda job_id: running_system.call("POST", f"/jobs/cancel/{job_id}")[0], ids[:200])) == {
            200
        }


@pytest.mark.parametrize(
    ("late", "field"),
    [
        ({"job": {}, "script": " \n"}, "jobs[1200].script"),
        ({"job": {"dependency": "afterok:999999999"}, "script": "true"}, "jobs[1200].job.dependency"),
    ],
)
def test_a_bad_job_far_behind_leaves_nothing_of_a_long_batch(
    running_system: RunningSystem, late: dict[str, Any], field: str
) -> None:
    """前面的各段那时已经写进了事务。"""
    good = {"job": {"hold": True, "name": "undone"}, "script": "true"}
    key = {"Idempotency-Key": field.encode().hex()}
    status, problem = call_with(running_system, "/jobs/submit/batch", {"jobs": [good] * 1200 + [late]}, key)
    assert (status, problem["errors"][0]["field"]) == (422, field)
    assert running_system.call("GET", "/jobs?name=undone")[1]["jobs"] == []
    # 没有成的不占着键；各段的作业号接着排，次序与给的相同。
    jobs = [{"job": {"hold": True, "name": f"n{index}"}, "script": "true"} for index in range(1201)]
    status, answer = call_with(running_system, "/jobs/submit/batch", {"jobs": jobs}, key)
    assert status == 200
    assert answer["job_ids"] == sorted(answer["job_ids"], key=int)
    for index in (0, 499, 500, 1200):
        assert running_system.query(answer["job_ids"][index])["detail"]["job_name"] == f"n{index}"


def test_a_nul_byte_anywhere_in_a_body_is_the_senders_mistake(running_system: RunningSystem) -> None:
    node = running_system.call("GET", "/nodes")[1]["nodes"][0]["name"]
    for method, path, body in (
        ("PATCH", f"/nodes/{node}", {"features": ["a\0b"]}),
        ("PATCH", f"/nodes/{node}", {"state": "DRAIN", "reason": "\0"}),
        ("POST", "/partitions", {"name": "nul", "allow_accounts": ["\0"]}),
    ):
        status, problem = running_system.call(method, path, body)
        assert (status, problem["code"]) == (422, "invalid_field"), path


def call_with(system: RunningSystem, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    request = urllib.request.Request(
        system.url + path,
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {system.token}", "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_an_idempotency_key_makes_one_job_even_when_sent_at_once(running_system: RunningSystem) -> None:
    body = {"job": {"name": "once", "hold": True}, "script": "true"}
    key = {"Idempotency-Key": "同一个".encode().hex()}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call_with(running_system, "/jobs/submit", body, key), range(16)))
    assert {status for status, _ in answers} == {200}
    assert len({answer["job_id"] for _, answer in answers}) == 1
    assert len(running_system.call("GET", "/jobs?name=once")[1]["jobs"]) == 1
    other = {"job": {"name": "twice"}, "script": "true"}
    status, problem = call_with(running_system, "/jobs/submit", other, key)
    assert (status, problem["code"]) == (409, "idempotency_conflict")
    batch_key = {"Idempotency-Key": "batch-1"}
    first = call_with(running_system, "/jobs/submit/batch", {"jobs": [body, body]}, batch_key)
    assert call_with(running_system, "/jobs/submit/batch", {"jobs": [body, body]}, batch_key) == first


def test_output_by_ranges_and_followed_live(running_system: RunningSystem) -> None:
    job_id = running_system.submit("echo first; sleep 1; echo second")
    running_system.wait_state(job_id, "RUNNING")
    request = urllib.request.Request(
        f"{running_system.url}/jobs/{job_id}/logs/stdout?follow=true",
        headers={"Authorization": f"Bearer {running_system.token}"},
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        text = stream.read().decode()
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    output = b"".join(base64.b64decode(json.loads(e["data"])["base64"]) for e in events if e["event"] == "output")
    assert output == b"first\nsecond\n"
    assert events[-1]["event"] == "end"
    assert json.loads(events[-1]["data"])["state"] == "COMPLETED"
    assert running_system.call("GET", f"/jobs/{job_id}/logs/stdout?offset=6")[1] == "second\n"
    assert running_system.call("GET", f"/jobs/{job_id}/logs/stdout?tail=3")[1] == "nd\n"
    for value, status, content in (
        ("bytes=0-4", 206, b"first"),
        ("bytes=-7", 206, b"second\n"),
        ("bytes=99-", 416, None),
    ):
        ranged = urllib.request.Request(
            f"{running_system.url}/jobs/{job_id}/logs/stdout",
            headers={"Authorization": f"Bearer {running_system.token}", "Range": value},
        )
        try:
            with urllib.request.urlopen(ranged, timeout=30) as answer:
                found, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                found, data = error.code, None
        assert (found, data) == (status, content)


def test_listing_pages_cover_everything_once_in_order(running_system: RunningSystem) -> None:
    status, answer = running_system.call(
        "POST", "/jobs/submit/batch",
        {"jobs": [{"job": {"name": f"页-{index % 5}", "hold": True}, "script": "true"} for index in range(25)]},
    )  # fmt: skip
    wanted = set(answer["job_ids"])
    for job_id in answer["job_ids"][::3]:
        assert running_system.call("POST", f"/jobs/cancel/{job_id}")[0] == 200
    me = running_system.call("GET", f"/jobs/{answer['job_ids'][0]}")[1]["user_name"]
    orders = ("-job_id", "job_id", "name", "-submit_time")
    for sort in [f"{order}&{more}" for order in orders for more in ("", "state=PD,CA", "state=PD,CD,CA", f"user={me}")]:
        seen: list[str] = []
        cursor = ""
        while True:
            path = f"/jobs?limit=7&sort={sort}&job_id={','.join(wanted)}&fields=name,submit_time{cursor}"
            status, page = running_system.call("GET", path)
            assert status == 200, page
            seen += [job["job_id"] for job in page["jobs"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert len(seen) == 25
        assert set(seen) == wanted
    listed = f"/jobs?limit=7&job_id={','.join(wanted)}&fields=submit_time,state,array_remaining"
    objects = running_system.call("GET", listed)[1]
    rows = running_system.call("GET", listed + "&layout=rows")[1]
    assert rows["fields"] == ["job_id", "submit_time", "state", "array_remaining"]
    assert [dict(zip(rows["fields"], row, strict=True)) for row in rows["jobs"]] == objects["jobs"]
    assert rows["next_cursor"] == objects["next_cursor"]
    for job_id in wanted:
        running_system.call("POST", f"/jobs/cancel/{job_id}")


def test_hold_release_requeue_suspend_resume_and_signals(running_system: RunningSystem) -> None:
    job_id = running_system.submit("trap 'echo got; exit 0' USR1; while :; do sleep 0.1; done", hold=True)
    assert running_system.query(job_id)["state"] == "PENDING"
    assert running_system.call("POST", f"/jobs/{job_id}/release")[0] == 200
    running_system.wait_state(job_id, "RUNNING")
    assert running_system.call("POST", f"/jobs/{job_id}/hold")[0] == 409
    assert running_system.call("POST", f"/jobs/{job_id}/suspend")[1]["state"] == "SUSPENDED"
    assert running_system.call("POST", f"/jobs/{job_id}/resume")[1]["state"] == "RUNNING"
    assert running_system.call("POST", f"/jobs/{job_id}/requeue")[0] == 200
    wait_until(lambda: running_system.call("GET", f"/jobs/{job_id}")[1]["restart_count"] == 1, 60)
    running_system.wait_state(job_id, "RUNNING")
    # 陷阱设好之前的信号会杀死脚本：等它真的在循环里。
    wait_until(lambda: running_system.call("GET", f"/jobs/{job_id}")[1]["process_id"] is not None, 60)
    assert running_system.call("POST", f"/jobs/{job_id}/signal", {"signal": "NOPE"})[0] == 422
    assert running_system.call("POST", f"/jobs/{job_id}/signal", {"signal": "USR1", "batch_only": True})[0] == 200
    answer = running_system.wait_state(job_id)
    assert (answer["state"], answer["job_log"]["stdout"]) == ("COMPLETED", "got\n")
    causes = [event["cause"] for event in running_system.call("GET", f"/jobs/{job_id}/events")[1]["events"]]
    assert causes == ["submit", "release", "start", "suspend", "resume", "requeue", "start", "exit"]


def test_dashboard_has_the_agreed_shape(running_system: RunningSystem) -> None:
    status, board = running_system.call("GET", "/dashboard")
    assert status == 200
    states = board["jobs"]["by_state"]
    assert {"PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"} <= set(states)
    assert all(isinstance(count, int) for count in states.values())
    assert board["resources"]["cpus"]["total"] == 8
    assert board["leader"]["alive"] is True
