"""一台刚装好的 Debian：照部署页装起来，systemd、cgroup v2、重启、升级、卸载都是真的；再加一台，拔它的网线。

还不在 .ci/run 里：靠仿真、机器又忙时起都起不来；两台的拔网线还没有跑过。
标着 quick 的是一条短的路（装、单元、各人的作业、重启代理、重启机器、卸载），make test-machine ARGS='-m quick'。
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from machines.vm import Machine, machines
from production.page import commands, section

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None,
    reason="没有 qemu（apt-get install qemu-system-x86 seabios）：虚拟机的测试都没有跑",
)
USERS = ("alice", "bob", "carol")
TERMINAL = "COMPLETED|CANCELLED|FAILED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY"
PACKAGE = "/root/scns-conductor_*.deb"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """照页上“一台机器就够时”装好的一台；测试按次序用它，从装好到卸载。"""
    with machines(["head"], tmp_path_factory.mktemp("vm")) as found:
        machine = found["head"]
        for number, user in enumerate(USERS, 2001):
            machine.run(f"useradd -m -u {number} -s /bin/bash {user}")
        machine.run("systemctl is-system-running --wait || true; systemctl is-active postgresql redis-server")
        machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y {PACKAGE}")
        be_patient(machine)
        for line in commands(section("多台机器"), "一台机器就够时"):
            machine.run(line)
        machine.until("scns health", "系统就绪")
        yield machine


def be_patient(machine: Machine) -> None:
    """靠仿真的机器慢十几倍：调度器续租的期限放长，不然它以为领导者停住了。setup 只补没有写的。"""
    machine.run("mkdir -p /etc/scns-conductor; echo 'scheduler_lease_s = 30' > /etc/scns-conductor/config.toml")


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


@pytest.mark.quick
def test_units_run_and_are_hardened(head: Machine) -> None:
    assert head.run("systemctl is-enabled scns-api scns-worker").split() == ["enabled", "enabled"]
    exposure = re.search(r"Overall exposure level for scns-api.service: ([\d.]+)",
                         head.run("systemd-analyze security scns-api --no-pager"))  # fmt: skip
    assert exposure is not None
    assert float(exposure[1]) <= 4
    assert head.run("stat -fc %T /sys/fs/cgroup").strip() == "cgroup2fs"
    # v2 没有设备控制器：GPU 只设可见性变量（docs/execution.md）；别的都真的圈住。
    health = head.run("SCNS_LANG=en scns health")
    assert re.search(r"containment +weak +head: GPU devices are not isolated[^;]*$", health, re.MULTILINE), health


@pytest.mark.quick
def test_every_user_without_a_token_gets_a_job_of_their_own_in_a_cgroup(head: Machine) -> None:
    """经本机的套接字，是谁由内核说；脚本以他的身份在自己的 cgroup 里跑。"""
    for user in USERS:
        said = as_user(head, user, "scns submit --wait -Q --wrap 'id -un; cat /proc/self/cgroup' 2>/dev/null")
        assert said.splitlines()[0] == user
        assert re.search(r"^0::/.*job", said, re.MULTILINE), said


def test_jobs_are_contained_by_cgroup_v2(head: Machine) -> None:
    greedy = "python3 -c 'x = bytearray(400 << 20); print(len(x))'"
    wait_state(head, submit(head, "alice", greedy, "--mem 64M"), "OUT_OF_MEMORY")
    # 换了会话的后代也随作业走。
    escaped = submit(head, "bob", "setsid sleep 98765 & sleep 0.2")
    wait_state(head, escaped, "COMPLETED")
    head.until("! pgrep -f '^sleep 98765'", "逃走的后代被清掉")


@pytest.mark.quick
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


@pytest.mark.quick
def test_reboot_with_jobs_running(head: Machine) -> None:
    """可以重新排队的再跑一遍，不可以的是 NODE_FAIL；没有一个跑两份，什么也不剩。"""
    count = "echo $SLURM_RESTART_COUNT >> $HOME/runs.%s; while [ ! -e go2 ]; do sleep 0.5; done"
    again = submit(head, "alice", count % "again", "--requeue")
    once = submit(head, "bob", count % "once", "--no-requeue")
    waiting = submit(head, "carol", "echo 还在", "--hold")
    for job_id in (again, once):
        wait_state(head, job_id, "RUNNING")
    head.until("[ -s ~alice/runs.again ] && [ -s ~bob/runs.once ]", "两个都跑起来了")
    head.reboot()
    head.until("scns health", "重启之后就绪")
    wait_state(head, again, "RUNNING")
    wait_state(head, once, "NODE_FAIL")
    assert state(head, waiting) == "PENDING"
    head.until("[ $(wc -l < ~alice/runs.again) = 2 ]", "再跑了一遍")
    assert head.run("wc -l < ~bob/runs.once").strip() == "1"
    as_user(head, "alice", "touch go2")
    wait_state(head, again, "COMPLETED")
    head.run(f"scns release {waiting}")
    wait_state(head, waiting, "COMPLETED")
    assert head.run("pgrep -u alice,bob,carol || true").strip() == ""
    assert head.run("find /sys/fs/cgroup -type d -name 'job*'").strip() == ""


def test_upgrade_and_setup_again(head: Machine) -> None:
    """装一遍新的包（这里是同一个），再 setup：运行中的作业照跑，什么也不用改。"""
    job_id = submit(head, "alice", "while [ ! -e go3 ]; do sleep 0.5; done")
    wait_state(head, job_id, "RUNNING")
    head.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall {PACKAGE}")
    said = head.run("scns setup all-in-one")
    assert "缺少" not in said
    head.run("systemctl restart scns-api scns-worker")
    head.until("scns health", "升级之后就绪")
    assert state(head, job_id) == "RUNNING"
    as_user(head, "alice", "touch go3")
    wait_state(head, job_id, "COMPLETED")


@pytest.mark.quick
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
            machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y {PACKAGE}")
        be_patient(head)
        head.run("scns setup api --address head --allow 10.9.0.0/24")
        settings = head.run("cat /etc/scns-conductor/config.toml")
        node.run(f"mkdir -p /etc/scns-conductor && cat > /etc/scns-conductor/config.toml <<'END'\n{settings}END")
        node.run("scns setup worker")
        head.until("scns health", "节点登记了")
        job_id = submit(head, "alice", "while [ ! -e go ]; do sleep 0.5; done; hostname")
        wait_state(head, job_id, "RUNNING")
        node.cable(plugged=False)
        head.until("scns nodes | grep -q DOWN", "失联的节点被发现")
        as_user(node, "alice", "touch go")
        node.cable(plugged=True)
        head.until("scns health", "节点回来了")
        # 失联太久：作业在那边被收回，按文档重新排队，在同一个节点上再跑完；只有一份。
        wait_state(head, job_id, "COMPLETED")
        assert node.run("pgrep -u alice || true").strip() == ""
