"""单用户模式的 API 直接读输出的文件：一个作业的输出在不答话的文件系统上，只有它自己的输出读不到。"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hung_folder import hung_folder

from running_system import RunningSystem, wait_until

pytestmark = pytest.mark.faults
ASKING = 30


def test_a_hung_output_folder_does_not_starve_the_api(running_system: RunningSystem, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    script = "#!/bin/sh\necho 有了\nexec sleep 300\n"
    stuck = running_system.submit(script, name="output-hangs", standard_output=str(far / "out"))
    other = running_system.submit(script, name="output-answers", standard_output=str(tmp_path / "out"))
    for path in (far / "out", tmp_path / "out"):
        wait_until(lambda path=path: path.exists() and path.read_text() == "有了\n", what=f"{path} 写好")
    with ThreadPoolExecutor(ASKING) as pool, hung_folder(far):
        asked = [pool.submit(running_system.call, "GET", f"/jobs/{stuck}/logs/stdout") for _ in range(ASKING)]
        for answer in asked:
            status, problem = answer.result(60)
            assert (status, problem["code"]) == (504, "answer_timeout")
        # 那些还都挂着：别人的输出、要别的线程的（采样的曲线）照样有回答。
        assert running_system.call("GET", f"/jobs/{other}/logs/stdout") == (200, "有了\n")
        assert running_system.call("GET", f"/jobs/{other}/samples")[0] == 200
    read = lambda: running_system.call("GET", f"/jobs/{stuck}/logs/stdout") == (200, "有了\n")  # noqa: E731
    wait_until(read, what="答话了又读得到")
    for job_id in (stuck, other):
        running_system.call("POST", f"/jobs/cancel/{job_id}")
        running_system.wait_state(job_id)
