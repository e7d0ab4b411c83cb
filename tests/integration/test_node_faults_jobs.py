"""作业自己闯的祸，从分配到数据库里的结局：撑爆内存、一万个进程、1 GB 输出、坏编码、逃跑的后代。"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.worker.host.cgroup import node_cgroup_path

pytestmark = pytest.mark.faults


@pytest.fixture
def yard(settings: Settings, tmp_path: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, tmp_path)
    running.start_agent(SCNS_NODE_MEMORY="16G")
    yield running
    running.close()


def settled(yard: NodeYard) -> None:
    """节点还能用，什么也没有留下。"""
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
    assert yard.query("SELECT 1 FROM resource_allocations WHERE released_at IS NULL") == []
    node = yard.node()
    assert (node["state"], node["drain"], node["allocated_cpus"], node["allocated_memory"]) == ("UP", False, 0, 0)
    assert list((yard.work / "n1" / "scripts").glob("job_*")) == []


def test_filling_memory_is_out_of_memory_and_says_so(yard: NodeYard) -> None:
    """有 cgroup 时由内核杀，没有时由采样杀；状态都是 OUT_OF_MEMORY。"""
    job_id = yard.submit("exec python3 -c 'x = bytearray(b\"1\") * (300 * 1024**2); import time; time.sleep(60)'\n")
    yard.start(job_id, memory=100)
    job = yard.ended(job_id)
    assert (job["state"], job["reason"]) == ("OUT_OF_MEMORY", "OutOfMemory")
    assert "内存" in job["error_msg"]
    settled(yard)


FORK_TEN_THOUSAND = """
import os, signal
born = 0
for _ in range(10000):
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        signal.pause()
    born += 1
open('born', 'w').write(str(born))
"""


def test_ten_thousand_processes_are_stopped_at_the_limit_and_all_gone(yard: NodeYard) -> None:
    (yard.output / "bomb.py").write_text(FORK_TEN_THOUSAND)
    job_id = yard.run("exec python3 -S bomb.py\n")
    # 几千个进程的创建与杀尽，在忙的机器上要久一些。
    wait_until(lambda: yard.job(job_id)["state"] in ("COMPLETED", "FAILED"), "作业结束", wait_s=120)
    if yard.node()["containment"]["pids"] == "cgroup":
        assert int((yard.output / "born").read_text()) < 4096 + 1024 + 1
    owner = node_cgroup_path("n1", str(yard.spool("n1")))
    marker = re.compile(rf"SCNS_JOB_KEY={job_id}\.0\.batch\.\d+@{re.escape(owner)}".encode())
    assert [pid for pid in live_pids() if marker.search(environment_of(pid))] == []
    settled(yard)


def live_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and alive(int(entry.name))]


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_a_gigabyte_of_output_costs_only_its_tail(yard: NodeYard) -> None:
    job_id = yard.run("head -c 1073741824 /dev/zero; echo; echo 末尾\n")
    assert yard.ended(job_id)["state"] == "COMPLETED"
    (row,) = yard.query("SELECT octet_length(content) AS kept, total_bytes FROM job_outputs")
    assert row == {"kept": 65536, "total_bytes": 1073741824 + len("\n末尾\n".encode())}
    tail = yard.output_of(job_id)
    assert tail is not None
    assert tail.endswith("\n末尾\n".encode())
    job = yard.job(job_id)
    assert job["written_bytes"] >= 1073741824
    (yard.output / f"slurm-{job_id}.out").unlink()
    settled(yard)


def test_binary_and_invalid_utf8_are_kept_as_they_are(yard: NodeYard) -> None:
    script = "printf '\\xff\\xfe\\x00\\x80\\xed\\xa0\\x80'; printf '\\xc3(' >&2; exit 5\n"
    job_id = yard.run(script, standard_error="err-%j")
    job = yard.ended(job_id)
    assert (job["state"], job["exit_status"]) == ("FAILED", 5)
    assert yard.output_of(job_id) == b"\xff\xfe\x00\x80\xed\xa0\x80"
    assert yard.output_of(job_id, "stderr") == b"\xc3("
    settled(yard)


def test_closed_streams_and_a_daemon_that_left_do_not_outlive_the_job(yard: NodeYard) -> None:
    """关闭三个标准流，双重 fork 加 setsid 逃走、忽略 SIGTERM：脚本一结束，后代全都没了。"""
    script = """exec 0<&- 1>&- 2>&-
python3 -S - <<'PY'
import os, signal
for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(sig, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('stray', 'w').write(str(os.getpid()))
        signal.pause()
    os._exit(0)
os.wait()
PY
while [ ! -s stray ]; do sleep 0.1; done
exit 6
"""
    job = yard.ended(yard.run(script))
    assert (job["state"], job["exit_status"]) == ("FAILED", 6)
    assert not alive(int((yard.output / "stray").read_text()))
    settled(yard)


def test_user_and_directory_that_do_not_exist_fail_once_and_do_not_loop(yard: NodeYard) -> None:
    yard.kill_agent()
    yard.start_agent(SCNS_SINGLE_USER="false", SCNS_ALLOW_ROOT_JOBS="true")
    nobody = yard.run("true\n", user_name="没有这个人")
    nowhere = yard.run("true\n", current_working_directory="/没有/这个/目录", user_name=user_here())
    for job_id, words in ((nobody, "没有用户"), (nowhere, "/没有/这个/目录")):
        job = yard.ended(job_id)
        assert (job["state"], job["restart_count"]) == ("FAILED", 0)
        assert words in job["error_msg"]
    wait_until(lambda: yard.node()["state"] == "UP" and not yard.node()["drain"], "节点照常")


def user_here() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
