"""机器上的东西：系统用户、目录、文件、systemd 单元。"""

import grp
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from scns_conductor.local.setup.steps import SetupFailed, Step

SERVICE_USER = "scns"
HOME = Path("/var/lib/scns-conductor")
SETTINGS_DIR = Path("/etc/scns-conductor")
UNIT_DIR = Path("/etc/systemd/system")


def run(words: Sequence[str], *, stdin: str | None = None) -> str:
    """运行一个程序，返回它的标准输出；没有这个程序、退出码不为 0 都抛 SetupFailed，附上它的话。"""
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SetupFailed(f"没有 {words[0]} 这个程序") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SetupFailed(f"{shlex.join(words)} 失败：{said[-1] if said else f'退出码 {done.returncode}'}")
    return done.stdout


def has_systemd() -> bool:
    """systemd 是不是 1 号进程（sd_booted(3)）。"""
    return Path("/run/systemd/system").is_dir()


def require_root() -> Step:
    """要改系统的目录与用户。"""
    return Step("以 root 运行", lambda: os.geteuid() == 0, remedy="请用 sudo scns setup …")


def service_user() -> Step:
    """API 以它的身份运行；没有登录的 shell。"""

    def exists() -> bool:
        try:
            pwd.getpwnam(SERVICE_USER)
        except KeyError:
            return False
        return True

    command = [
        *("useradd", "--system", "--user-group", "--home-dir", str(HOME), "--no-create-home"),
        *("--shell", "/usr/sbin/nologin", SERVICE_USER),
    ]
    return Step(f"系统用户 {SERVICE_USER}", exists, lambda: run(command), (" ".join(command),))


def directory(path: Path, mode: int, owner: str) -> Step:
    """目录，连同属主与权限。"""

    def right() -> bool:
        if not path.is_dir():
            return False
        found = path.stat()
        return found.st_mode & 0o7777 == mode and found.st_uid == pwd.getpwnam(owner).pw_uid

    def make() -> None:
        path.mkdir(parents=True, exist_ok=True)
        shutil.chown(path, owner, grp.getgrgid(pwd.getpwnam(owner).pw_gid).gr_name)
        path.chmod(mode)

    return Step(
        f"目录 {path}（{mode:04o}，属于 {owner}）",
        # 用户还没有建时（--dry-run）当作没有。
        lambda: _exists(owner) and right(),
        make,
        (f"install -d -m {mode:04o} -o {owner} -g {owner} {path}",),
    )


def _exists(user_name: str) -> bool:
    return any(entry.pw_name == user_name for entry in pwd.getpwall())


def write_file(path: Path, text: str, mode: int, *, owner: str = "root", group: str = "root") -> None:
    """先写临时文件再换上：读的人看不到写了一半的；从一开始就是 mode。"""
    temporary = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    shutil.chown(temporary, owner, group)
    temporary.chmod(mode)
    temporary.rename(path)


def unit_text(name: str, program: Path) -> str:
    """随软件包带着的 systemd 单元或 logrotate 设置；@SCNS@ 换成 scns 的路径。"""
    text = resources.files("scns_conductor.local.setup").joinpath("units", name).read_text(encoding="utf-8")
    return text.replace("@SCNS@", str(program))


def installed_file(name: str, target: Path, program: Path) -> Step:
    """把随软件包带着的文件装到 target。"""
    text = unit_text(name, program)

    def same() -> bool:
        return target.is_file() and target.read_text(encoding="utf-8") == text

    return Step(f"{target}", same, lambda: write_file(target, text, 0o644), (f"写 {target}（{name}）",))


def started_unit(name: str) -> Step:
    """开机就启动，现在也启动；单元文件变了就重启。"""

    def running() -> bool:
        asked = [
            subprocess.run(["systemctl", word, "--quiet", name], check=False, capture_output=True).returncode
            for word in ("is-enabled", "is-active")
        ]
        stale = run(["systemctl", "show", "--property=NeedDaemonReload", "--value", name]).strip() == "yes"
        return asked == [0, 0] and not stale

    def start() -> None:
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "enable", name])
        run(["systemctl", "restart", name])

    return Step(
        f"服务 {name} 在运行，开机启动",
        running,
        start,
        ("systemctl daemon-reload", f"systemctl enable --now {name}"),
        remedy=f"看 journalctl -u {name} -n 50",
    )
