"""一台刚装好的 Debian：照部署页装起来，systemd、cgroup、重启、断电、升级、卸载都是真的；再加一台，拔它的网线。

缺省是以 systemd 为 1 号进程的容器（几秒起来，在 .ci/run 里）；make test-machine MACHINES=vm 是 QEMU 的虚拟机
（自己的内核、cgroup v2；没有硬件虚拟化时靠仿真，要一刻钟）。
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from machines.container import containers
from machines.machine import Machine
from machines.vm import virtual_machines
from production.page import commands, section

VIRTUAL = os.environ.get("SCNS_MACHINES", "containers") == "vm"
PROGRAM, HOW = ("qemu-system-x86_64", "qemu-system-x86 seabios") if VIRTUAL else ("podman", "podman runc mmdebstrap")
pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"没有 {PROGRAM}（apt-get install {HOW}）：机器的测试都没有跑"
)
USERS = ("alice", "bob", "carol")
TERMINAL = "COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY"
PACKAGE = "/root/scns-conductor_*.deb"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y"


def machines(names: list[str], folder: Path) -> AbstractContextManager[dict[str, Machine]]:
    """一台或两台（之间一条网线，用名字找得到）；/root 里有造好的软件包。"""
    return virtual_machines(names, folder) if VIRTUAL else containers(names)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """照页上“一台机器就够时”装好的一台；测试按次序用它，从装好到卸载。"""
    with machines(["head"], tmp_path_factory.mktemp("machine")) as found:
        machine = found["head"]
        for number, user in enumerate(USERS, 2001):
            machine.run(f"useradd -m -u {number} -s /bin/bash {user}")
        machine.run("systemctl is-system-running --wait || true; systemctl is-active postgresql redis-server")
        machine.run(f"{INSTALL} {PACKAGE}")
        be_patient(machine)
        for line in commands(section("多台机器"), "一台机器就够时"):
            machine.run(line)
        machine.until("scns health", "系统就绪")
        yield machine


def be_patient(machine: Machine, node_timeout_s: float | None = None) -> None:
    """靠仿真的机器慢十几倍：续租与失联的期限放长，不然它以为领导者停住了、重启着的代理不在了。setup 只补没有写的。"""
    settings = ""
    if machine.pace > 1:
        settings += "scheduler_lease_s = 30\n"
        node_timeout_s = (node_timeout_s or 60) * machine.pace
    if node_timeout_s is not None:
        settings += f"node_timeout_s = {node_timeout_s:g}\n"
    if settings:
        machine.run(f"mkdir -p /etc/scns-conductor; printf {_quoted(settings)} > /etc/scns-conductor/config.toml")


def as_user(machine: Machine, user: str, command: str, *, check: bool = True) -> str:
    """以这个用户执行。"""
    return machine.run(f"runuser -l {user} -c {_quoted(command)}", check=check)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def submit(machine: Machine, user: str, script: str, options: str = "") -> str:
    """交一份脚本，返回作业号。"""
    said = as_user(machine, user, f"scns submit --parsable --wrap {_quoted(script)} {options}")
    return said.strip().splitlines()[-1]


def state(machine: Machine, job_id: str) -> str:
    found: str = json.loads(machine.run(f"scns show {job_id} --json"))["state"]
    return found


def wait_state(machine: Machine, job_id: str, wanted: str) -> None:
    said = machine.until(
        f'scns show {job_id} --json | grep -E \'"state": "({wanted}|{TERMINAL})"\'', f"作业 {job_id} 到 {wanted}"
    )
    assert f'"{wanted}"' in said, said


def version_2(machine: Machine) -> bool:
    """是不是纯的 cgroup v2。"""
    return machine.run("stat -fc %T /sys/fs/cgroup").strip() == "cgroup2fs"


def test_units_run_and_are_hardened(head: Machine) -> None:
    assert head.run("systemctl is-enabled scns-api scns-worker").split() == ["enabled", "enabled"]
    exposure = re.search(r"Overall exposure level for scns-api.service: ([\d.]+)",
                         head.run("systemd-analyze security scns-api --no-pager"))  # fmt: skip
    assert exposure is not None
    assert float(exposure[1]) <= 4
    health = head.run("SCNS_LANG=en scns health")
    # v2 的 GPU 设备由 eBPF 程序圈住：两版都没有圈不住的。
    assert "weak" not in health, health


def test_every_user_without_a_token_gets_a_job_of_their_own_in_a_cgroup(head: Machine) -> None:
    """经本机的套接字，是谁由内核说；脚本以他的身份在自己的 cgroup 里跑。"""
    for user in USERS:
        said = as_user(head, user, "scns submit --wait -Q --wrap 'id -un; cat /proc/self/cgroup' 2>/dev/null")
        assert said.splitlines()[0] == user
        assert re.search(r"^0::/.*job" if version_2(head) else r"^\d+:pids:/.*job", said, re.MULTILINE), said


def test_jobs_are_contained(head: Machine) -> None:
    greedy = "python3 -c 'x = bytearray(400 << 20); print(len(x))'"
    wait_state(head, submit(head, "alice", greedy, "--mem 64M"), "OUT_OF_MEMORY")
    # 换了会话的后代也随作业走。
    escaped = submit(head, "bob", "setsid sleep 98765 & sleep 0.2")
    wait_state(head, escaped, "COMPLETED")
    head.until("! pgrep -f '^sleep 98765'", "逃走的后代被清掉")


def test_restarting_the_worker_does_not_touch_a_running_job(head: Machine) -> None:
    job_id = submit(head, "alice", "echo $$ > pid; while [ ! -e go ]; do sleep 0.5; done; echo 没有中断")
    process = "ps -o pid=,lstart= -p $(cat ~alice/pid)"
    before = head.until(process, "脚本在运行")
    head.run("systemctl restart scns-worker")
    head.until("scns health", "重启之后就绪")
    assert head.run(process) == before
    as_user(head, "alice", "touch go")
    wait_state(head, job_id, "COMPLETED")
    assert "没有中断" in as_user(head, "alice", f"scns logs {job_id}; rm go")


def test_restarting_the_worker_over_and_over_under_load(head: Machine) -> None:
    """三个人的短作业一直在启动、结束，其间反复重启 worker：一个不丢，一个不败，一个不跑两遍。"""
    each = 40
    script = "echo $SLURM_ARRAY_TASK_ID >> ran; sleep 0.3"
    for user in USERS:
        submit(head, user, script, f"-J load --array 0-{each - 1} --mem 16M")
    head.run("for i in 1 2 3 4 5 6 7 8 9 10; do systemctl restart scns-worker || exit 1; sleep 0.5; done")
    head.until("scns jobs --json -J load | tr -d ' \\n' | grep -qF '{\"jobs\":[]}'", "全部做完")
    ended = json.loads(head.run("scns jobs --json -a -J load -l 1000"))["jobs"]
    assert [job["state"] for job in ended] == ["COMPLETED"] * each * len(USERS)
    # 停下时认领了而没有启动的交还（又算一次尝试）；启动过的，只有做完的一种下场。
    again = {str(job["job_id"]) for job in ended if job["restart_count"]}
    causes = (
        "select job_id, cause from job_events join jobs using (job_id) "
        "where jobs.name = 'load' and from_state = 'RUNNING' and cause <> 'exit'"
    )
    said = head.run(f"cd /; runuser -u postgres -- psql -At scns -c {_quoted(causes)}").split()
    assert {row.partition("|")[2] for row in said} <= {"give_back"}
    assert again <= {row.partition("|")[0] for row in said}
    for user in USERS:
        assert sorted(map(int, head.run(f"cat ~{user}/ran").split())) == list(range(each))


@pytest.mark.parametrize("how", ["reboot", "power"])
def test_reboot_with_jobs_running(head: Machine, how: str) -> None:
    """可以重新排队的再跑一遍，不可以的是 NODE_FAIL；没有一个跑两份，什么也不剩。关机与断电都一样。"""
    head.run("rm -f /home/*/runs.* /home/*/go2")
    count = "echo $SLURM_RESTART_COUNT >> $HOME/runs.%s; while [ ! -e go2 ]; do sleep 0.5; done"
    again = submit(head, "alice", count % "again", "--requeue")
    once = submit(head, "bob", count % "once", "--no-requeue")
    waiting = submit(head, "carol", "echo 还在", "--hold")
    for job_id in (again, once):
        wait_state(head, job_id, "RUNNING")
    head.until("[ -s ~alice/runs.again ] && [ -s ~bob/runs.once ]", "两个都跑起来了")
    # 断电丢掉还没有写到盘上的：脚本自己写的不归这里管。
    head.run("sync")
    if how == "reboot":
        head.reboot()
    else:
        head.cut_power()
    head.until("scns health", "重启之后就绪")
    wait_state(head, once, "NODE_FAIL")
    assert state(head, waiting) == "PENDING"
    head.until("[ $(wc -l < ~alice/runs.again) = 2 ]", "再跑了一遍")
    assert head.run("wc -l < ~bob/runs.once").strip() == "1"
    as_user(head, "alice", "touch go2")
    wait_state(head, again, "COMPLETED")
    head.run(f"scns release {waiting}")
    wait_state(head, waiting, "COMPLETED")
    assert head.run("pgrep -u alice,bob,carol || true").strip() == ""
    head.until("[ -z \"$(find /sys/fs/cgroup -type d -name 'job*')\" ]", "没有留下 cgroup")


def test_upgrade_and_setup_again(head: Machine) -> None:
    """装上版本号更新的包（内容相同），再 setup：运行中的作业照跑，什么也不用改。"""
    job_id = submit(head, "alice", "while [ ! -e go3 ]; do sleep 0.5; done")
    wait_state(head, job_id, "RUNNING")
    head.run(
        f"cd /root && rm -rf new && dpkg-deb -R {PACKAGE} new && sed -i 's/^Version: .*/&.1/' new/DEBIAN/control && "
        "dpkg-deb -Znone --build new newer.deb && rm -rf new"
    )
    head.run(f"{INSTALL} /root/newer.deb")
    assert head.run("dpkg-query -W -f '${Version}' scns-conductor").endswith(".1")
    said = head.run("scns setup all-in-one")
    assert "缺少" not in said
    head.run("systemctl restart scns-api scns-worker")
    head.until("scns health", "升级之后就绪")
    assert state(head, job_id) == "RUNNING"
    as_user(head, "alice", "touch go3")
    wait_state(head, job_id, "COMPLETED")


def test_remove_and_purge(head: Machine) -> None:
    head.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y scns-conductor")
    assert head.run("systemctl is-active scns-api scns-worker || true").split() == ["inactive", "inactive"]
    assert "config.toml" in head.run("ls /etc/scns-conductor")
    head.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y scns-conductor")
    left = "ls -d /etc/scns-conductor /opt/scns /etc/systemd/system/scns-*.service 2>/dev/null || true"
    assert head.run(left).strip() == ""


def test_a_node_that_loses_its_cable_and_comes_back(tmp_path: Path) -> None:
    with machines(["head", "n1"], tmp_path) as found:
        head, node = found["head"], found["n1"]
        for machine in (head, node):
            machine.run("useradd -m -u 2001 -s /bin/bash alice")
            machine.run(f"{INSTALL} {PACKAGE}")
        be_patient(head, 15)
        head.run("scns setup api --address head --allow 10.9.0.0/24")
        settings = head.run("cat /etc/scns-conductor/config.toml")
        node.run(f"mkdir -p /etc/scns-conductor && cat > /etc/scns-conductor/config.toml <<'END'\n{settings}END")
        node.run("scns setup worker")
        head.until("scns health", "节点登记了")
        script = "echo $SLURM_RESTART_COUNT >> ran; while [ ! -e go ]; do sleep 0.5; done; hostname"
        job_id = submit(head, "alice", script)
        wait_state(head, job_id, "RUNNING")
        node.cable(plugged=False)
        head.until("scns nodes | grep -q DOWN", "失联的节点被发现")
        as_user(node, "alice", "touch go")
        node.cable(plugged=True)
        head.until("scns health", "节点回来了")
        # 失联太久：作业在那边被收回，按文档重新排队，在同一个节点上再跑完；每次尝试只有一份。
        wait_state(head, job_id, "COMPLETED")
        assert node.run("cat ~alice/ran").split("\n") == ["", "1", ""]
        assert node.run("pgrep -u alice || true").strip() == ""
