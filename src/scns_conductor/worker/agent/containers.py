"""本节点上用哪些程序进容器：设置里写了的，否则找得到的；没有就说清楚缺什么。"""

import functools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scns_conductor.worker.host.thread_owner import within
from scns_conductor.worker.wire.container_spec import ContainerSpec

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

FOLDER = "container"
FOLDER_WAIT_S = 1.0
_FOLDERS: set[Path] = set()
_RUNTIMES = ("crun", "runc")
_IMAGE_PROGRAMS = ("podman", "apptainer", "singularity")
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerUnavailable(Exception):
    """本节点上进不了容器；说明给用户看。"""


def container_spec(
    settings: "Settings", script_dir: Path, *, bundle: str | None, image: str | None, uid: int
) -> ContainerSpec | None:
    """作业（步）要的容器；没有要是 None。本节点做不到抛 ContainerUnavailable。"""
    if bundle is None and image is None:
        return None
    node, program = settings.node_name, None
    if image is not None:
        program = _found(settings.container_image_program, _IMAGE_PROGRAMS)
        if program is None:
            raise ContainerUnavailable(f"节点 {node} 上没有 podman，也没有 apptainer，运行不了镜像 {image}")
        if os.path.basename(program) != "podman":
            return ContainerSpec(image=image, image_program=program, mounts=settings.container_mounts)
    runtime = _found(settings.container_runtime, _RUNTIMES)
    if runtime is None:
        raise ContainerUnavailable(f"节点 {node} 上没有容器的运行时（crun 或 runc）")
    if uid == 0 and os.path.basename(runtime) != "crun":
        # root 的 runc 总要另建 cgroup：那里的进程不在作业的里面，作业的上限与结束都管不着。
        raise ContainerUnavailable(f"以 root 运行的作业要用 crun 进容器，节点 {node} 上只有 {runtime}")
    unshare = _found(None, ("unshare",))
    if unshare is None:
        raise ContainerUnavailable(f"节点 {node} 上没有 unshare（util-linux），进不了容器")
    folder = script_dir / FOLDER
    if not _made(folder):
        raise ContainerUnavailable(f"节点 {node} 的脚本目录 {script_dir} 不答话，进不了容器")
    return ContainerSpec(
        bundle=bundle,
        image=image,
        runtime=runtime,
        image_program=program,
        unshare=unshare,
        folder=str(folder),
        mounts=settings.container_mounts,
    )


def _found(written: str | None, names: tuple[str, ...]) -> str | None:
    """设置写了的（路径或名字），没有写是 names 里先找到的。"""
    return next(filter(None, map(_where, (written,) if written else names)), None)


def _made(folder: Path) -> bool:
    """建好了没有；建好过的不再看，它也许在不答话的文件系统上。"""
    if folder not in _FOLDERS and within(FOLDER_WAIT_S, lambda: folder.mkdir(mode=0o755, exist_ok=True)):
        _FOLDERS.add(folder)
    return folder in _FOLDERS


@functools.lru_cache(maxsize=16)
def _where(name: str) -> str | None:
    return shutil.which(name, path=_SEARCH)
