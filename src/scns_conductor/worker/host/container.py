"""进容器：把容器的说明与作业要的命令合成 OCI 的 config.json，与启动它的命令行。

容器只有自己的文件系统（与不是 root 时的用户名字空间）：网络、进程号、cgroup 都是主机的，所以信号、内存上限、
时限、设备的约束、srun 与 MPI 都同没有容器一样。运行时不建 cgroup：进程留在作业自己的里面。
命令在进程换了用户之后才组成：镜像与目录是用户的，读得了多少由他的身份定。只用标准库。
"""

from __future__ import annotations

import json
import os
import posixpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from scns_conductor.worker.wire.container_spec import ContainerSpec

# $1 空目录，$2 说明在哪个描述符里，$3 镜像（没有是空的），$4 podman，其余是运行时的命令。
# 都在进程自己的挂载名字空间里：随它一起没有，什么也不用收拾。
_START = """set -e
mount -t tmpfs -o mode=0755 scns "$1"
mkdir "$1/rootfs"
cat "/proc/self/fd/$2" >"$1/config.json"
unified=/sys/fs/cgroup/unified
if [ -e "$unified/cgroup.controllers" ]; then mount -t tmpfs scns "$unified"; fi
if [ -n "$3" ]; then
  mkdir "$1/upper" "$1/work"
  lower=$("$4" image mount "$3")
  mount -t overlay -o "lowerdir=$lower,upperdir=$1/upper,workdir=$1/work" scns "$1/rootfs"
fi
shift 4
exec "$@"
"""
# 主机的，容器自己写的不用：进程号、设备、cgroup 都是主机的。
_HOST_TREES = ("/proc", "/sys", "/dev")
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
# 说的是文件系统里的东西：容器写了的为准，没有写就没有。
_OF_CONTAINER = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOLD_CHARS = 300
_MOST_LINKS = 40
# 镜像里没有写能力：同 podman 缺省给容器里的 root 的。
_IMAGE_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
        "SETUID", "SYS_CHROOT",
    )
]  # fmt: skip


class ContainerFault(Exception):
    """进不了容器；说明给用户看。"""


class Inside:
    """要在容器里做的：命令、环境、目录，谁来做。paths 是另外要看得见的，kept_fd 是要带进去的描述符（PMI）。"""

    __slots__ = ("argv", "cwd", "env", "gid", "kept_fd", "name", "paths", "terminal", "uid")

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        *,
        uid: int,
        gid: int,
        paths: Sequence[str] = (),
        terminal: bool = False,
        kept_fd: int | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.cwd = cwd
        self.uid = uid
        self.gid = gid
        self.paths = list(paths)
        self.terminal = terminal
        self.kept_fd = kept_fd


def enter(spec: ContainerSpec, inside: Inside) -> tuple[list[str], dict[str, str]]:
    """换了用户之后调用：备好容器，返回要换成的命令与它的环境；进不了抛 ContainerFault。

    说明在一个 exec 之后还在的描述符里。拉镜像也在这里，由作业自己的进程去等。
    """
    env = launcher_environment(inside.env, os.access)
    if spec.image is not None and os.path.basename(spec.image_program or "") != "podman":
        mounts = visible_paths(spec, inside, os.path.exists)
        return apptainer_command(spec, inside, mounts), env
    bundle = read_bundle(spec.bundle) if spec.bundle is not None else _image_bundle(spec, env)
    root, mounts = f"{spec.folder}/rootfs", visible_paths(spec, inside, os.path.exists)
    layers: list[tuple[str, str]] = []
    if spec.bundle is not None:
        own = _rootfs(spec.bundle, bundle)
        if os.access(own, os.W_OK):
            root = own
        else:
            # 挂载点建不进去：根是一个空目录，里面的逐项挂上。
            layers = underlay(own, [*(place for _, place, _ in mounts), *_own_places(bundle)])
    config = oci_config(bundle, inside, root, mounts, layers=layers, keeps_uid=_keeps_uid(spec))
    fd = os.memfd_create("container", 0)
    with open(fd, "wb", closefd=False) as file:
        file.write(json.dumps(config).encode("utf-8", "surrogateescape"))
    return launch_command(spec, inside, fd), env


def read_bundle(bundle: str) -> dict[str, Any]:
    """OCI 目录里的 config.json；没有、读不了、不成样子抛 ContainerFault。"""
    path = f"{bundle}/config.json"
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        if os.path.isdir(bundle):
            raise ContainerFault(f"容器的目录 {bundle} 里没有 config.json，不是 OCI bundle") from None
        raise ContainerFault(f"容器的目录 {bundle} 不存在") from None
    except (OSError, ValueError) as error:
        raise ContainerFault(f"读不了容器的说明 {path}：{error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("root", {}), dict):
        raise ContainerFault(f"容器的说明 {path} 不是 OCI 的 config.json")
    return found


def _rootfs(bundle: str, config: Mapping[str, Any]) -> str:
    root = posixpath.join(bundle, str((config.get("root") or {}).get("path") or "rootfs"))
    if not os.path.isdir(root):
        raise ContainerFault(f"容器的文件系统 {root} 不存在")
    return root


def _keeps_uid(spec: ContainerSpec) -> bool:
    """crun 里还是原来的 uid；runc 只会以 0 号用户开头，容器里看到的自己是 root（外面仍是本人）。"""
    return os.path.basename(spec.runtime or "") == "crun"


def seen_ids(spec: ContainerSpec | None, uid: int, gid: int) -> tuple[int, int]:
    """外面的 (uid, gid) 在容器里看到的自己是谁；没有容器就是它们。"""
    inside_runc = spec is not None and spec.runtime is not None and not _keeps_uid(spec)
    return (0, 0) if inside_runc else (uid, gid)


def oci_config(
    bundle: Mapping[str, Any],
    inside: Inside,
    root: str,
    mounts: Sequence[tuple[str, str, bool]],
    *,
    layers: Sequence[tuple[str, str]] = (),
    keeps_uid: bool,
) -> dict[str, Any]:
    """合成的 config.json：文件系统、能力、seccomp 是容器的，命令、环境、目录、用户、名字空间是作业的。

    mounts 是（源，处，只读）；layers 是拼成根的（源，处）。
    """
    own = dict(bundle.get("process") or {})
    base = dict(item.partition("=")[::2] for item in own.get("env") or ())
    environment = {**base, **{name: value for name, value in inside.env.items() if name not in _OF_CONTAINER}}
    environment.setdefault("PATH", _DEFAULT_PATH)
    switches = inside.uid != 0 and keeps_uid
    process = {
        **{name: own[name] for name in ("capabilities", "noNewPrivileges", "oomScoreAdj") if name in own},
        "terminal": inside.terminal,
        "user": {"uid": inside.uid, "gid": inside.gid} if switches else {"uid": 0, "gid": 0},
        "args": inside.argv,
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": inside.cwd,
    }
    linux: dict[str, Any] = {"namespaces": [{"type": "mount"}]}
    if "seccomp" in (bundle.get("linux") or {}):
        linux["seccomp"] = bundle["linux"]["seccomp"]
    if switches:
        # 外面已是一个用户名字空间，里面的 0 就是本人。
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = [{"containerID": inside.uid, "hostID": 0, "size": 1}]
        linux["gidMappings"] = [{"containerID": inside.gid, "hostID": 0, "size": 1}]
    return {
        "ociVersion": bundle.get("ociVersion") or "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": bool((bundle.get("root") or {}).get("readonly"))},
        "mounts": [
            *(_bound((source, path)) for source, path in layers),
            *(_bound((path, path)) for path in _HOST_TREES),
            *(each for each in bundle.get("mounts") or () if not _of_host(str(each.get("destination")))),
            *map(_bound, mounts),
        ],
        "hooks": bundle.get("hooks") or {},
        # 作业的附加组照旧管用。
        "annotations": {**(bundle.get("annotations") or {}), "run.oci.keep_original_groups": "1"},
        "linux": linux,
    }


def _bound(mount: tuple[str, str] | tuple[str, str, bool]) -> dict[str, Any]:
    options = ["rbind", "ro"] if mount[2:] == (True,) else ["rbind"]
    return {"destination": mount[1], "type": "none", "source": mount[0], "options": options}


def _own_places(bundle: Mapping[str, Any]) -> list[str]:
    """容器自己的 mounts 挂在哪里（主机的不算）。"""
    places = [str(each.get("destination")) for each in bundle.get("mounts") or ()]
    return [place for place in places if not _of_host(place)]


def _of_host(destination: str) -> bool:
    return any(_within(destination, tree) for tree in _HOST_TREES)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def visible_paths(spec: ContainerSpec, inside: Inside, exists: Any) -> list[tuple[str, str, bool]]:
    """容器里也要看得见的：(源, 处, 只读)。管理员写的、/tmp、家目录、工作目录、脚本；已在别的里面的不再写。"""
    found: list[tuple[str, str, bool]] = [(path, path, True) for path in _HOST_FILES if exists(path)]
    for text in spec.mounts or ():
        source, _, rest = text.partition(":")
        place, _, mode = rest.partition(":")
        found.append((source, place or source, mode == "ro"))
    for path in ("/tmp", inside.env.get("HOME") or "/", inside.cwd, *inside.paths):
        known = any(_within(path, place) and source == place for source, place, _ in found)
        if path != "/" and not known and exists(path) and not _of_host(path):
            found.append((path, path, False))
    return found


def underlay(root: str, places: Sequence[str]) -> list[tuple[str, str]]:
    """root 里的逐项，(源, 处)：places 里它没有的，一路上的目录拆开，挂载点就有地方建。"""
    opened = {"/"}
    for place in places:
        if not os.path.lexists(root + place):
            while (place := posixpath.dirname(place)) not in opened:
                opened.add(place)
    found: list[tuple[str, str]] = []
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        for name in sorted(os.listdir(root + folder)):
            path = posixpath.join(folder, name)
            if path in opened and os.path.isdir(root + path) and not os.path.islink(root + path):
                waiting.append(path)
            elif (source := _resolved(root, path)) is not None and path not in _HOST_TREES:
                found.append((source, path))
    return found


def _resolved(root: str, path: str) -> str | None:
    """root 里的 path 经过链接之后是哪一个；不在了的是 None。"""
    for _ in range(_MOST_LINKS):
        if not os.path.islink(root + path):
            return root + path if os.path.exists(root + path) else None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), os.readlink(root + path)))
    return None


def launch_command(spec: ContainerSpec, inside: Inside, config_fd: int) -> list[str]:
    """启动的整个命令行：进名字空间，运行上面的脚本，再换成运行时。"""
    image = podman_name(spec.image) if spec.image is not None else ""
    podman = spec.image_program or ""
    outer = [spec.unshare, "--mount"]
    if inside.uid != 0:
        # 镜像的文件属于许多用户：podman 自己的用户名字空间认得它们（/etc/subuid）。
        outer = [podman, "unshare", *outer] if image else [spec.unshare, "--map-root-user", "--mount"]
    apart = ("--cgroup-manager", "disabled") if _keeps_uid(spec) else ("--log", f"{spec.folder}/log")
    # 从 3 号数起要留几个。
    kept = () if inside.kept_fd is None else ("--preserve-fds", str(inside.kept_fd - 2))
    return [
        *outer,
        *("/bin/sh", "-c", _START, "scns-container", spec.folder, str(config_fd), image, podman),
        *(spec.runtime or "", "--root", f"{spec.folder}/state", *apart),
        *("run", *kept, "--bundle", spec.folder, inside.name),
    ]


def podman_name(image: str) -> str:
    """docker://alpine 与 alpine 是一回事：podman 的本地镜像没有前面那一段。"""
    return image.removeprefix("docker://")


def apptainer_command(spec: ContainerSpec, inside: Inside, mounts: Sequence[tuple[str, str, bool]]) -> list[str]:
    """apptainer 的命令行：它自己换名字空间，环境照它的规矩带进去。不是文件、没有写来处的名字从 docker:// 拉。"""
    image = str(spec.image)
    if "://" not in image and not image.startswith("/"):
        image = f"docker://{image}"
    binds = [f"{source}:{place}:{'ro' if only else 'rw'}" for source, place, only in mounts]
    words = [word for bind in binds for word in ("--bind", bind)]
    return [spec.image_program or "", "--silent", "exec", *words, "--pwd", inside.cwd, image, *inside.argv]


def launcher_environment(env: Mapping[str, str], access: Any) -> dict[str, str]:
    """容器之外那一段的环境：作业的，去掉换载入库的；不是自己能写的 XDG_RUNTIME_DIR（从提交的机器带来的）不要。"""
    found = {name: value for name, value in env.items() if not name.startswith("LD_")}
    found["PATH"] = f"{_DEFAULT_PATH}:{env['PATH']}" if env.get("PATH") else _DEFAULT_PATH
    runtime = found.get("XDG_RUNTIME_DIR")
    if runtime is not None and not access(runtime, os.W_OK):
        del found["XDG_RUNTIME_DIR"]
    return found


def _image_bundle(spec: ContainerSpec, env: Mapping[str, str]) -> dict[str, Any]:
    """镜像自己的环境；本机没有就拉。拉不下来抛 ContainerFault，带 podman 的最后一行。"""
    podman, image = str(spec.image_program), podman_name(str(spec.image))
    if _run([podman, "image", "exists", image], env)[0]:
        status, _, complaint = _run([podman, "pull", "--quiet", image], env)
        if status:
            raise ContainerFault(f"镜像 {image} 拉不下来：{complaint}")
    status, answer, complaint = _run([podman, "image", "inspect", "--format", "{{json .Config}}", image], env)
    if status:
        raise ContainerFault(f"读不了镜像 {image}：{complaint}")
    try:
        environment = (json.loads(answer) or {}).get("Env") or []
    except ValueError as error:
        raise ContainerFault(f"镜像 {image} 的说明看不懂：{error}") from error
    sets = ("bounding", "effective", "permitted")
    return {"process": {"env": environment, "capabilities": dict.fromkeys(sets, _IMAGE_CAPABILITIES)}}


def _run(argv: list[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """（退出码，输出，错误输出的最后一行）。错误输出写进匿名的文件：不怕它写得多。"""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    try:
        actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
        pid = os.posix_spawn(argv[0], argv, dict(env), file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        lines = _text(err).strip().splitlines() or [f"退出码 {status}"]
        return status, _text(out), lines[-1][-_TOLD_CHARS:]
    except OSError as error:
        raise ContainerFault(f"无法执行 {argv[0]}：{error.strerror}") from error
    finally:
        os.close(out)
        os.close(err)


def _text(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")
