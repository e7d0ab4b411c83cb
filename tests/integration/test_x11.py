"""srun --x11、salloc --x11：真的 X 服务器（Xvfb）、真的 X 客户（xprop），经作业步的连接。"""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands
from x_server import HERE, XServer, x_server

from busybox_container import write_host_bundle
from running_system import RunningSystem

pytestmark = pytest.mark.skipif(not HERE, reason="要 xvfb、xauth、x11-utils")
# 在显示上留下一个属性：别的没有口令的连不上。
MARK = 'xprop -root -f "$MARK" 8s -set "$MARK" "$DISPLAY"'


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[XServer]:
    folder = scratch / "x11"
    folder.mkdir()
    with x_server(folder) as found:
        yield found


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path, server: XServer) -> Commands:
    commands = Commands.beside(running_system, tmp_path)
    commands.environment |= server.environment
    return commands


def test_a_client_on_the_node_draws_on_the_display_of_srun(slurm: Commands, server: XServer) -> None:
    look = f'{MARK} && stat -c %a "$XAUTHORITY" && echo "$XAUTHORITY"'
    done = slurm.run("srun", "--x11", "sh", "-c", look, environment={"MARK": "SCNS_STEP"})
    assert done.returncode == 0, done.stderr
    display = server.property("SCNS_STEP")
    assert display is not None
    assert display.startswith("localhost:")
    mode, file = done.stdout.split()
    assert mode == "600"
    # 步结束了：文件没有了，端口也没有人听。
    assert file != server.environment["XAUTHORITY"]
    assert not os.path.exists(os.path.dirname(file))
    port = 6000 + int(display.removeprefix("localhost:").removesuffix(".0"))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_several_clients_at_once_and_one_without_the_cookie(slurm: Commands, server: XServer) -> None:
    clients = " & ".join(f"MARK=SCNS_{n} sh -c '{MARK}'" for n in range(8))
    stranger = "XAUTHORITY=/dev/null xprop -root > stranger 2>&1 && echo let in"
    done = slurm.run("srun", "--x11=first", "bash", "-c", f"{clients} & wait; {stranger}; true")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "srun: error: X11 connection rejected: wrong authentication" in done.stderr
    assert {server.property(f"SCNS_{n}") is not None for n in range(8)} == {True}


def test_the_real_cookie_stays_here(slurm: Commands, server: XServer) -> None:
    words = ("sh", "-c", 'xauth list "$DISPLAY"; xauth list')
    inside = {line.split()[-1] for line in slurm.run("srun", "--x11", *words).stdout.splitlines()}
    own = {line.split()[-1] for line in slurm.run("srun", *words).stdout.splitlines()}
    assert len(inside) == len(own) == 1
    assert inside != own


def test_steps_in_an_allocation_forward_each_on_their_own(slurm: Commands, server: XServer) -> None:
    inner = f"{MARK}; MARK=SCNS_INNER srun sh -c '{MARK}'"
    done = slurm.run("salloc", "-Q", "--x11", "sh", "-c", inner, environment={"MARK": "SCNS_OUTER"})
    assert done.returncode == 0, done.stderr
    # 分配的命令在本机，用本机的显示。
    assert server.property("SCNS_OUTER") == server.display
    assert str(server.property("SCNS_INNER")).startswith("localhost:")
    # 从那里提交的批处理没有显示可用：说一句，步照跑。
    script = "#!/bin/sh\nunset DISPLAY\nsrun echo ran\n"
    done = slurm.run("sbatch", "--wait", "-o", "out", text=script, environment={"SRUN_X11": "all"})
    lines = (slurm.work / "out").read_text().splitlines()
    assert sorted(lines) == ["ran", "srun: warning: No DISPLAY variable set, cannot setup x11 forwarding."]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("crun"), reason="要 root 与 crun")
def test_a_client_in_a_container_has_the_display_too(slurm: Commands, server: XServer) -> None:
    box = write_host_bundle(slurm.work / "box")
    words = ("srun", "--x11", f"--container={box}", "sh", "-c", f"ls /inside && {MARK}")
    done = slurm.run(*words, environment={"MARK": "SCNS_BOX"})
    assert (done.returncode, done.stdout) == (0, "/inside\n"), done.stderr
    assert str(server.property("SCNS_BOX")).startswith("localhost:")


@pytest.mark.parametrize("command", ["srun", "salloc"])
def test_what_cannot_be_forwarded_is_told_before_anything_runs(slurm: Commands, tmp_path: Path, command: str) -> None:
    missing = str(tmp_path / "no-authority")
    for option, environment, told in (
        ("--x11", {"DISPLAY": ""}, "No DISPLAY variable set, cannot setup x11 forwarding."),
        ("--x11", {"DISPLAY": "rubbish"}, "No DISPLAY variable set, cannot setup x11 forwarding."),
        ("--x11", {"XAUTHORITY": missing}, "Could not retrieve magic cookie. Cannot use X11 forwarding."),
        ("--x11=second", {}, "Invalid --x11 specification"),
    ):
        done = slurm.run(command, option, "touch", "ran", environment=environment)
        assert (done.returncode, done.stderr) == (1, f"{command}: error: {told}\n")
    assert not (slurm.work / "ran").exists()
