"""cgroup v1：结束了的作业的空目录换个名字给下一个用；不干净的、限制不同的都不换。"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shepherd_yard import Yard, wait_until

from scns_conductor.worker.host import cgroup_v1
from scns_conductor.worker.host.cgroup import CgroupLimits, node_cgroup_path
from scns_conductor.worker.host.cgroup_v1 import CgroupTreeV1, JobCgroupV1
from scns_conductor.worker.host.cgroup_v1_spares import OPENED_MOST

ROOT = Path("/sys/fs/cgroup")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (ROOT / "freezer" / "tasks").exists() or not (ROOT / "pids").exists(),
    reason="要 root 与可写的 cgroup v1（freezer、pids）",
)
LIMITS = CgroupLimits(pids_max=50)


@pytest.fixture
def place(tmp_path: Path) -> str:
    return node_cgroup_path("spares", str(tmp_path))


@pytest.fixture
def tree(place: str) -> Iterator[CgroupTreeV1]:
    found = cgroup_v1.detect(place)
    assert found is not None
    yield found
    for name in found.leftovers():
        left = found.attach(name)
        left.kill()
        wait_until(left.remove, f"{name} 删掉")
    found.remove()
    assert list(ROOT.glob(f"*/{place}")) == []


def folder(place: str, kind: str, name: str) -> Path:
    return ROOT / kind / place / name


def spares(place: str) -> list[str]:
    return sorted(path.name for path in (ROOT / "freezer" / place).glob("spare_*"))


@contextlib.contextmanager
def process_in(job: JobCgroupV1) -> Iterator[int]:
    """一个进程，按作业进 cgroup 的办法进去了。"""
    code = f"import sys; from scns_conductor.worker.host.cgroup import move_to; move_to({job.entrances!r}); "
    code += "print(); sys.stdout.flush(); sys.stdin.read()"
    fds = [entrance for entrance in job.entrances if isinstance(entrance, int)]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == b"\n", "进不去"
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def inodes(place: str, name: str, kinds: tuple[str, ...] = ("freezer", "pids")) -> list[int]:
    return [folder(place, kind, name).stat().st_ino for kind in kinds]


def test_the_next_job_of_the_same_limits_gets_the_same_directories(tree: CgroupTreeV1, place: str) -> None:
    kinds = ("freezer", "pids", "cpuset")
    known: list[int] | None = None
    for number in (1, 2, 3):
        job = tree.create(f"job_{number}_0", CgroupLimits(pids_max=50, cpu_ids=[0], memory_bytes=2**30))
        found = inodes(place, job.name, kinds)
        assert known in (None, found)
        known = found
        assert folder(place, "pids", job.name).joinpath("pids.max").read_text().strip() == "50"
        # 内存的总是新的：上一个的上限、用量、被杀的次数都不带过来。
        limit = folder(place, "memory", job.name) / "memory.limit_in_bytes"
        assert int(limit.read_text()) > 2**30
        job.limit_memory(2**30)
        with process_in(job) as pid:
            assert job.pids() == [pid]
            assert os.sched_getaffinity(pid) == {0}
            inside = [line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if place in line]
            assert [line.rpartition("/")[2] for line in inside] == [job.name] * 4
        wait_until(lambda job=job: not job.pids(), "空了")
        assert job.remove()
        assert list(ROOT.glob(f"*/{place}/job_*")) == []


def test_other_limits_get_their_own(tree: CgroupTreeV1, place: str) -> None:
    assert tree.create("job_1_0", LIMITS).remove()
    other = tree.create("job_2_0", CgroupLimits(pids_max=60))
    assert folder(place, "pids", "job_2_0").joinpath("pids.max").read_text().strip() == "60"
    assert len(spares(place)) == 1
    assert other.remove()
    assert len(spares(place)) == 2


def test_what_was_frozen_is_not_kept(tree: CgroupTreeV1, place: str) -> None:
    job = tree.create("job_1_0", LIMITS)
    job.freeze(True)
    job.freeze(False)
    assert job.remove()
    assert spares(place) == []


@pytest.mark.parametrize("kind", ["freezer", "pids"])
def test_a_process_or_a_directory_left_in_any_controller_keeps_it_from_being_reused(
    tree: CgroupTreeV1, place: str, kind: str
) -> None:
    """作业（root 的）把进程挪出了 freezer、留在别的控制器里，或自己建了下级：删不掉，也不给别人。"""
    job = tree.create("job_1_0", LIMITS)
    process = subprocess.Popen(["sleep", "1000"])
    try:
        (folder(place, kind, "job_1_0") / "cgroup.procs").write_text(str(process.pid))
        assert not job.remove()
    finally:
        process.kill()
        process.wait()
    (folder(place, kind, "job_1_0") / "own").mkdir()
    assert not job.remove()
    assert spares(place) == []
    (folder(place, kind, "job_1_0") / "own").rmdir()
    wait_until(job.remove, "删掉")


def test_a_core_that_went_away_and_came_back_is_not_missed_by_the_next_job(tree: CgroupTreeV1, place: str) -> None:
    """核下线时内核从 v1 的 cpuset 里抹去它，上线了也不还（这里由测试来抹）。"""
    both = CgroupLimits(pids_max=50, cpu_ids=[0, 1])
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("只有一个核")
    assert tree.create("job_1_0", both).remove()
    (folder(place, "cpuset", spares(place)[0]) / "cpuset.cpus").write_text("0")
    job = tree.create("job_2_0", both)
    assert folder(place, "cpuset", "job_2_0").joinpath("cpuset.cpus").read_text().strip() == "0-1"
    assert spares(place) == []
    assert job.remove()


def test_a_login_that_slips_into_a_spare_is_ended_and_not_given_to_the_next_job(tree: CgroupTreeV1, place: str) -> None:
    assert tree.create("job_1_0", LIMITS).remove()
    process = subprocess.Popen(["sleep", "1000"])
    try:
        for kind in ("freezer", "pids"):
            (folder(place, kind, spares(place)[0]) / "cgroup.procs").write_text(str(process.pid))
        job = tree.create("job_2_0", LIMITS)
        assert process.wait(60) == -signal.SIGKILL
        assert job.pids() == []
        assert job.remove()
    finally:
        process.kill()


def test_a_spare_that_somebody_removed_is_not_missed(tree: CgroupTreeV1, place: str) -> None:
    assert tree.create("job_1_0", LIMITS).remove()
    folder(place, "pids", spares(place)[0]).rmdir()
    job = tree.create("job_2_0", LIMITS)
    with process_in(job) as pid:
        assert job.pids() == [pid]
    wait_until(job.remove, "删掉")


def test_a_name_that_is_taken_is_said_and_the_spare_stays(tree: CgroupTreeV1, place: str) -> None:
    assert tree.create("job_1_0", LIMITS).remove()
    taken = folder(place, "pids", "job_2_0")
    taken.mkdir()
    known = inodes(place, spares(place)[0])
    with pytest.raises(FileExistsError):
        tree.create("job_2_0", LIMITS)
    taken.rmdir()
    job = tree.create("job_2_0", LIMITS)
    assert inodes(place, "job_2_0") == known
    assert job.remove()


def test_open_files_and_spares_stay_bounded(tree: CgroupTreeV1, place: str) -> None:
    """限制各不相同的来了许多：先留的先删，后来的照样留得下。"""
    for number in range(1, OPENED_MOST + 30):
        assert tree.create(f"job_{number}_0", CgroupLimits(pids_max=number)).remove()
    assert len(spares(place)) == OPENED_MOST
    last = OPENED_MOST + 29
    known = inodes(place, spares(place)[-1])
    before = len(os.listdir("/proc/self/fd"))
    assert known in [inodes(place, name) for name in spares(place)]
    jobs = [tree.create(f"job_{number}_1", CgroupLimits(pids_max=last)) for number in range(OPENED_MOST + 30)]
    assert all(job.remove() for job in jobs)
    assert len(spares(place)) == OPENED_MOST
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_killed_shepherd_leaves_no_spares(tmp_path: Path) -> None:
    spool, work = tmp_path / "spool", tmp_path / "work"
    work.mkdir()
    yard = Yard(spool, work, "auto")
    path = ROOT / "freezer" / node_cgroup_path("yard", str(spool))

    def kept() -> list[str]:
        return [each.name for each in path.iterdir() if each.is_dir()]

    try:
        yard.launch(1, "echo one\n", pids_max=50)
        assert yard.end(1).exit_status == 0
        wait_until(lambda: kept() == ["spare_1"], "留着一个")
        yard.launch(2, "cat /proc/self/cgroup\n", pids_max=50)
        assert yard.end(2).exit_status == 0
        assert f"{path.name}/job_2_0" in yard.output(2).decode()
        yard.kill_shepherd()
        yard.reconnect()
        wait_until(lambda: not kept(), "旧的留下的都删掉")
        yard.launch(3, "sleep 1000 & true\n", pids_max=50)
        # 还有后台进程：杀尽了才算结束，它的目录动过，不留。
        assert yard.end(3).exit_status == 0
        wait_until(lambda: not kept(), "删掉")
    finally:
        yard.stop()
