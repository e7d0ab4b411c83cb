"""--container 与 --container-image：真的 crun、podman，真的用户；身份、cgroup、环境、目录、输出、信号、结局照旧。"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from shepherd_yard import wait_until
from slurm_links import Commands
from test_node_steps import HOLD, all_claimed, ended_step, launch

from busybox_container import MARKER, import_image, write_bundle, write_host_bundle
from mpi_program import mpi_program
from running_system import RunningSystem
from scns_conductor.core.settings import Settings

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("crun") or not Path("/bin/busybox").exists(),
    reason="要 root、crun 与 busybox-static",
)
USER = pwd.getpwnam("nobody")
IMAGE = "localhost/scns-test-box:1"
# 各任务各在一个用户名字空间里：Open MPI 借不了彼此的内存，会为此说几行。
QUIET = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
MPI_PROGRAM = mpi_program(r'printf("%d/%d sum %d\n", rank, size, sum)')


@pytest.fixture(scope="module")
def bundle() -> Iterator[Path]:
    """nobody 走得进去的地方。"""
    folder = Path(tempfile.mkdtemp(prefix="scns-bundle-"))
    folder.chmod(0o755)
    yield write_bundle(folder, (USER.pw_uid, USER.pw_gid))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import_image(tmp_path_factory.mktemp("image"), IMAGE)
    yield IMAGE
    subprocess.run(["podman", "rmi", "--force", IMAGE], check=True, capture_output=True)


@pytest.fixture
def node(settings: Settings) -> Iterator[NodeYard]:
    """多用户的节点：root 的代理，作业是 nobody 的；在他走得进去的地方。"""
    work = Path(tempfile.mkdtemp(prefix="scns-node-"))
    work.chmod(0o755)
    running = NodeYard(settings, work)
    running.output.chmod(0o1777)
    running.start_agent(SCNS_SINGLE_USER="false")
    yield running
    running.close()
    shutil.rmtree(work)


@pytest.fixture
def slurm(running_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(running_system, tmp_path)


def test_batch_scripts_run_inside_as_their_user_in_their_cgroup(node: NodeYard, bundle: Path, tmp_path: Path) -> None:
    script = (
        f"#!/bin/sh\ncat {MARKER}\nid -u\npwd\necho $COLOUR $SLURM_JOB_ID $SLURM_CONTAINER\n"
        "cat /proc/self/cgroup\necho $* >written\necho complaint >&2\nexit 7\n"
    )
    job_id = node.run(script, user_name="nobody", container=str(bundle), argv=["a", "b"], environment={"COLOUR": "red"})
    job = node.ended(job_id)
    lines = (node.output_of(job_id) or b"").decode().splitlines()
    assert (job["state"], job["exit_status"], job["error_msg"]) == ("FAILED", 7, None), lines
    assert lines[:4] == ["in the box", str(USER.pw_uid), str(node.output), f"red {job_id} {bundle}"]
    assert lines[-1] == "complaint"
    assert any(f"/job_{job_id}_" in line for line in lines[4:-1])
    written = node.output / "written"
    assert (written.read_text(), written.stat().st_uid) == ("a b\n", USER.pw_uid)
    assert not Path(MARKER).exists()
    # 别人的、写不了的也进得去，里面的不因此改变。
    shared = shutil.copytree(bundle, node.work / "shared", symlinks=True)
    script = f"#!/bin/sh\ncat {MARKER}\npwd\necho >/new || echo kept out\necho >here\n"
    job_id = node.run(script, user_name="nobody", container=str(shared))
    job = node.ended(job_id)
    lines = (node.output_of(job_id) or b"").decode().splitlines()
    assert job["state"] == "COMPLETED", lines
    assert lines[:2] == ["in the box", str(node.output)]
    assert node.exists("here").stat().st_uid == USER.pw_uid
    assert sorted(path.name for path in (shared / "rootfs").iterdir()) == ["bin", "dev", "etc", "proc", "sys", "tmp"]


def test_ends_and_faults_keep_their_meaning(node: NodeYard, bundle: Path) -> None:
    hungry = node.submit("#!/bin/sh\nhead -c 300m /dev/zero | tail\n", user_name="nobody", container=str(bundle))
    node.start(hungry, memory=64)
    late = node.run("#!/bin/sh\nsleep 300\n", user_name="nobody", container=str(bundle), time_limit=1)
    caught = "#!/bin/sh\ntrap 'echo bye >caught; exit 3' TERM\necho >ready\nwhile true; do sleep 0.1; done\n"
    cancelled = node.run(caught, user_name="nobody", container=str(bundle))
    node.exists("ready")
    node.request_end(cancelled, "CANCELLED")
    assert node.ended(hungry)["state"] == "OUT_OF_MEMORY"
    assert node.ended(late)["state"] == "TIMEOUT"
    assert node.ended(cancelled)["state"] == "CANCELLED"
    assert node.written("caught").strip() == "bye"
    _what_cannot_be_entered_is_told(node, node.work)


def _what_cannot_be_entered_is_told(node: NodeYard, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless/config.json").write_text('{"root": {"path": "gone"}}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    told = {}
    for name in ("empty", "missing", "rootless", "broken"):
        job_id = node.run("#!/bin/sh\ntrue\n", user_name="nobody", container=str(tmp_path / name))
        job = node.ended(job_id)
        assert job["state"] == "FAILED"
        told[name] = job["error_msg"]
    assert "没有 config.json" in told["empty"]
    assert "不存在" in told["missing"]
    assert "gone 不存在" in told["rootless"]
    assert "读不了容器的说明" in told["broken"]
    assert node.node()["state"] == "UP"


def test_steps_and_scripts_of_the_commands(slurm: Commands, running_system: RunningSystem, bundle: Path) -> None:
    job_id = slurm.submit("--container", str(bundle), "-o", "out", text=f"#!/bin/sh\ncat {MARKER}\npwd\n")
    running_system.wait_state(job_id, "COMPLETED")
    assert (slurm.work / "out").read_text().splitlines() == ["in the box", str(slurm.work)]
    shown = slurm.run("scontrol", "show", "job", job_id).stdout
    assert f"Container={bundle}" in shown
    assert slurm.run("squeue", "-h", "-t", "all", "-j", job_id, "-O", "container:.300").stdout.strip() == str(bundle)
    assert slurm.run("sacct", "-nXPj", job_id, "-o", "container").stdout.strip() == str(bundle)
    done = slurm.run("srun", "-n2", "-l", f"--container={bundle}", "/bin/sh", "-c", f"cat {MARKER}; exit 4")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (4, ["0: in the box", "1: in the box"]), done.stderr
    # 分配里的步沿用作业的容器；命令行写了的为准。
    done = slurm.run("salloc", "-Q", f"--container={bundle}", "srun", "cat", MARKER)
    assert done.stdout == "in the box\n", done.stderr
    done = slurm.run("srun", "--container=/no/such/bundle", "true")
    assert done.returncode != 0
    assert "slurmstepd: error: container directory /no/such/bundle does not exist" in done.stderr
    assert slurm.run("sbatch", "--container=/b", "--container-image=i", text="#!/bin/sh\n").returncode != 0


def test_a_terminal_inside(slurm: Commands, bundle: Path) -> None:
    done = subprocess.run(
        ["script", "-qec", f"srun --pty --container={bundle} /bin/sh -c 'tty; stty size'", "/dev/null"],
        env={**slurm.environment, "PATH": f"{slurm.prefix}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "/dev/" in done.stdout, done.stdout


@pytest.mark.skipif(not shutil.which("podman"), reason="要 podman")
def test_an_image(slurm: Commands, running_system: RunningSystem, image: str) -> None:
    job_id = slurm.submit(
        f"--container-image={image}", "-o", "out", text=f"#!/bin/sh\ncat {MARKER}\necho $BOX $PATH\necho 1 >/etc/new\n"
    )
    running_system.wait_state(job_id, "COMPLETED")
    lines = (slurm.work / "out").read_text().splitlines()
    assert lines == ["in the box", "wood /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    # 写下的只在那一个容器里。
    done = slurm.run("srun", f"--container-image={image}", "ls", "/etc")
    assert (done.returncode, "new" in done.stdout) == (0, False), done.stderr
    gone = slurm.submit("--container-image=localhost/scns-no-such-image:1", text="#!/bin/sh\ntrue\n")
    running_system.wait_state(gone, "FAILED")
    _, job = running_system.call("GET", f"/jobs/{gone}")
    assert "scns-no-such-image:1 拉不下来" in job["error_msg"]
    wait_until(lambda: slurm.run("sinfo", "-h", "-o", "%T").stdout.split()[0] in ("idle", "mixed"), "节点没有被排空")


@pytest.mark.skipif(not shutil.which("mpicc.openmpi"), reason="要 Open MPI")
def test_mpi_tasks_of_a_plain_user_find_each_other(settings: Settings, walkable: Path) -> None:
    """没有容器、crun、runc：runc 里看到的自己是 root，外面仍是本人。"""
    yard = NodeYard(settings, walkable)
    try:
        yard.output.chmod(0o1777)
        (yard.output / "program.c").write_text(MPI_PROGRAM)
        subprocess.run(["mpicc.openmpi", "program.c", "-o", "program"], cwd=yard.output, check=True)
        box = str(write_host_bundle(walkable / "box"))
        for node, runtime in (("n1", "crun"), ("n2", "runc")):
            yard.start_agent(node, SCNS_SINGLE_USER="false", SCNS_CONTAINER_RUNTIME=runtime)
        job_id = yard.submit(HOLD, user_name="nobody", tasks=4)
        yard.start(job_id, ["n1", "n2"], cpus=2, tasks=2)
        yard.exists("ready")
        all_claimed(yard)
        # 一个节点的步，没有 srun 也汇得齐。
        for step_id, (node, container) in enumerate((("n1", None), ("n1", box), ("n2", box))):
            words = ["sh", "-c", "ls /inside; ./program"] if container else ["./program"]
            launch(yard, job_id, {node: [0, 1]}, words, step_id, mpi="pmix", container=container, environment=QUIET)
            state = ended_step(yard, job_id, step_id)["state"]
            told = sorted((yard.output / f"slurm-{job_id}.{step_id}.out").read_text().splitlines())
            inside = ["/inside"] * 2 if container else []
            assert (state, told) == ("COMPLETED", [*inside, "0/2 sum 3", "1/2 sum 3"])
        (yard.output / "go").touch()
        yard.ended(job_id)
    finally:
        yard.close()
