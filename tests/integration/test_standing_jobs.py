"""scrontab 与 strigger：到时、遇事提交的作业，是定下它的人的平常的作业。"""

import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from running_system import RunningSystem, as_user, start_system, wait_until

FAR = "0 0 1 1 *"


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Iterator[Commands]:
    made = Commands.beside(running_system, tmp_path)
    yield made
    made.run("scrontab", "-r")
    made.run("strigger", "--clear", "--quiet", "--user", "root")


def runs(slurm: Commands, name: str) -> list[str]:
    """这个名字的作业，先提交的在前：号与状态。"""
    lines = slurm.run("squeue", "-h", "-t", "all", "-n", name, "-S", "i", "-o", "%i %t").stdout.splitlines()
    return [line.split()[1] for line in lines]


def start_now(slurm: Commands, name: str) -> None:
    """还在等时刻的那一次，现在就开始。"""
    waiting = slurm.run("squeue", "-h", "-t", "PD", "-n", name, "-o", "%i").stdout.split()
    assert len(waiting) == 1, waiting
    done = slurm.run("scontrol", "update", f"jobid={waiting[0]}", "starttime=now")
    assert done.returncode == 0, done.stderr


def test_an_entry_runs_again_and_again_each_time_a_job_of_its_own(slurm: Commands) -> None:
    tab = (
        "# comment\nWHO=world\n"
        "#SCRON -J tick --time=2\n#SCRON -o out.txt --open-mode=append -D " + str(slurm.work) + "\n"
        f"{FAR}  echo hello $WHO ${{WHO}}\n\n@yearly exit 7\n"
    )
    done = slurm.run("scrontab", "-", text=tab, environment={"TZ": "America/New_York"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert slurm.run("scrontab", "-l").stdout == tab
    wait_until(lambda: runs(slurm, "tick") == ["PD"], 60, "到时开始的一个")
    shown = slurm.run("squeue", "-h", "-n", "tick", "-o", "%r %l %S", environment={"TZ": "America/New_York"}).stdout
    reason, limit, start = shown.split()
    assert (reason, limit, start[4:]) == ("BeginTime", "2:00", "-01-01T00:00:00")
    job = slurm.run("squeue", "-h", "-n", "tick", "-o", "%i").stdout.strip()
    assert f' CrontabSpec="{FAR}" ' in slurm.run("scontrol", "-o", "show", "job", job).stdout
    record = json.loads(slurm.run("squeue", "-j", job, "--json").stdout)["jobs"][0]
    assert (record["cron"], "CRON_JOB" in record["flags"]) == (FAR, True)
    for done_runs in (1, 2):
        start_now(slurm, "tick")
        wait_until(lambda count=done_runs: runs(slurm, "tick") == ["CD"] * count + ["PD"], 60, "跑完了，又有下一次")
    assert (slurm.work / "out.txt").read_text() == "hello world world\n" * 2
    # 换掉的：旧的还没有开始的取消，新的另起。
    changed = slurm.run("scrontab", "-", text=f"#SCRON -J other\n{FAR} true\n")
    assert changed.returncode == 0
    wait_until(lambda: (runs(slurm, "tick")[-1], runs(slurm, "other")) == ("CA", ["PD"]), 60, "换了")
    assert slurm.run("scrontab", "-r").returncode == 0
    assert runs(slurm, "other") == ["CA"]
    assert (slurm.run("scrontab", "-l").returncode, slurm.run("scrontab", "-l").stdout) == (1, "no crontab for root\n")
    assert slurm.run("scontrol", "crontab").stderr == "no crontab for root\n"


def test_cancelling_a_run_disables_its_entry(slurm: Commands) -> None:
    tab = f"#SCRON -J stopped\n{FAR} true\n#SCRON -J going\n{FAR} true\n"
    assert slurm.run("scrontab", "-", text=tab).returncode == 0
    wait_until(lambda: runs(slurm, "stopped") == ["PD"] == runs(slurm, "going"), 60, "各有一个")
    assert slurm.run("scancel", "-n", "stopped").returncode == 0
    disabled = f"#DISABLED: #SCRON -J stopped\n#DISABLED: {FAR} true\n#SCRON -J going\n{FAR} true\n"
    wait_until(lambda: slurm.run("scrontab", "-l").stdout == disabled, 60, "停了的那一项")
    assert (runs(slurm, "stopped"), runs(slurm, "going")) == (["CA"], ["PD"])


def test_what_is_wrong_is_said_and_nothing_changes(slurm: Commands, running_system: RunningSystem) -> None:
    good = f"#SCRON -J kept\n{FAR} true\n"
    assert slurm.run("scrontab", "-", text=good).returncode == 0
    for text, told in (
        ("61 * * * * ls\n", "line 1: not a valid crontab entry"),
        ("\n* * * * *\n", "line 2: not a valid crontab entry"),
        (f"#SCRON --nosuch\n{FAR} ls\n", "line 2: unrecognized option '--nosuch'"),
        (f"#SCRON -t abc\n{FAR} ls\n", "Invalid --time specification"),
        (f'#SCRON -J "x\n{FAR} ls\n', "line 2: "),
    ):
        done = slurm.run("scrontab", "-", text=text)
        assert (done.returncode, done.stdout) == (1, "There are errors in your crontab.\n"), text
        assert told in done.stderr, (text, done.stderr)
    for option in ("-n 100000", "-a 1-3", "-b now+1hour", "-p nosuch"):
        done = slurm.run("scrontab", "-", text=f"# x\n#SCRON {option}\n{FAR} ls\n")
        assert done.returncode == 1
        assert done.stdout.startswith("There was an issue with the job submission on lines 1-2\n"), done.stdout
    assert slurm.run("scrontab", "-l").stdout == good
    assert runs(slurm, "kept") == ["PD"]
    for words in (["-l", "-r"], ["-e"], ["a", "b"], ["-u", "nosuchuser", "-l"], ["nosuchfile"], ["-x"]):
        done = slurm.run("scrontab", *words)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), words
    entry = {"schedule": FAR, "first_line": 0, "last_line": 0, "job": {}, "script": "#!/bin/sh\n"}
    for change, field in (
        ({"entries": [{**entry, "schedule": "x"}]}, "entries[0].schedule"),
        ({"entries": [{**entry, "last_line": 9}]}, "entries[0].last_line"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"text": "a\0b"}, "text"),
    ):
        body: dict[str, Any] = {"text": "x", "timezone": "UTC", "entries": [], **change}
        status, answer = running_system.call("PUT", "/crontab", body)
        assert (status, answer["errors"][0]["field"]) == (422, field), answer


def test_everyone_has_their_own(slurm: Commands, running_system: RunningSystem) -> None:
    alice, bob = as_user(running_system, "alice"), as_user(running_system, "bob")
    entry = {"schedule": FAR, "first_line": 0, "last_line": 0, "job": {"name": "hers"}, "script": "#!/bin/sh\n"}
    status, _ = alice.call("PUT", "/crontab", {"text": f"{FAR} x", "timezone": "Asia/Shanghai", "entries": [entry]})
    assert status == 204
    assert bob.call("GET", "/crontab")[0] == 404
    for method in ("GET", "DELETE"):
        assert bob.call(method, "/crontab?user=alice")[0] == 403
    status, answer = running_system.call("GET", "/crontab?user=alice")
    assert (status, answer["text"], answer["timezone"]) == (200, f"{FAR} x", "Asia/Shanghai")
    wait_until(lambda: runs(slurm, "hers") == ["PD"], 60, "她的")
    assert slurm.run("squeue", "-h", "-n", "hers", "-o", "%u").stdout == "alice\n"
    assert running_system.call("DELETE", "/crontab?user=alice")[0] == 204
    assert alice.call("DELETE", "/crontab")[0] == 404
    assert runs(slurm, "hers") == ["CA"]


def test_the_editor_is_asked_until_it_is_right(slurm: Commands) -> None:
    editor = slurm.work / "editor"
    # 第一次写坏，第二次照着 #BAD 改好。
    editor.write_text(
        '#!/bin/sh\nif grep -q \'^#BAD: oops\' "$1"; then echo \'@yearly true\' > "$1"; else echo oops > "$1"; fi\n'
    )
    editor.chmod(0o755)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(slurm.work)
        os.execve(slurm.prefix / "scrontab", ["scrontab", "-e"], {**slurm.environment, "EDITOR": str(editor)})
    os.write(terminal, b"y\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert slurm.run("scrontab", "-l").stdout == "@yearly true\n"


def test_the_end_of_a_job_runs_the_program(slurm: Commands, running_system: RunningSystem) -> None:
    program = slurm.work / "program"
    program.write_text(f'#!/bin/sh\necho "$@" >> {slurm.work}/seen\n')
    program.chmod(0o755)
    job = slurm.submit("-o", "/dev/null", text="#!/bin/sh\nsleep 600\n")
    limited = slurm.submit("-o", "/dev/null", "-t", "10", text="#!/bin/sh\nsleep 600\n")
    for words in (["-j", job, "--fini"], ["-j", limited, "--time", "--offset=-599"]):
        done = slurm.run("strigger", "--set", *words, "-p", f"{program} extra")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words
    lines = slurm.run("strigger", "--get", "-N", "-j", job).stdout.split()
    assert lines[1:] == ["job", job, "fini", "0", "root", str(program), "extra"]
    # 离时限不到 599 秒：一秒多之后就到。
    seen = slurm.work / "seen"
    wait_until(lambda: seen.exists() and seen.read_text().endswith("\n"), 60, "时限的")
    assert seen.read_text() == f"extra {limited}\n"
    slurm.run("scancel", job, limited)
    wait_until(lambda: (slurm.work / "seen").read_text().splitlines()[1:] == [f"extra {job}"], 60, "结束的")
    assert slurm.run("strigger", "--get", "-N").stdout == ""
    # 结束了的、没有的、不是自己的，都不能定。
    over = slurm.run("strigger", "--set", "-j", job, "--fini", "-p", "/bin/true")
    assert (over.returncode, over.stderr) == (
        1,
        "slurm_set_trigger: Job/step already completing or completed\n",
    )
    body = {"event": "fini", "job_id": job, "program": "x", "script": "#!/bin/sh\n"}
    other = slurm.submit("-H", text="#!/bin/sh\n")
    assert as_user(running_system, "bob").call("POST", "/triggers", {**body, "job_id": other})[0] == 403
    # 作业没了的触发也没了。
    assert slurm.run("strigger", "--set", "-j", other, "--time", "-p", "/bin/true").returncode == 0
    slurm.run("scancel", other)
    wait_until(lambda: slurm.run("strigger", "--get", "-N").stdout == "", 60, "不会再发生的")


@pytest.mark.faults
def test_a_change_of_a_node_runs_the_program_once_a_change(slurm: Commands, running_system: RunningSystem) -> None:
    node = slurm.run("sinfo", "-h", "-N", "-o", "%N").stdout.split()[0]
    program = slurm.work / "program"
    program.write_text(f'#!/bin/sh\necho "$1" >> {slurm.work}/seen\n')
    program.chmod(0o755)
    seen = slurm.work / "seen"
    words = ("--drained", f"--node={node}", "-p", str(program))
    assert slurm.run("strigger", "--set", "--flags=PERM", *words).returncode == 0
    assert slurm.run("strigger", "--set", "--resume", *words[1:]).returncode == 0
    before = len(runs(slurm, "strigger"))
    for times in (1, 2):
        slurm.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        # resume 的只做一次；只有一个节点的，排空着就还没有跑。
        fired = before + (1 if times == 1 else 3)
        wait_until(lambda count=fired: len(runs(slurm, "strigger")) == count, 60, "提交了")
        slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
        lines = [node] * (times + 1)
        wait_until(lambda wanted=lines: seen.exists() and seen.read_text().splitlines() == wanted, 60, "跑完了")
    assert [line.split()[3] for line in slurm.run("strigger", "--get", "-N").stdout.splitlines()] == ["drained"]
    number = slurm.run("strigger", "--get", "-N").stdout.split()[0]
    assert as_user(running_system, "bob").call("DELETE", f"/triggers?trigger_id={number}")[0] == 403
    assert slurm.run("strigger", "--clear", "--id", number).returncode == 0
    gone = slurm.run("strigger", "--clear", "--id", number)
    assert (gone.returncode, gone.stderr) == (1, "slurm_clear_trigger: No such process\n")
    for bad in (
        ["--set"], ["--get", "--set"], ["--set", "-p", "/x"], ["--set", "--fini", "-p", "/x"], ["--clear"],
        ["--set", "--down", "-p", "relative"], ["--set", "--down", "-p", "/x", "--flags=NOPE"],
        ["--set", "--down", "--node=nosuch", "-p", "/x"], ["--set", "--fail", "-p", "/x"], ["--get", "-i", "x"],
        ["--set", "--down", "-j1", "--node=a", "-p", "/x"], ["--set", "-j", "1_", "--fini", "-p", "/x"],
    ):  # fmt: skip
        done = slurm.run("strigger", *bad)
        assert (done.returncode, len(done.stderr.splitlines()), "Traceback" in done.stderr) == (1, 1, False), bad


def test_a_changed_setting_runs_the_program_once_a_change(slurm: Commands, running_system: RunningSystem) -> None:
    """集群的事同 webhook 送的：定下之前的不算，PERM 的每一次都做。"""
    program = slurm.work / "program"
    program.write_text(f'#!/bin/sh\necho "$*" >> {slurm.work}/seen\n')
    program.chmod(0o755)
    seen = slurm.work / "seen"

    def change(depth: int | None) -> None:
        wanted = {} if depth is None else {"backfill_depth": depth}
        assert running_system.call("POST", "/cluster/apply?prune=true", {"settings": wanted})[0] == 200

    change(71)
    assert slurm.run("strigger", "--set", "--reconfig", "--flags=PERM", "-p", str(program)).returncode == 0
    (shown,) = slurm.run("strigger", "--get", "-N", "--reconfig").stdout.splitlines()
    assert shown.split()[1:4] == ["slurmctld", "*", "reconfig"]
    for times, depth in enumerate((72, None), 1):
        change(depth)
        lines = ["*"] * times
        wait_until(lambda wanted=lines: seen.exists() and seen.read_text().splitlines() == wanted, 60, "跑了")
    status, answer = running_system.call(
        "POST",
        "/triggers",
        {"event": "reconfig", "nodes": "n1", "program": "/x", "script": "#!/bin/sh\n:\n", "job": {}},
    )
    assert (status, answer["code"]) == (422, "trigger_target")


@pytest.mark.faults
def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    options = ("--nodes", "1", "--cpus", "2", "--memory", "2G")
    with start_system(tmp_path / "system", *options, environment={"SCNS_CLUSTER_NAME": "lab"}) as system:
        slurm = Commands.beside(system, tmp_path)
        # 起了名字的集群，作业外面的命令与 slurmrestd 也知道。
        assert slurm.run("squeue", "-M", "lab", "-h").returncode == 0
        assert slurm.run("sacctmgr", "-nP", "show", "cluster", "lab", "format=cluster").stdout == "lab\n"
        assert system.call("GET", "/slurm/v0.0.42/ping")[1]["meta"]["slurm"]["cluster"] == "lab"
        assert slurm.run("scrontab", "-", text=f"#SCRON -J tick -o /dev/null\n{FAR} true\n").returncode == 0
        held = slurm.submit("-H", text="#!/bin/sh\n")
        touched = slurm.work / "touched"
        assert slurm.run("strigger", "--set", "-j", held, "--fini", "-p", f"/usr/bin/touch {touched}").returncode == 0
        wait_until(lambda: runs(slurm, "tick") == ["PD"], 60, "到时开始的一个")
        system.stop()
    with start_system(tmp_path / "system", *options) as system:
        slurm = Commands(system, tmp_path / "bin", slurm.work)
        assert runs(slurm, "tick") == ["PD"]
        start_now(slurm, "tick")
        slurm.run("scancel", held)
        wait_until(lambda: runs(slurm, "tick") == ["CD", "PD"] and touched.exists(), 60, "又有下一次，触发也在")
