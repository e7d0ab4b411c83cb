"""牧守进程：启动、结束、失败、时限、信号、重连、接管。全用真的进程。"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shepherd_yard import Yard, alive, wait_until

from scns_conductor.worker.agent.shepherd_client import ShepherdError, ShepherdGone, start_shepherd
from scns_conductor.worker.agent.shepherd_keeping import ShepherdKeeping
from scns_conductor.worker.shepherd.journal import decode_line, encode_line
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.frames import FrameBuffer, encode
from scns_conductor.worker.wire.record import PROTOCOL_VERSION
from scns_conductor.worker.wire.shepherd_messages import LaunchAnswer


@pytest.fixture(params=["auto", "off"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    spool, work = tmp_path / "spool", tmp_path / "work"
    work.mkdir()
    running = Yard(spool, work, request.param)
    yield running
    try:
        running.client.hello()
    except ShepherdGone:
        running.connect()
    running.stop()


def test_exit_code_output_and_usage_arrive(yard: Yard) -> None:
    yard.launch(1, "#!/bin/bash\necho 你好; echo 错误 >&2; head -c 100000 /dev/zero >/dev/null; exit 3\n")
    end = yard.end(1)
    assert (end.exit_status, end.exit_signal, end.cause) == (3, 0, "exit")
    assert yard.output(1).decode() == "你好\n错误\n"
    assert end.usage.max_rss_kb > 0
    assert end.usage.read_bytes >= 100_000
    assert end.started_unix_s <= end.ended_unix_s
    assert not (yard.spool / "job_1.sh").exists()


def test_death_by_signal_is_told(yard: Yard) -> None:
    yard.launch(1, "kill -SEGV $$\n")
    end = yard.end(1)
    assert (end.exit_status, end.exit_signal, end.cause) == (0, signal.SIGSEGV, "exit")


def test_same_key_starts_once(yard: Yard) -> None:
    yard.launch(1, "echo x >> runs; sleep 0.2\n")
    assert yard.launch(1, "echo x >> runs\n") == LaunchAnswer(key="1.0.batch", state="running", duplicate=True)
    yard.end(1)
    assert yard.launch(1, "echo x >> runs\n").state == "ended"
    yard.client.ack([yard.end(1)])
    assert yard.launch(1, "echo x >> runs\n").state == "ended"
    assert (yard.work / "runs").read_text() == "x\n"
    yard.launch(1, "echo y >> runs\n", attempt=1)
    yard.end(1, attempt=1)
    assert (yard.work / "runs").read_text() == "x\ny\n"


def test_binary_output_and_append_mode(yard: Yard) -> None:
    yard.launch(1, r"printf '\xff\x00\xfe'" + "\n")
    yard.end(1)
    assert yard.output(1) == b"\xff\x00\xfe"
    yard.launch(1, "printf more\n", attempt=1, output_mode="append")
    yard.end(1, attempt=1)
    assert yard.output(1) == b"\xff\x00\xfemore"
    yard.launch(1, "printf new\n", attempt=2, output_mode="truncate")
    yard.end(1, attempt=2)
    assert yard.output(1) == b"new"


def test_separate_stderr_and_stdin(yard: Yard) -> None:
    (yard.work / "in").write_text("来自文件\n")
    yard.launch(1, "cat; echo e >&2\n", stdin=str(yard.work / "in"), stderr=str(yard.work / "1.err"))
    yard.end(1)
    assert yard.output(1).decode() == "来自文件\n"
    assert (yard.work / "1.err").read_text() == "e\n"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cwd": "/nowhere/at/all"}, "工作目录 /nowhere/at/all"),
        ({"stdout": "/nowhere/at/all/out"}, "/nowhere/at/all/out"),
        ({"stdin": "/nowhere/in"}, "/nowhere/in"),
        ({"argv": ["/nowhere/python"]}, "无法执行 /nowhere/python"),
        ({"argv": ["/bin/ba\0sh"]}, "无法执行"),
        ({"cwd": "/nowhere/at/all", "nice": 1}, "工作目录 /nowhere/at/all"),
        ({"stdout": "/nowhere/at/all/out", "nice": 1}, "/nowhere/at/all/out"),
        ({"argv": ["/nowhere/python"], "nice": 1}, "无法执行 /nowhere/python"),
    ],
)
def test_launch_failure_is_an_end_with_the_reason(yard: Yard, options: dict[str, Any], word: str) -> None:
    yard.launch(1, "true\n", **options)
    end = yard.end(1)
    assert end.cause == "launch_failed"
    assert not end.on_node
    assert end.exit_status != 0
    assert word in end.message
    yard.launch(2, "true\n")
    assert yard.end(2).exit_status == 0


def test_fifo_without_reader_does_not_hang_the_shepherd(yard: Yard) -> None:
    os.mkfifo(yard.work / "pipe")
    yard.launch(1, "true\n", stdout=str(yard.work / "pipe"))
    assert yard.end(1).cause == "launch_failed"


def test_unwritable_script_directory_is_the_nodes_fault(yard: Yard) -> None:
    yard.launch(1, "true\n", script_path="/nowhere/job_1.sh")
    end = yard.end(1)
    assert (end.cause, end.on_node) == ("launch_failed", True)


def test_a_script_written_aside_is_removed_and_only_if_it_is_still_its_own(yard: Yard) -> None:
    """目录也许不答话的，脚本由作业的进程写下、另一个进程删掉；换了牧守进程也认得出同名的是别的节点写的。"""
    held = "until [ -e go ]; do sleep 0.1; done; exit 3\n"
    for job_id in (1, 2):
        yard.launch(job_id, held, opens_aside=True)
    paths = [Path(str(yard.spec(job_id, held).script_path)) for job_id in (1, 2)]
    wait_until(lambda: all(path.exists() and path.read_text() == held for path in paths), "写下了")
    journal = yard.spool / "shepherd.journal"
    # 启动的那一行里是 null：作业的进程报来了才有数。
    noted = re.compile(r'"script_inode":\s*[0-9]')
    wait_until(lambda: len(noted.findall(journal.read_text())) == 2, "记下了是哪一个")
    yard.kill_shepherd()
    yard.connect()
    others = paths[1].with_suffix(".new")
    others.write_text("echo others\n")
    others.rename(paths[1])
    (yard.work / "go").touch()
    assert {yard.end(job_id).cause for job_id in (1, 2)} <= {"exit", "unseen"}
    wait_until(lambda: not paths[0].exists(), "收走")
    yard.launch(3, "exit 4\n", opens_aside=True)
    assert yard.end(3).exit_status == 4
    wait_until(lambda: not Path(str(yard.spec(3, "").script_path)).exists(), "收走")
    assert paths[1].read_text() == "echo others\n"
    paths[1].unlink()


def test_time_limit_term_then_kill(yard: Yard) -> None:
    yard.launch(1, "trap '' TERM\nwhile :; do sleep 0.1; done\n", time_limit_s=0.3)
    end = yard.end(1)
    assert (end.cause, end.exit_signal) == ("timeout", signal.SIGKILL)
    assert "时限" in end.message


def test_time_limit_can_be_changed_while_running(yard: Yard) -> None:
    yard.launch(1, "touch ready1; sleep 60\n", time_limit_s=600)
    yard.launch(2, "touch ready2; sleep 0.6\n", time_limit_s=0.3)
    yard.client.set_time_limit([(2, None)], None)
    wait_until((yard.work / "ready1").exists, "脚本开始")
    yard.client.set_time_limit([(1, 0)], 0.2)
    assert yard.end(1).cause == "timeout"
    assert (yard.end(2).cause, yard.end(2).exit_status) == ("exit", 0)


def test_time_limit_lets_the_script_clean_up(yard: Yard) -> None:
    yard.launch(1, "trap 'echo bye; exit 0' TERM\nsleep 30 & wait\n", time_limit_s=0.2, grace_s=15)
    end = yard.end(1)
    assert (end.cause, end.exit_status) == ("timeout", 0)
    assert yard.output(1) == b"bye\n"


def test_warning_signal_reaches_only_the_batch_shell(yard: Yard) -> None:
    script = "trap 'echo warned; exit 7' USR1\ntouch ready\n(trap 'echo child' USR1; sleep 0.1; sleep 30) &\nwait\n"
    yard.launch(1, script, time_limit_s=1.5, warn_signal=signal.SIGUSR1, warn_before_s=1.0, warn_batch_only=True)
    assert yard.end(1).exit_status == 7
    assert yard.output(1) == b"warned\n"


def test_kill_gives_the_cause(yard: Yard) -> None:
    yard.launch(1, "touch ready; sleep 60\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    assert yard.client.kill([(1, None)], cause="cancel", message="用户取消", grace_s=5) == [(1, 0)]
    end = yard.end(1)
    assert (end.cause, end.message, end.exit_signal) == ("cancel", "用户取消", signal.SIGTERM)
    assert yard.client.kill([(1, None), (99, 0)], cause="cancel") == []


def test_second_kill_can_only_hurry(yard: Yard) -> None:
    yard.launch(1, "trap '' TERM\ntouch ready\nwhile :; do sleep 0.1; done\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    yard.client.kill([(1, 0)], cause="cancel", grace_s=600)
    yard.client.kill([(1, 0)], cause="preempt", grace_s=0)
    end = yard.end(1)
    assert (end.cause, end.exit_signal) == ("cancel", signal.SIGKILL)


def test_closed_standard_streams_do_no_harm(yard: Yard) -> None:
    yard.launch(1, "exec 0<&- 1>&- 2>&-\nexit 5\n")
    assert yard.end(1).exit_status == 5


def test_descendants_are_killed_when_the_script_ends(yard: Yard) -> None:
    script = """
setsid sleep 1000 & echo $! > plain
python3 - <<'PY'
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('double', 'w').write(str(os.getpid()))
        os.execve('/bin/sleep', ['sleep', '1000'], {})
    os._exit(0)
os.wait()
PY
while [ ! -s double ]; do sleep 0.1; done
"""
    yard.launch(1, script)
    assert yard.end(1).exit_status == 0
    for name in ("plain", "double"):
        pid = int((yard.work / name).read_text())
        assert not alive(pid), f"{name} 逃脱了"


def test_suspend_stops_and_resume_continues_without_using_up_the_limit(yard: Yard) -> None:
    yard.launch(1, "while :; do echo x >> ticks; sleep 0.02; done\n", time_limit_s=1.0)
    wait_until((yard.work / "ticks").exists, "脚本开始")
    assert yard.client.suspend([(1, None)]) == [(1, 0)]

    def size() -> int:
        return (yard.work / "ticks").stat().st_size

    pids = [yard.hello.running]
    assert pids is not None
    settled = -1
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        settled = size()
        time.sleep(0.3)
    assert size() == settled, "挂起的作业还在写"
    assert "1.0.batch" not in yard.ends, "挂起的时间不应计入时限"
    assert yard.client.hello(attach=False).running[0].suspended
    yard.client.resume([(1, None)])
    wait_until(lambda: size() > settled, "恢复后继续写")
    assert yard.end(1).cause == "timeout"


def test_suspended_job_can_be_cancelled(yard: Yard) -> None:
    yard.launch(1, "touch ready; sleep 60\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    yard.client.suspend([(1, 0)])
    yard.client.kill([(1, 0)], cause="cancel", grace_s=0)
    assert yard.end(1).cause == "cancel"


def test_ends_wait_for_an_agent_and_keep_their_true_times(yard: Yard) -> None:
    yard.launch(1, "exit 4\n")
    first = yard.end(1)
    yard.client.close()
    yard.ends.clear()
    wait_until(lambda: not (yard.spool / "job_1.sh").exists(), "脚本结束")
    yard.connect()
    again = yard.end(1)
    assert again == first
    yard.client.ack([again])
    yard.ends.clear()
    yard.client.close()
    yard.connect()
    assert yard.hello.unacknowledged == []


def test_new_shepherd_adopts_what_still_runs(yard: Yard) -> None:
    yard.launch(1, "touch ready1; while [ ! -e go ]; do sleep 0.1; done; setsid sleep 1000 & echo $! > stray\n")
    yard.launch(2, "trap '' TERM; touch ready2; while :; do sleep 0.1; done\n", time_limit_s=1.5)
    yard.launch(3, "touch ready3; exit 6\n")
    for name in ("ready1", "ready2", "ready3"):
        wait_until((yard.work / name).exists, name)
    finished = yard.end(3)
    yard.kill_shepherd()
    yard.ends.clear()
    yard.connect()
    assert {task.key for task in yard.hello.running} == {"1.0.batch", "2.0.batch"}
    assert yard.end(3) == finished
    assert yard.launch(1, "echo twice > twice\n").duplicate
    (yard.work / "go").touch()
    # 没有 subreaper 时由 1 号进程回收：抢在它前面才看得见退出码；看不见就说看不见，绝不猜。
    end = yard.end(1)
    assert (end.cause, end.exit_status) in (("exit", 0), ("unseen", None))
    assert not alive(int((yard.work / "stray").read_text()))
    assert yard.end(2).cause == "timeout"
    assert not (yard.work / "twice").exists()


def test_a_job_of_the_same_number_on_another_node_is_not_taken_for_ours(yard: Yard, tmp_path: Path) -> None:
    """同一台机器上另一个节点（另一套系统）有同号的作业：接管、清理都不碰它。"""
    work = tmp_path / "other_work"
    work.mkdir()
    other = Yard(tmp_path / "other", work, yard.containment)
    try:
        # 不 exec：正在 exec 的进程环境是空的，此刻认不出来。
        theirs = other.launch(1, "touch ready; while :; do sleep 1; done\n").pid
        yard.launch(1, "touch ready; while :; do sleep 1; done\n")
        for folder in (work, yard.work):
            wait_until((folder / "ready").exists, "脚本开始")
        yard.kill_shepherd()
        # 没有来得及记下进程号：只能靠环境里的标记找。
        journal = yard.spool / "shepherd.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(line for line in lines if b'"t":"update"' not in line))
        yard.connect()
        (found,) = yard.hello.running
        assert found.pid != theirs
        yard.client.kill([(1, 0)], cause="cancel", grace_s=0)
        assert yard.end(1).cause == "cancel"
        assert alive(theirs)
    finally:
        other.stop()


def test_job_that_ended_while_no_shepherd_lived_is_unseen(yard: Yard) -> None:
    answer = yard.launch(1, "touch ready; while [ ! -e go ]; do sleep 0.1; done\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    yard.kill_shepherd()
    (yard.work / "go").touch()
    wait_until(lambda: not Path(f"/proc/{answer.pid}").exists(), "作业结束，被 1 号进程回收")
    yard.connect()
    assert yard.end(1).cause == "unseen"


def test_corrupt_journal_line_is_set_aside(yard: Yard) -> None:
    yard.launch(1, "exit 1\n")
    yard.launch(2, "exit 2\n")
    yard.end(1), yard.end(2)
    yard.kill_shepherd()
    journal = yard.spool / "shepherd.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    index = next(i for i, line in enumerate(lines) if b'"t":"end"' in line and b'"key":"1.0.batch"' in line)
    lines[index] = lines[index].replace(b'"exit_status":1', b'"exit_status":0')
    journal.write_bytes(b"".join(lines) + b"half a li")
    yard.ends.clear()
    yard.connect()
    assert yard.hello.corrupt_lines == 2
    assert yard.end(2).exit_status == 2
    # 结束行坏了，启动行还在：没有人看见它怎样结束。
    assert yard.end(1).cause == "unseen"
    assert b'"exit_status":0' in (yard.spool / "shepherd.journal.corrupt").read_bytes()


def test_reboot_means_nothing_still_runs(yard: Yard) -> None:
    answer = yard.launch(1, "touch ready; exec sleep 30\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    pid = yard.hello.pid
    yard.kill_shepherd()
    journal = yard.spool / "shepherd.journal"
    records = [decode_line(line) for line in journal.read_bytes().splitlines()]
    assert all(records)
    journal.write_bytes(
        b"".join(
            encode_line({**record, "boot_id": "other"}) if record["t"] == "header" else encode_line(record)
            for record in records
            if record
        )
    )
    yard.connect()
    assert yard.hello.pid != pid
    assert yard.end(1).cause == "reboot"
    assert yard.client.hello().running == []
    if alive(answer.pid):
        # 机器其实没有重启，这个进程是真的；没有 cgroup 时由测试收拾。
        os.kill(answer.pid, signal.SIGKILL)


def test_unknown_version_and_bad_requests_are_refused_clearly(yard: Yard) -> None:
    with pytest.raises(ShepherdError) as caught:
        yard.client.request("hello", v=99)
    assert caught.value.code == "unknown_version"
    with pytest.raises(ShepherdError) as caught:
        yard.client.request("dance")
    assert caught.value.code == "unknown_operation"
    with pytest.raises(ShepherdError) as caught:
        yard.client.request("launch")
    assert caught.value.code == "bad_request"
    # 一份不成样子的说明只拒收它自己。
    answer: dict[str, Any] = yard.client.request("launch", specs=[{"job_id": 1}, "乱写"])
    assert [answer["state"] for answer in answer["launched"]] == ["refused", "refused"]
    yard.launch(1, "true\n")
    assert yard.end(1).exit_status == 0


def test_second_shepherd_on_the_same_spool_defers(yard: Yard) -> None:
    start_shepherd(yard.spool, "yard", containment=yard.containment)
    assert yard.client.hello(attach=False).pid == yard.hello.pid


def test_steps_share_the_job_and_die_with_it(yard: Yard) -> None:
    yard.launch(1, "while [ ! -e go ]; do sleep 0.1; done\n")
    step = {"script_path": None, "argv": ["/bin/sh", "-c", "touch step; sleep 60"]}
    yard.launch(1, None, step="0", stdout=str(yard.work / "step.out"), **step)
    wait_until((yard.work / "step").exists, "作业步开始")
    quick = {"script_path": None, "argv": ["/bin/sh", "-c", "exit 9"]}
    yard.launch(1, None, step="1", stdout=str(yard.work / "step1.out"), **quick)
    assert yard.end(1, step="1").exit_status == 9
    assert "1.0.batch" not in yard.ends
    (yard.work / "go").touch()
    assert yard.end(1).exit_status == 0
    assert yard.end(1, step="0").exit_signal == signal.SIGKILL


def test_signal_targets(yard: Yard) -> None:
    yard.launch(1, "trap 'echo batch' USR1; touch ready; while [ ! -e go ]; do sleep 0.1; done\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    assert yard.client.signal([(1, None)], signal.SIGUSR1, "steps") == 0
    assert yard.client.signal([(1, None)], signal.SIGUSR1, "batch") == 1
    wait_until(lambda: yard.output(1) == b"batch\n", "脚本收到信号")
    (yard.work / "go").touch()
    assert yard.end(1).exit_status == 0


def test_many_jobs_at_once_all_end_exactly_once(yard: Yard) -> None:
    count = 300
    seen: list[str] = []
    original = yard._collect

    def collect(ends: list[EndRecord]) -> None:
        seen.extend(end.key for end in ends)
        original(ends)

    yard.client._on_ends = collect
    yard.client.launch([yard.spec(job_id, f"exit {job_id % 7}\n") for job_id in range(count)])
    wait_until(lambda: len(yard.ends) == count, "全部结束")
    assert sorted(seen) == sorted(f"{job_id}.0.batch" for job_id in range(count))
    assert all(end.exit_status == end.job_id % 7 for end in yard.ends.values())


def test_stats_show_running_usage(yard: Yard) -> None:
    yard.launch(1, "x=$(head -c 30000000 /dev/zero | tr '\\0' x); touch ready; while [ ! -e go ]; do sleep 0.1; done\n")
    wait_until((yard.work / "ready").exists, "脚本开始")
    samples = yard.client.stats()
    (job,) = samples.jobs
    assert samples.steps == []
    assert (job.job_id, job.attempt) == (1, 0)
    assert job.usage.max_rss_kb > 29_000
    (yard.work / "go").touch()
    assert yard.end(1).usage.max_rss_kb > 29_000


@pytest.mark.parametrize("yard", ["auto"], indirect=True)
def test_sampling_reads_the_processes_of_its_jobs_not_of_the_whole_machine(yard: Yard) -> None:
    """机器上别的进程再多，也不为它们花时间；手里没有作业就什么也不读。"""
    if yard.hello.capabilities.kill_all != "cgroup":
        pytest.skip("用不了 cgroup，只能看全部进程")

    def reads() -> int:
        before = read_calls(yard.hello.pid)
        for _ in range(5):
            yard.client.stats()
        return read_calls(yard.hello.pid) - before

    others = [subprocess.Popen(["sleep", "1000"]) for _ in range(100)]
    try:
        # 每次读请求一两次；看一遍全部进程至少一百多次。
        assert reads() < 5 * 20
        yard.launch(1, "sleep 1000 & sleep 1000\n")
        yard.client.launch([yard.spec(1, None, step="0", argv=["/bin/sleep", "1000"], script_path=None)])
        # 脚本、它的两个 sleep 与作业步；脚本何时 fork 由它自己。
        wait_until(
            lambda: [sample.processes for sample in yard.client.stats().jobs] == [4], "作业与作业步的四个进程都在"
        )
        assert reads() < 5 * 60
    finally:
        for process in others:
            process.kill()
            process.wait()


def read_calls(pid: int) -> int:
    """进程至今的 read(2) 次数。"""
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["syscr"])


def test_shutdown_gives_grace_then_leaves_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    yard = Yard(tmp_path / "spool", work, "auto")
    answer = yard.launch(1, "trap 'sleep 0.1; echo cleaned; exit 0' TERM; touch ready; sleep 30 & wait\n")
    wait_until((work / "ready").exists, "脚本开始")
    yard.client.shutdown(10)
    end = yard.end(1)
    assert (end.cause, yard.output(1)) == ("shutdown", b"cleaned\n")
    yard.client.ack([end])
    wait_until(lambda: not alive(yard.hello.pid), "牧守进程退出")
    assert not alive(answer.pid)
    assert not (tmp_path / "spool/shepherd.sock").exists()
    yard.client.close()


def test_shepherd_stays_small(yard: Yard) -> None:
    status = Path(f"/proc/{yard.hello.pid}/status").read_text()
    rss_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert rss_kb < 20 * 1024


def test_frames_survive_any_cut() -> None:
    message = {"op": "x", "text": "中文" * 100}
    data = encode(message) * 3
    buffer = FrameBuffer()
    found = [item for i in range(0, len(data), 7) for item in buffer.feed(data[i : i + 7])]
    assert found == [{"v": PROTOCOL_VERSION, **message}] * 3


@pytest.fixture
def _started_in_background() -> Iterator[None]:
    """像 nohup … & 那样启动牧守进程：这些信号是忽略着继承来的。"""
    former = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    }
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("options", [{}, {"nice": 1}])
@pytest.mark.usefixtures("_started_in_background")
def test_job_starts_with_a_clean_process_state(yard: Yard, options: dict[str, Any]) -> None:
    """没有多余的描述符、没有被忽略或屏蔽的信号、自成会话、不留在牧守进程的目录里。"""
    script = "ls /proc/self/fd; grep -E 'SigBlk|SigIgn' /proc/self/status; ps -o sid= -p $$; echo $$; pwd\n"
    yard.launch(1, script, **options)
    assert yard.end(1).exit_status == 0
    *fds, blocked, ignored, session, pid, directory = yard.output(1).decode().split("\n")[:-1]
    # 3 是 ls 自己打开的目录。
    assert fds == ["0", "1", "2", "3"]
    assert int(blocked.split()[1], 16) == 0
    # 32、33 是 glibc 自己留用的信号，它的 posix_spawn 总把它们设成忽略。
    assert int(ignored.split()[1], 16) & ~(1 << 31 | 1 << 32) == 0
    assert session.strip() == pid
    assert directory == str(yard.work)


@pytest.mark.parametrize("nice", [0, 3])
def test_jobs_do_not_inherit_the_shepherds_priority(yard: Yard, nice: int) -> None:
    # nice 不为 0 走慢路（fork），两条路都要恢复成平常的调度策略。
    yard.launch(1, "cut -d' ' -f19,41 /proc/$$/stat > policy\n", nice=nice)
    yard.end(1)
    assert (yard.work / "policy").read_text().split() == [str(nice), "0"]


def test_ends_committed_while_the_link_is_down_are_acknowledged_later(yard: Yard) -> None:
    heard: list[EndRecord] = []
    keeping = ShepherdKeeping(
        yard.spool,
        "yard",
        yard.containment,
        stopping=threading.Event(),
        on_ends=heard.extend,
        on_bad_end=lambda *_: None,
        enqueue=lambda _: None,
    )
    keeping.attach()
    yard.launch(1, "true\n")
    wait_until(lambda: heard, "结束记录")
    keeping.client().close()
    # 收尾此刻写完数据库；重连时再送来的，它手里正有，不再收。
    keeping.acknowledge(heard[:1])
    keeping.attach()
    assert keeping.client().state().unacknowledged == []
    keeping.close()
