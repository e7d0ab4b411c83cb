"""节点、分区、修改、数组的一部分、筛选、指标、健康与接口文档：经真的 HTTP。"""

import json
import urllib.request
from typing import Any

import pytest

from running_system import RunningSystem, second_api, wait_until
from scns_conductor.api.roles import OPEN, RULES


def ids(system: RunningSystem, query: str) -> list[str]:
    status, answer = system.call("GET", f"/jobs?limit=1000&{query}")
    assert status == 200, answer
    return [job["job_id"] for job in answer["jobs"]]


def test_a_drained_node_starts_nothing_until_resumed(running_system: RunningSystem) -> None:
    assert running_system.call("PATCH", "/nodes/node1", {"state": "DRAIN"})[1]["code"] == "reason_required"
    status, node = running_system.call("PATCH", "/nodes/node1", {"state": "drain", "reason": "更换内存"})
    try:
        assert (status, node["state"], node["reason"]) == (200, "IDLE+DRAIN", "更换内存")
        job_id = running_system.submit("true")
        # 调度器看过它之后才答得出为什么。
        status, why = running_system.call("GET", f"/jobs/{job_id}/why")
        assert (status, why["state"]) == (200, "PENDING"), why
        assert running_system.query(job_id)["state"] == "PENDING"
        states = running_system.call("GET", "/dashboard")[1]["resources"]["nodes"]["by_state"]
        assert states == {"IDLE+DRAIN": 1}
    finally:
        assert running_system.call("PATCH", "/nodes/node1", {"state": "RESUME"})[0] == 200
    assert running_system.wait_state(job_id)["state"] == "COMPLETED"
    node = running_system.call("GET", "/nodes/node1")[1]
    assert (node["state"], node["reason"], node["cpus"]) == ("IDLE", None, 8)
    assert [node["name"] for node in running_system.call("GET", "/nodes")[1]["nodes"]] == ["node1"]


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("node9", {"state": "RESUME"}, 404, "node_not_found"),
        ("node1", {}, 422, "nothing_to_update"),
        ("node1", {"state": "ON_FIRE"}, 422, "state_unknown"),
        ("node1", {"weight": -1}, 422, "invalid_field"),
        ("node1", {"cpus": 9}, 422, "unknown_field"),
    ],
)
def test_a_bad_change_of_a_node_is_refused(
    running_system: RunningSystem, name: str, body: dict[str, Any], status: int, code: str
) -> None:
    found, problem = running_system.call("PATCH", f"/nodes/{name}", body)
    assert (found, problem["code"]) == (status, code)


def test_a_partition_is_made_used_changed_and_removed(running_system: RunningSystem) -> None:
    body = {"name": "debug", "nodes": "node1", "max_time": "30", "default_time": "5"}
    status, made = running_system.call("POST", "/partitions", body)
    assert (status, made["name"], made["max_time"], made["default_time"]) == (201, "debug", 1800, 300)
    assert running_system.call("POST", "/partitions", body)[1]["code"] == "partition_exists"
    assert running_system.call("POST", "/partitions", {"name": "bad", "nodes": "n[1-"})[0] == 422
    status, problem = running_system.call("POST", "/partitions", {"name": "bad", "nodes": "node[1-2],nosuch"})
    assert (status, problem["code"]) == (422, "node_unknown")
    assert "node2,nosuch" in problem["detail"]
    assert running_system.call("PATCH", "/partitions/debug", {"nodes": "nosuch"})[1]["code"] == "node_unknown"
    assert running_system.call("POST", "/partitions", {"name": "../x"})[0] == 422
    assert {"main", "debug"} <= {one["name"] for one in running_system.call("GET", "/partitions")[1]["partitions"]}
    waiting = running_system.submit("true", partition="debug", hold=True)
    assert running_system.query(waiting)["time"]["limit_time"] == "0-00:05:00"
    too_long = running_system.submit("true", partition="debug", time_limit="60")
    reason = f"/jobs?job_id={too_long}&fields=reason"
    wait_until(lambda: running_system.call("GET", reason)[1]["jobs"][0]["reason"] == "PartitionTimeLimit", 60, reason)
    assert running_system.call("DELETE", "/partitions/debug")[1]["code"] == "partition_in_use"
    assert running_system.call("PATCH", "/partitions/debug", {})[1]["code"] == "nothing_to_update"
    assert running_system.call("PATCH", "/partitions/debug", {"max_time": None})[1]["max_time"] is None
    assert running_system.wait_state(too_long)["state"] == "COMPLETED"
    running_system.call("POST", f"/jobs/{waiting}/release")
    assert running_system.wait_state(waiting)["state"] == "COMPLETED"
    assert running_system.call("DELETE", "/partitions/debug")[0] == 204
    assert running_system.call("GET", "/partitions/debug")[1]["code"] == "partition_not_found"
    assert running_system.call("PATCH", "/partitions/debug", {"max_time": "5"})[0] == 404
    assert running_system.call("DELETE", "/partitions/debug")[0] == 404


def test_a_waiting_job_is_changed_and_a_running_one_only_where_it_may_be(running_system: RunningSystem) -> None:
    job_id = running_system.submit("sleep 60", hold=True)
    status, answer = running_system.call("PATCH", f"/jobs/{job_id}", {"name": "新名", "cpus_per_task": 2, "tasks": 2})
    assert (status, answer["state"]) == (200, "PENDING")
    shown = running_system.call("GET", f"/jobs/{job_id}")[1]
    assert (shown["name"], shown["cpus_per_task"], shown["tasks"]) == ("新名", 2, 2)
    for body, code in (
        ({"script": "x"}, "unknown_field"),
        ({"environment": {"A": "1"}}, "not_updatable"),
        ({}, "nothing_to_update"),
        ({"partition": "nope"}, "partition_unknown"),
        ({"dependency": "afterwards:1"}, "invalid_field"),
        ({"dependency": "afterok:999999999"}, "dependency_unknown"),
    ):
        found, problem = running_system.call("PATCH", f"/jobs/{job_id}", body)
        assert (found, problem["code"]) == (422, code)
    assert running_system.call("PATCH", f"/jobs/{job_id}", {"hold": False})[0] == 200
    assert running_system.wait_state(job_id, "RUNNING")["detail"]["allocated_cpus"] == 4
    assert running_system.call("PATCH", f"/jobs/{job_id}", {"cpus_per_task": 1})[1]["code"] == "job_running"
    assert running_system.call("PATCH", f"/jobs/{job_id}", {"time_limit": "90", "comment": "慢"})[0] == 200
    assert running_system.query(job_id)["time"]["limit_time"] == "0-01:30:00"
    running_system.call("POST", f"/jobs/cancel/{job_id}")
    running_system.wait_state(job_id)
    assert running_system.call("PATCH", f"/jobs/{job_id}", {"comment": "x"})[1]["code"] == "job_finished"
    assert running_system.call("POST", f"/jobs/{job_id}/suspend")[0] == 409


def test_some_tasks_of_an_array_are_cancelled_and_the_others_run(running_system: RunningSystem) -> None:
    job_id = running_system.submit("echo $SLURM_ARRAY_TASK_ID", array="0-9", hold=True)
    status, answer = running_system.call("POST", f"/jobs/cancel/{job_id}_[3-5,8]")
    assert (status, answer["state"]) == (200, "CANCELLED")
    assert running_system.call("POST", f"/jobs/cancel/{job_id}_99")[0] == 404
    running_system.call("POST", f"/jobs/{job_id}/release")
    for task in (0, 1, 2, 6, 7, 9):
        done = running_system.wait_state(f"{job_id}_{task}")
        assert (done["state"], done["job_log"]["stdout"]) == ("COMPLETED", f"{task}\n")
    for task in (3, 4, 5, 8):
        assert running_system.query(f"{job_id}_{task}")["state"] == "CANCELLED"
    assert running_system.call("POST", f"/jobs/cancel/{job_id}_4")[1]["state"] == "CANCELLED"
    listed = running_system.call("GET", f"/jobs?job_id={job_id}&fields=state,array_task_id,array_remaining")[1]["jobs"]
    assert sorted(job["array_task_id"] for job in listed if job["state"] == "COMPLETED") == [0, 1, 2, 6, 7, 9]
    assert [job["array_remaining"] for job in listed if job["state"] == "CANCELLED"] == ["3-5,8"]


def test_every_filter_of_the_listing_selects(running_system: RunningSystem) -> None:
    done = running_system.submit("exit 4", name="filter-a", account="physics")
    held = running_system.submit("true", name="filter-b", hold=True)
    ended = running_system.wait_state(done)
    user = ended["detail"]["user"]
    start = ended["time"]["start_time"].replace("+", "%2B")
    name = "name=filter-a,filter-b"
    for query, expected in (
        ("", [held, done]),
        ("state=FAILED", [done]),
        ("state=PD", [held]),
        ("state=FAILED,PENDING", [held, done]),
        ("account=physics", [done]),
        (f"user={user}", [held, done]),
        ("user=nobody-here", []),
        ("partition=main", [held, done]),
        ("partition=other", []),
        ("node=node1", [done]),
        ("node=node2", []),
        (f"start_after={start}", [done]),
        (f"start_before={start}", []),
        ("end_after=now-1hour", [done]),
        ("end_before=now-1hour", []),
        ("submit_after=now-1hour&submit_before=tomorrow", [held, done]),
        ("submit_after=now%2B1hour", []),
        (f"job_id={held},999999999", [held]),
        ("sort=job_id", [done, held]),
        ("sort=-end_time", [done]),
        ("sort=name", [done, held]),
    ):
        assert ids(running_system, f"{name}&{query}") == expected, query
    running_system.call("POST", f"/jobs/cancel/{held}")


def test_metrics_count_what_the_dashboard_counts(running_system: RunningSystem) -> None:
    running_system.wait_state(running_system.submit("true"))
    status, text = running_system.call("GET", "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    counts = running_system.call("GET", "/dashboard")[1]["jobs"]["by_state"]
    assert float(values['scns_jobs{state="COMPLETED"}']) == counts["COMPLETED"] > 0
    assert float(values["scns_cpus_total"]) == 8
    assert float(values["scns_scheduler_leader_alive"]) == 1


def test_health_says_what_it_looked_at(running_system: RunningSystem) -> None:
    for path in ("/health/live", "/health/ready"):
        with urllib.request.urlopen(running_system.url + path, timeout=30) as answer:
            assert json.loads(answer.read())["status"] == "ok"
            assert answer.headers["X-Request-Id"]


def test_health_says_how_the_bus_is_and_stays_ready_without_it(running_system: RunningSystem) -> None:
    """没有 Valkey 作业照样启动：只说，不算没有就绪。"""
    found = running_system.call("GET", "/health/ready")[1]["checks"]["valkey"]
    assert (found["status"], found["eviction_policy"]) == ("ok", "noeviction")
    assert found["waiting"] >= 0
    with second_api(running_system, {"SCNS_REDIS_URL": "redis://127.0.0.1:1/0"}) as without:
        status, answer = without.call("GET", "/health/ready")
    assert (status, answer["status"]) == (200, "ok")
    assert answer["checks"]["valkey"]["status"] == "unavailable"
    assert "SCNS_REDIS_URL" in answer["checks"]["valkey"]["remedy"]


def test_the_openapi_document_describes_itself(running_system: RunningSystem) -> None:
    with urllib.request.urlopen(f"{running_system.url}/openapi.json", timeout=30) as answer:
        document = json.loads(answer.read())
    [scheme] = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    open_paths = {path for (_, path), rule in RULES.items() if rule is OPEN}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            # 说的与真的要不要令牌（角色的表）一致。
            open_to_all = path in open_paths
            assert bool(operation.get("security")) != open_to_all, (method, path)
            assert any("\u4e00" <= char <= "\u9fff" for char in operation["summary"]), (method, path)
    with urllib.request.urlopen(f"{running_system.url}/docs", timeout=30) as answer:
        assert answer.status == 200


def test_a_token_for_oneself_works_and_expires_when_asked(running_system: RunningSystem) -> None:
    status, issued = running_system.call("POST", "/tokens", {"user_name": "alice", "lifetime_s": 60})
    assert status == 201
    alice = RunningSystem(running_system.data_dir, running_system.process, running_system.url, issued["token"])
    status, own = alice.call("POST", "/tokens", {})
    assert status == 201
    again = RunningSystem(running_system.data_dir, running_system.process, running_system.url, own["token"])
    assert again.call("GET", "/jobs?limit=1")[0] == 200
    for body in ({"lifetime_s": 0}, {"lifetime_s": 10**12}, {"user_name": ""}, {"sun": "root"}):
        assert running_system.call("POST", "/tokens", body)[0] == 422
