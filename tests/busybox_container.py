"""一个很小的容器：静态的 busybox，一个认得出的文件；OCI 目录的 config.json 由运行时自己写。"""

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


def import_image(folder: Path, name: str) -> None:
    """不经任何仓库的镜像。"""
    write_rootfs(folder / "image")
    packed = shutil.make_archive(str(folder / "image"), "tar", folder / "image")
    subprocess.run(["podman", "import", "--quiet", "--change", "ENV=BOX=wood", packed, name], check=True)
