"""进容器的命令行与 config.json：纯函数。"""

from pathlib import Path
from typing import Any

from scns_conductor.worker.host.container import (
    Inside,
    apptainer_command,
    launch_command,
    launcher_environment,
    oci_config,
    underlay,
    visible_paths,
)
from scns_conductor.worker.wire.container_spec import ContainerSpec

ALICE = {"uid": 1000, "gid": 100}
BUNDLE = {
    "ociVersion": "1.0.0",
    "process": {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/opt/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}],
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "crun",
    "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/data", "type": "bind", "source": "/srv"}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}], "resources": {"pids": {"limit": 1}}, "seccomp": {}},
}


def inside(**given: Any) -> Inside:
    environment = {"PATH": "/usr/bin", "HOME": "/home/alice", "COLOUR": "red", "LD_PRELOAD": "/x.so"}
    return Inside("scns-1", ["/bin/sh", "/s/job_1.sh"], environment, "/home/alice/work", **{**ALICE, **given})


def spec(**given: Any) -> ContainerSpec:
    return ContainerSpec(runtime="/usr/bin/crun", folder="/s/container", **given)


def test_the_job_is_the_bundles_only_in_its_file_system() -> None:
    made = oci_config(BUNDLE, inside(), "/b/rootfs", [("/tmp", "/tmp", False)], keeps_uid=True)
    process = made["process"]
    assert (process["args"], process["cwd"], process["terminal"]) == (
        ["/bin/sh", "/s/job_1.sh"],
        "/home/alice/work",
        False,
    )
    assert set(process["env"]) == {"PATH=/opt/bin", "TERM=xterm", "HOME=/home/alice", "COLOUR=red"}
    assert process["user"] == ALICE
    assert process["capabilities"] == {"bounding": ["CAP_KILL"]}
    assert "rlimits" not in process
    assert "hostname" not in made
    assert made["linux"] == {
        "namespaces": [{"type": "mount"}, {"type": "user"}],
        "seccomp": {},
        "uidMappings": [{"containerID": 1000, "hostID": 0, "size": 1}],
        "gidMappings": [{"containerID": 100, "hostID": 0, "size": 1}],
    }
    assert made["root"] == {"path": "/b/rootfs", "readonly": True}
    assert [each["destination"] for each in made["mounts"]] == ["/proc", "/sys", "/dev", "/data", "/tmp"]
    # 主机的 /proc，不是它要的新的。
    assert made["mounts"][0]["options"] == ["rbind"]


def test_root_and_runc_need_no_second_user_namespace() -> None:
    for made in (
        oci_config(BUNDLE, inside(uid=0, gid=0), "/b/rootfs", [], keeps_uid=True),
        oci_config(BUNDLE, inside(), "/b/rootfs", [], keeps_uid=False),
    ):
        assert made["process"]["user"] == {"uid": 0, "gid": 0}
        assert made["linux"]["namespaces"] == [{"type": "mount"}]


def test_the_command_lines() -> None:
    own = launch_command(spec(bundle="/b"), inside(), 7)
    assert own[:4] == ["/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh"]
    assert (
        own[-12:]
        == [
            *("scns-container", "/s/container", "7", "", ""),
            *("/usr/bin/crun", "--root", "/s/container/state", "--cgroup-manager", "disabled", "run", "--bundle"),
            "/s/container",
            "scns-1",
        ][-12:]
    )
    assert launch_command(spec(bundle="/b"), inside(uid=0, gid=0), 7)[:3] == ["/usr/bin/unshare", "--mount", "/bin/sh"]
    image = launch_command(spec(image="docker://alpine", image_program="/usr/bin/podman"), inside(), 7)
    assert image[:5] == ["/usr/bin/podman", "unshare", "/usr/bin/unshare", "--mount", "/bin/sh"]
    assert image[8:11] == ["/s/container", "7", "alpine"]
    assert "--preserve-fds" in launch_command(spec(bundle="/b"), inside(kept_fd=5), 7)
    apptainer = ContainerSpec(image="alpine", image_program="/usr/bin/apptainer")
    assert apptainer_command(apptainer, inside(), [("/tmp", "/tmp", False), ("/d", "/e", True)]) == [
        *("/usr/bin/apptainer", "--silent", "exec", "--bind", "/tmp:/tmp:rw", "--bind", "/d:/e:ro"),
        *("--pwd", "/home/alice/work", "docker://alpine", "/bin/sh", "/s/job_1.sh"),
    ]
    file = ContainerSpec(image="/images/a.sif", image_program="/usr/bin/apptainer")
    assert "/images/a.sif" in apptainer_command(file, inside(), [])


def test_what_is_visible_inside() -> None:
    found = visible_paths(
        spec(bundle="/b", mounts=["/scratch", "/srv/data:/data:ro"]), inside(paths=["/s/job_1.sh"]), lambda _path: True
    )
    assert found[2:] == [
        ("/scratch", "/scratch", False),
        ("/srv/data", "/data", True),
        ("/tmp", "/tmp", False),
        # 工作目录在家目录里面，不必再写。
        ("/home/alice", "/home/alice", False),
        ("/s/job_1.sh", "/s/job_1.sh", False),
    ]
    assert visible_paths(spec(bundle="/b"), inside(), lambda path: path == "/tmp") == [("/tmp", "/tmp", False)]


def test_the_launchers_environment() -> None:
    environment = {"PATH": "/x", "LD_LIBRARY_PATH": "/y", "XDG_RUNTIME_DIR": "/run/user/7", "A": "b"}
    found = launcher_environment(environment, lambda *_: False)
    assert found.pop("PATH").endswith(":/x")
    assert found == {"A": "b"}
    assert "XDG_RUNTIME_DIR" in launcher_environment(environment, lambda *_: True)


def test_a_root_that_cannot_be_written_is_laid_under(tmp_path: Path) -> None:
    for name in ("usr/bin", "home/other", "etc", "proc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/hosts").write_text("")
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "gone").symlink_to("nowhere")
    root = str(tmp_path)
    assert sorted(underlay(root, ["/etc/hosts", "/home/alice/work"])) == [
        (f"{root}/etc", "/etc"),
        (f"{root}/home/other", "/home/other"),
        (f"{root}/usr", "/usr"),
        (f"{root}/usr/bin", "/bin"),
    ]
