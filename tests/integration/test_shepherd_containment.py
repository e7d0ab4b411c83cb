"""牧守进程圈得住作业：内存、进程数、核、设备、用户、逃脱。需要 root 与可写的 cgroup v1 或 v2 控制器。"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shepherd_yard import Yard, alive, wait_until

from scns_conductor.worker.agent.shepherd_client import ShepherdError
from scns_conductor.worker.host import cgroup, cgroup_v2
from scns_conductor.worker.host.cgroup import CgroupLimits

ALICE, BOB = 61001, 61002
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="需要 root：切换用户、写 cgroup")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    # 作业的用户要能走到工作目录；pytest 的临时目录是 0700 的。
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and "pytest" in str(parent):
            parent.chmod(0o711)
    spool, work = tmp_path / "spool", tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    scripts.chmod(0o711)
    running = Yard(spool, work, "auto")
    yield running
    running.stop()


@pytest.fixture
def soft_yard(tmp_path: Path) -> Iterator[Yard]:
    spool, work = tmp_path / "spool", tmp_path / "work"
    work.mkdir()
    running = Yard(spool, work, "off")
    yield running
    running.stop()


def needs(yard: Yard, what: str) -> None:
    if getattr(yard.hello.capabilities, what) != "cgroup":
        pytest.skip(f"这台机器的 cgroup 不能约束 {what}：{yard.hello.capabilities.detail}")


def as_user(yard: Yard, uid: int, job_id: int = 1) -> dict[str, Any]:
    return {
        "uid": uid,
        "gid": uid,
        "groups": [uid],
        "script_path": str(yard.spool.parent / "scripts" / f"job_{job_id}.sh"),
        "argv": ["/bin/bash", str(yard.spool.parent / "scripts" / f"job_{job_id}.sh")],
    }


FILL_MEMORY = "exec python3 -c 'x = bytearray(400 * 1024**2); print(len(x))'\n"


@needs_root
def test_memory_limit_is_out_of_memory(yard: Yard) -> None:
    needs(yard, "memory")
    yard.launch(1, FILL_MEMORY, memory_bytes=100 * 1024**2)
    yard.launch(2, FILL_MEMORY, memory_bytes=600 * 1024**2)
    assert yard.end(1).cause == "oom"
    assert (yard.end(2).cause, yard.end(2).exit_status) == ("exit", 0)


@needs_root
def test_the_smallest_limit_holds_and_the_shepherd_stays_out_of_it(yard: Yard) -> None:
    """上限比牧守进程自己还小也一样：它出来之后才写上限。"""
    needs(yard, "memory")
    pid = yard.client.hello().pid
    for number in range(1, 6):
        yard.launch(number, FILL_MEMORY, memory_bytes=8 * 1024**2)
    assert {yard.end(number).cause for number in range(1, 6)} == {"oom"}
    yard.launch(6, "sleep 100\n", memory_bytes=16 * 1024**2)
    path = f"memory/{cgroup.node_cgroup_path('yard', str(yard.spool))}/job_6_0/memory.limit_in_bytes"
    written = Path("/sys/fs/cgroup") / path
    if written.exists():
        assert int(written.read_text()) == 16 * 1024**2
    assert "job_" not in Path(f"/proc/{pid}/cgroup").read_text()
    assert yard.client.hello().pid == pid


@needs_root
def test_a_limit_that_was_not_yet_written_is_written_on_adoption(yard: Yard) -> None:
    """牧守进程死在启动与写上限之间：接管的补上。"""
    needs(yard, "memory")
    yard.launch(1, "sleep 100\n", memory_bytes=32 * 1024**2)
    place = cgroup.node_cgroup_path("yard", str(yard.spool))
    written = Path("/sys/fs/cgroup/memory") / place / "job_1_0" / "memory.limit_in_bytes"
    if not written.exists():
        pytest.skip("不是 v1")
    yard.kill_shepherd()
    for name in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"):
        with contextlib.suppress(FileNotFoundError):
            (written.parent / name).write_text("-1")
    yard.reconnect()
    assert int(written.read_text()) == 32 * 1024**2


@needs_root
def test_out_of_memory_in_a_child_is_told_even_if_the_script_succeeds(yard: Yard) -> None:
    needs(yard, "memory")
    yard.launch(1, FILL_MEMORY.replace("exec ", "") + "exit 0\n", memory_bytes=100 * 1024**2)
    assert yard.end(1).cause == "oom"


def test_memory_limit_without_cgroup_is_enforced_by_sampling(soft_yard: Yard) -> None:
    script = "exec python3 -c 'x = bytearray(b\"1\") * (200 * 1024**2)\nimport time; time.sleep(60)'\n"
    soft_yard.launch(1, script, memory_bytes=100 * 1024**2)
    end = soft_yard.end(1)
    assert end.cause == "oom"
    assert "超过上限 100 MiB" in end.message


FORK_BOMB = """
import os, sys
failed = 0
for _ in range(10000):
    try:
        if os.fork() == 0:
            import time
            time.sleep(1000)
    except OSError:
        failed = 1
        break
print('limited' if failed else 'free', flush=True)
"""


@needs_root
def test_fork_bomb_is_limited_and_swept_away(yard: Yard) -> None:
    needs(yard, "pids")
    (yard.work / "bomb.py").write_text(FORK_BOMB)
    answer = yard.launch(1, "python3 bomb.py\n", pids_max=100)
    end = yard.end(1)
    assert end.cause == "exit"
    assert yard.output(1) == b"limited\n"
    assert not alive(answer.pid)
    assert survivors("bomb.py", yard.work) == []


def test_fork_bomb_without_cgroup_is_noticed(soft_yard: Yard) -> None:
    (soft_yard.work / "bomb.py").write_text(FORK_BOMB.replace("10000", "300") + "import time; time.sleep(1000)\n")
    soft_yard.launch(1, "python3 bomb.py\n", pids_max=100)
    end = soft_yard.end(1)
    assert end.cause == "killed"
    assert "进程数" in end.message
    assert survivors("bomb.py", soft_yard.work) == []


def survivors(word: str, work: Path) -> list[int]:
    """工作目录在 work、命令行含 word 的活进程。"""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                if word.encode() in (entry / "cmdline").read_bytes() and (entry / "cwd").readlink() == work:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_orphan_that_wipes_its_traces_is_still_found(soft_yard: Yard) -> None:
    """没有 cgroup，换了会话、抹了环境、双重 fork：靠 subreaper 仍逃不掉。"""
    script = """python3 - <<'PY'
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.execve('/bin/bash', ['bash', '-c', 'echo $$ > hidden; sleep 1000 & wait'], {'PATH': '/bin:/usr/bin'})
    os._exit(0)
os.wait()
PY
while [ ! -s hidden ]; do sleep 0.1; done
"""
    soft_yard.launch(1, script)
    soft_yard.end(1)
    assert not alive(int((soft_yard.work / "hidden").read_text()))
    assert survivors("sleep", soft_yard.work) == []


@needs_root
def test_cores_are_bound(yard: Yard) -> None:
    last = max(os.sched_getaffinity(0))
    script = "python3 -c 'import os; print(os.sched_getaffinity(0)); os.sched_setaffinity(0, range(64)); "
    yard.launch(1, script + "print(os.sched_getaffinity(0))'\n", cpu_ids=[last])
    assert yard.end(1).exit_status == 0
    bound, widened = yard.output(1).decode().splitlines()
    assert bound == f"{{{last}}}"
    if yard.hello.capabilities.cpus == "cgroup":
        assert widened == bound, "作业自己放宽了绑核"


@needs_root
def test_denied_device_cannot_be_opened(yard: Yard) -> None:
    needs(yard, "devices")
    yard.launch(
        1,
        "head -c1 /dev/full >/dev/null && echo full; head -c1 /dev/zero > /dev/null && echo zero\n",
        device_deny=["c 1:7 rwm"],
    )
    yard.end(1)
    assert b"zero" in yard.output(1)
    assert b"full\n" not in yard.output(1)


@needs_root
def test_job_runs_as_its_user(yard: Yard) -> None:
    yard.launch(1, "id -u; id -g; id -G; umask; stat -c '%u %a' $0; touch mine\n", umask=0o027, **as_user(yard, ALICE))
    assert yard.end(1).exit_status == 0, yard.output(1)
    assert yard.output(1).decode().split("\n")[:5] == [str(ALICE), str(ALICE), str(ALICE), "0027", f"{ALICE} 700"]
    assert (yard.work / "mine").stat().st_uid == ALICE
    assert (yard.work / "1.out").stat().st_uid == ALICE


@needs_root
def test_output_is_opened_with_the_users_rights_only(yard: Yard) -> None:
    secret = yard.work / "secret"
    secret.write_text("root 的文件\n")
    secret.chmod(0o600)
    (yard.work / "link").symlink_to(secret)
    yard.launch(1, "echo overwritten\n", stdout=str(yard.work / "link"), **as_user(yard, ALICE))
    end = yard.end(1)
    assert end.cause == "launch_failed"
    assert secret.read_text() == "root 的文件\n"


@needs_root
def test_log_is_read_with_the_users_rights_only(yard: Yard) -> None:
    yard.launch(1, "umask 077; echo private\n", umask=0o077, **as_user(yard, ALICE))
    end = yard.end(1)
    alice = {"uid": ALICE, "gid": ALICE, "groups": [ALICE]}
    bob = {"uid": BOB, "gid": BOB, "groups": [BOB]}
    assert yard.client.read_log(end.stdout, 0, 100, **alice) == (b"private\n", 8)
    assert yard.client.read_log(end.stdout, -4, 100, **alice) == (b"ate\n", 8)
    with pytest.raises(ShepherdError) as caught:
        yard.client.read_log(end.stdout, 0, 100, **bob)
    assert caught.value.code == "unreadable"
    (yard.work / "1.out").unlink()
    (yard.work / "1.out").symlink_to("/etc/shadow")
    with pytest.raises(ShepherdError):
        yard.client.read_log(end.stdout, 0, 100, **alice)


@needs_root
def test_cgroup_is_gone_after_the_end(yard: Yard) -> None:
    yard.launch(1, "setsid sleep 100 & true\n", pids_max=50, memory_bytes=2**30)
    yard.end(1)
    path = cgroup.node_cgroup_path("yard", str(yard.spool))

    def left() -> list[Path]:
        return [found for root in Path("/sys/fs/cgroup").iterdir() for found in (root / path).glob("job_*")]

    wait_until(lambda: not left(), "cgroup 删除")


@needs_root
def test_user_job_escaping_by_setsid_dies_with_the_script(yard: Yard) -> None:
    yard.launch(1, "setsid sleep 1000 & echo $! > stray\n", **as_user(yard, ALICE))
    yard.end(1)
    assert not alive(int((yard.work / "stray").read_text()))


@needs_root
def test_v2_hierarchy_holds_freezes_and_kills(tmp_path: Path) -> None:
    """这台机器的 v2 上没有控制器，但圈住、冻结、杀尽与控制器无关。"""
    point = next((point for kind, point, _ in cgroup.mounts() if kind == "cgroup2"), None)
    if point is None:
        pytest.skip("没有挂载 cgroup v2")
    tree = cgroup_v2.open_tree(point, point, cgroup.node_cgroup_path("v2", str(tmp_path)), own_root=True)
    job = tree.create("job_1_0", CgroupLimits())
    enter = f"open({job.entrances[0]!r}, 'w').write('0')"
    code = f"import os, time; {enter}; os.fork(); os.setsid() if os.getpid() % 2 else None; time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: len(job.pids()) == 2, "两个进程都在里面")
        wait_until(lambda: job.freeze(True), "冻结")
        assert not job.remove()
        job.freeze(False)
        job.kill()
        assert process.wait() == -9
        wait_until(lambda: not job.pids(), "杀尽")
        assert tree.leftovers() == ["job_1_0"]
        assert job.remove()
    finally:
        process.kill()
        tree.remove()


def test_v2_limits_are_written_where_the_kernel_reads_them(tmp_path: Path) -> None:
    """没有 v2 控制器的机器上，用一棵普通目录核对写了哪些文件、写了什么。"""
    (tmp_path / "cgroup.controllers").write_text("cpuset memory pids")
    (tmp_path / "cgroup.procs").touch()
    tree = cgroup_v2.CgroupTreeV2(str(tmp_path), str(tmp_path), frozenset({"memory", "pids", "cpuset"}))
    original = os.mkdir

    def mkdir_with_files(path: str, mode: int = 0o777) -> None:
        original(path, mode)
        for name in ("memory.max", "memory.swap.max", "pids.max", "cpuset.cpus"):
            Path(path, name).touch()

    os.mkdir = mkdir_with_files
    try:
        job = tree.create("job_7_1", CgroupLimits(memory_bytes=1000, pids_max=5, cpu_ids=[3, 1, 2, 7]))
        job.limit_memory(1000)
    finally:
        os.mkdir = original
    directory = tmp_path / "job_7_1"
    assert (directory / "memory.max").read_text() == "1000"
    assert (directory / "memory.swap.max").read_text() == "0"
    assert (directory / "pids.max").read_text() == "5"
    assert (directory / "cpuset.cpus").read_text() == "1-3,7"
