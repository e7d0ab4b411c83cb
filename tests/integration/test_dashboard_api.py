"""看板要问的：我是谁、数组折成一行与它的进度、占用的历史。"""

import time
from typing import Any

from running_system import RunningSystem, wait_until


def test_whoami(running_system: RunningSystem) -> None:
    status, found = running_system.call("GET", "/whoami")
    assert status == 200
    assert found["admin"] is True
    assert found["expires_at"] > time.time()
    assert found["job_id"] is None


def test_folded_array_is_one_row(running_system: RunningSystem) -> None:
    array = running_system.submit("#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID -lt 3 ]\n", name="fold-me", array="0-4")

    def counted() -> dict[str, object]:
        status, found = running_system.call("GET", f"/jobs/arrays?job_id={array},999999999")
        assert status == 200
        entry: dict[str, object] = found["arrays"][0]
        return entry

    before = counted()
    assert before["total"] == 5
    wait_until(lambda: counted()["done"] == 5)
    assert counted()["by_state"] == {"COMPLETED": 3, "FAILED": 2}
    rows = running_system.call("GET", "/jobs?name=fold-me&arrays=folded")[1]["jobs"]
    assert [row["job_id"] for row in rows] == [array]
    assert len(running_system.call("GET", "/jobs?name=fold-me")[1]["jobs"]) == 5
    assert running_system.call("GET", "/jobs/arrays?job_id=1;2")[0] == 422


def test_utilization_adds_up(running_system: RunningSystem) -> None:
    job_id = running_system.submit("#!/bin/bash\nsleep 1\n", name="used", account="meter")
    running_system.wait_state(job_id)
    status, found = running_system.call("GET", "/reports/utilization?since=now-1hour&buckets=60")
    assert status == 200
    own = next(entry for entry in found["accounts"] if entry["account"] == "meter")
    rows = running_system.call("GET", f"/jobs/{job_id}")[1]["allocations"]
    assert len(rows) == 1
    used_s = sum(own["cpus"]) * found["bucket_s"]
    assert 0.5 < used_s < 60 * rows[0]["cpus"]
    assert found["waits"]["started"] >= 1
    assert found["waits"]["p50_s"] <= found["waits"]["p99_s"]
    # 按用户、分区、QOS 分，各自的合计相同。
    job = running_system.call("GET", f"/jobs/{job_id}")[1]
    for by, column in (("user", "user_name"), ("partition", "partition"), ("qos", "qos")):
        other = running_system.call("GET", f"/reports/utilization?since=now-1hour&buckets=60&by={by}")[1]
        assert job[column] in [entry["name"] for entry in other["accounts"]]
        assert all(entry["account"] is None for entry in other["accounts"])
    assert running_system.call("GET", "/reports/utilization?by=colour")[0] == 422
    usage = running_system.call("GET", "/reports/usage?since=now-1hour")[1]["usage"]
    assert (job["partition"], job["qos"]) in {
        (row["partition"], row["qos"]) for row in usage if row["account"] == "meter"
    }
    assert running_system.call("GET", "/health/ready")[1]["checks"]["database"]["roundtrip_ms"] >= 0
    assert running_system.call("GET", "/reports/utilization?buckets=0")[0] == 422
    assert running_system.call("GET", "/reports/utilization?since=now%2B1day")[0] == 422


def test_schedule_is_what_why_says(running_system: RunningSystem) -> None:
    cpus = running_system.call("GET", "/nodes")[1]["nodes"][0]["cpus"]
    nodes = len(running_system.call("GET", "/nodes")[1]["nodes"])
    blocker = running_system.submit("#!/bin/bash\nsleep 300\n", nodes=str(nodes), exclusive=True, time_limit="20")
    running_system.wait_state(blocker, "RUNNING")
    blocked = running_system.submit("#!/bin/bash\ntrue\n", cpus_per_task=cpus, time_limit="10")
    try:

        def planned() -> list[dict[str, object]]:
            rows = running_system.call("GET", "/schedule")[1]["schedule"]
            return [row for row in rows if row["job_id"] == blocked]

        wait_until(planned)
        why = running_system.call("GET", f"/jobs/{blocked}/why")[1]
        row = planned()[0]
        assert (row["nodes"], row["cpus"]) == (why["nodes"], cpus)
        assert row["start_time"] == why["expected_start_time"]
    finally:
        for job_id in (blocked, blocker):
            running_system.call("POST", f"/jobs/cancel/{job_id}")


def test_node_map_is_a_row_a_node(running_system: RunningSystem) -> None:
    def both() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        found = running_system.call("GET", "/nodemap")[1]
        rows = [dict(zip(found["fields"], row, strict=True)) for row in found["nodes"]]
        return rows, running_system.call("GET", "/nodes")[1]["nodes"]

    def same() -> bool:
        rows, whole = both()
        shown = [[each[name] for name in ("name", "state", "cpus")] for each in rows]
        return shown == [[each[name] for name in ("name", "state", "cpus")] for each in whole]

    # 两次问之间节点的状态也许正好变了：再问一遍。
    wait_until(same, 60, "两处说的一样")
    assert all("main" in row["partitions"].split(",") for row in both()[0])


def test_efficiency_adds_up(running_system: RunningSystem) -> None:
    script = "#!/bin/bash\nend=$((SECONDS+1)); while [ $SECONDS -lt $end ]; do :; done\n"
    job_id = running_system.submit(script, account="thrift", memory_per_node="64M", time_limit="10")
    running_system.wait_state(job_id)
    found = running_system.call("GET", "/reports/efficiency?since=now-1hour")[1]
    own = next(row for row in found["users"] if row["account"] == "thrift")
    assert own["jobs"] == 1
    assert 0 < own["cpu_used_s"] <= own["cpu_asked_s"]
    assert 0 < own["memory_used_mb_s"] <= own["memory_asked_mb_s"]
    assert own["limit_used_s"] < own["limit_asked_s"] == 600
