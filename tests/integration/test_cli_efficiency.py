"""scns efficiency：真的作业，真的用量。"""

import json

from test_cli_lists import scns

from running_system import RunningSystem


def test_what_was_asked_and_what_was_used(running_system: RunningSystem) -> None:
    """一个闲着的、一个忙着的：几成说得对，闲着的有具体的建议，忙着的没有。"""
    idle = running_system.submit(
        "sleep 2", cpus_per_task=2, memory_per_node="2G", time_limit="60", name="idle", account="efficiency"
    )
    busy = running_system.submit(
        "end=$(( $(date +%s) + 2 )); while [ $(date +%s) -lt $end ]; do for i in 1 2 3 4 5 6 7 8 9; do :; done; done",
        time_limit="1", name="busy", account="efficiency",
    )  # fmt: skip
    for job_id in (idle, busy):
        running_system.wait_state(job_id, "COMPLETED")
    [found] = json.loads(scns(running_system, "efficiency", idle, "--json").stdout)["jobs"]
    assert found["cpu"] < 0.3
    assert found["memory"] < 0.5
    assert any("要 1 个就够" in text for text in found["hints"])
    assert any("时限写" in text for text in found["hints"])
    listed = scns(running_system, "efficiency", "-A", "efficiency").stdout
    assert {idle, busy} <= {line.split()[0] for line in listed.splitlines()[1:3]}
    assert "没有用上" in listed
    # 机器忙时忙的也分不到一整个 CPU：只比大小。
    [more] = json.loads(scns(running_system, "efficiency", busy, "--json").stdout)["jobs"]
    assert more["cpu"] > found["cpu"]


def test_what_asking_for_less_would_have_saved(running_system: RunningSystem) -> None:
    """三个各要全部 CPU、其实闲着的只能一个接一个；照建议要就能一起跑：真的重放出来。"""
    cpus = min(node["cpus"] for node in running_system.call("GET", "/nodes")[1]["nodes"])
    [name] = [node["name"] for node in running_system.call("GET", "/nodes")[1]["nodes"] if node["cpus"] == cpus][:1]
    jobs = [
        running_system.submit(
            "sleep 2", cpus_per_task=cpus, required_nodes=name, memory_per_node="16M", time_limit="1", account="saving"
        )
        for _ in range(3)
    ]
    for job_id in jobs:
        running_system.wait_state(job_id, "COMPLETED")
    words = ("efficiency", "-A", "saving", "--saved", "--since", "now-1hour")
    found = json.loads(scns(running_system, *words, "--json").stdout)
    assert all(job["next"]["cpus"] == 1 for job in found["jobs"])
    saved = found["saved"]
    assert saved["changed_jobs"] == 3
    assert saved["replayed_jobs"] >= 3
    # 照原来要：后两个各等前面的；照建议要：谁也不等谁。
    assert saved["wait_s"] >= 1.0
    assert saved["wait_as_suggested_s"] <= saved["wait_s"] - 1.0
    assert "照建议要" in scns(running_system, *words).stdout
    assert "没有要改的作业" in scns(running_system, "efficiency", "-A", "nobody-at-all", "--saved").stdout
