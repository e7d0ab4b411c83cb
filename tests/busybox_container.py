"""一个很小的容器：静态的 busybox，一个认得出的文件；OCI 目录的 config.json 由运行时自己写。"""

import json
import os
import shutil
import subprocess
from pathlib import Path

# 容器里才有的文件。
MARKER = "/etc/inside-the-box"
BUSYBOX = Path("/bin/busybox")


def write_rootfs(folder: Path) -> Path:
    """容器的文件系统。"""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for name in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (folder / "bin" / name).exists():
            os.symlink("busybox", folder / "bin" / name)
    (folder / MARKER.lstrip("/")).write_text("in the box\n")
    return folder


def write_bundle(folder: Path, owner: tuple[int, int] | None = None) -> Path:
    """OCI 目录；owner 是它的主人。"""
    write_rootfs(folder / "rootfs")
    subprocess.run(["crun", "spec"], cwd=folder, check=True)
    if owner is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *owner, follow_symlinks=False)
    return folder


# 主机的目录：程序的库，Open MPI 的部件与它的设置。
HOST_FOLDERS = ("/usr", "/bin", "/lib", "/lib64", "/etc/openmpi", "/etc/alternatives")


def write_host_bundle(folder: Path) -> Path:
    """根是自己的、程序与库是主机的 OCI 目录：主机上编译的在里面也跑得了；里面有 /inside。"""
    root = folder / "rootfs"
    root.mkdir(parents=True)
    (root / "inside").touch()
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    mounts = [
        {"destination": path, "type": "none", "source": path, "options": ["rbind", "ro"]} for path in HOST_FOLDERS
    ]
    config = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "mounts": mounts}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def import_image(folder: Path, name: str) -> None:
    """不经任何仓库的镜像。"""
    write_rootfs(folder / "image")
    packed = shutil.make_archive(str(folder / "image"), "tar", folder / "image")
    subprocess.run(["podman", "import", "--quiet", "--change", "ENV=BOX=wood", packed, name], check=True)
