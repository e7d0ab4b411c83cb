"""看板要问的：我是谁、数组折成一行与它的进度、占用的历史。"""

import time

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
    assert running_system.call("GET", "/reports/utilization?buckets=0")[0] == 422
    assert running_system.call("GET", "/reports/utilization?since=now%2B1day")[0] == 422
