"""ssh 登录归进作业：真的 sshd、真的 PAM、真的用户；没有作业的进不来，作业结束登录也结束。"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until

import scns_conductor
from running_system import free_port
from scns_conductor.core.settings import Settings

SSHD = "/usr/sbin/sshd"
NAME = "scnssshuser"
SERVICE = "scns-test-sshd"
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SSHD).exists() or not shutil.which("ssh") or not shutil.which("useradd"),
    reason="要 root、openssh-server、openssh-client",
)
SOURCE = Path(scns_conductor.__file__).parent.parent


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """用户走得进去的地方，也是他的家。"""
    path = Path(tempfile.mkdtemp(prefix="scns-ssh-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def user(folder: Path) -> Iterator[pwd.struct_passwd]:
    home = folder / "home"
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", NAME], check=True)
    yield pwd.getpwnam(NAME)
    subprocess.run(["userdel", NAME], check=True)


@pytest.fixture(scope="module")
def ssh(folder: Path, user: pwd.struct_passwd) -> Iterator[list[str]]:
    """登录的命令；sshd 只在回环上，PAM 的 account 只有那一行。"""
    for key in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", folder / key], check=True)
    authorized = folder / "authorized"
    shutil.copy(folder / "own.pub", authorized)
    authorized.chmod(0o644)
    adopt = folder / "adopt"
    adopt.write_text(
        f"#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -S -m scns_conductor.worker.host.ssh_adoption\n"
    )
    adopt.chmod(0o755)
    pam = Path("/etc/pam.d") / SERVICE
    pam.write_text(f"account required pam_exec.so stdout {adopt}\nsession required pam_permit.so\n")
    # PAM 的服务名是程序的名字。
    program = folder / SERVICE
    program.symlink_to(SSHD)
    port = free_port()
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {authorized}\nUsePAM yes\n"
        f"PidFile {folder}/pid\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", config], stderr=log)
    try:
        wait_until(lambda: "listening" in (folder / "log").read_text(), "sshd 在听")
        yield [
            *("ssh", "-F", "none", "-i", str(folder / "own"), "-p", str(port), "-o", "StrictHostKeyChecking=no"),
            *("-o", f"UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR", f"{NAME}@127.0.0.1"),
        ]
    finally:
        server.terminate()
        server.wait(timeout=30)
        pam.unlink()


@pytest.fixture
def node(settings: Settings, folder: Path) -> Iterator[NodeYard]:
    work = folder / f"node-{time.monotonic_ns()}"
    work.mkdir(mode=0o755)
    running = NodeYard(settings, work)
    running.output.chmod(0o1777)
    running.start_agent(SCNS_SINGLE_USER="false")
    yield running
    running.close()


def login(ssh: list[str], command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*ssh, command], capture_output=True, text=True, timeout=60, check=False)


def test_a_login_belongs_to_the_job(node: NodeYard, ssh: list[str]) -> None:
    assert login(ssh, "true").returncode == 255
    job_id = node.run("#!/bin/sh\nsleep 300\n", user_name=NAME)
    wait_until(lambda: login(ssh, "true").returncode == 0, "登录得进去")
    assert f"/job_{job_id}_" in login(ssh, "cat /proc/self/cgroup").stdout
    # 作业结束，登录也结束。
    session = subprocess.Popen([*ssh, "echo in; sleep 300"], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    assert session.stdout.readline() == "in\n"
    node.request_end(job_id, "CANCELLED")
    assert node.ended(job_id)["state"] == "CANCELLED"
    assert session.wait(timeout=60) != 0
    session.stdout.close()
