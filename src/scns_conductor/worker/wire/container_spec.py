"""在容器里运行：哪个容器、用哪些程序。代理写进启动说明，进程自己在换了用户之后照着进去（worker/host/container.py）。"""

from __future__ import annotations

from scns_conductor.worker.wire.record import Record


class ContainerSpec(Record):
    """bundle 是 OCI 的目录，image 是镜像的名字，恰有一个；路径都是绝对路径。

    runtime 是 crun 或 runc；image_program 是 podman 或 apptainer，只有镜像才要。
    folder 是本机的一个空目录：进程在自己的挂载名字空间里盖上 tmpfs，容器的说明与写下的都在里面，随进程一起没有。
    mounts 是节点上也要看得见的，'源:处[:ro]'；写不写工作目录、家目录、脚本由进去的一方加。
    """

    bundle: str | None = None
    image: str | None = None
    runtime: str | None = None
    image_program: str | None = None
    unshare: str = "/usr/bin/unshare"
    folder: str = ""
    mounts: list[str] | None = None
