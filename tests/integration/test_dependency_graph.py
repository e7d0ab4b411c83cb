"""依赖图：它等谁、谁等它，数组是一个；不相干的不在里面。"""

from running_system import RunningSystem
from scns_conductor.client import Client


def test_both_directions(running_system: RunningSystem) -> None:
    def submit(**job: object) -> str:
        return running_system.submit("#!/bin/bash\ntrue\n", hold=True, **job)

    first = submit(name="预处理")
    array = submit(name="扫描", array="0-3", dependency=f"afterok:{first}")
    other = submit(name="另一路", dependency=f"afterany:{first}")
    last = submit(name="汇总", dependency=f"afterok:{array}:{other}")
    # 不经过 array 的：不在它的图里。
    stranger = submit(name="无关", dependency=f"afterany:{other}")
    with Client(running_system.url, running_system.token) as client:
        graph = client.dependencies(array)
        above = client.dependencies(last)
        task = client.dependencies(f"{array}_2")
    levels = {job.job_id: job.level for job in graph.jobs}
    assert levels == {first: -1, array: 0, last: 1}
    assert {(edge["kind"], edge["from"], edge["to"]) for edge in graph.edges} == {
        ("afterok", first, array),
        ("afterok", array, last),
    }
    assert graph.complete
    assert {job.job_id: job.level for job in above.jobs} == {last: 0, array: -1, other: -1, first: -2}
    assert (task.job_id, len(task.jobs)) == (array, 3)
    assert running_system.call("GET", "/jobs/999999999/dependencies")[0] == 404
    for job_id in (first, array, other, last, stranger):
        running_system.call("POST", f"/jobs/cancel/{job_id}")
