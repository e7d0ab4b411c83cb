"""从 API 的机器经 ssh 把别的机器装成节点：抄设置、装软件包、scns setup worker。几台同时做，一台不成不碍别的。"""

import shlex
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from scns_conductor.language import own_language, told
from scns_conductor.local.setup.settings_file import SETTINGS_FILE, read_settings
from scns_conductor.local.setup.steps import SetupFailed

AT_ONCE = 8
# 装软件包要几分钟；更久的当作卡住了。
COMMAND_WAIT_S = 900
# 没有人在那里答口令，也没有人等一台关着的机器。
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# ssh 自己没有做成（不是那边的命令）时的退出码。
_SSH_FAILED = 255
_DIFFERENT, _NOT_INSTALLED = 3, 4
# 设置里有口令：从标准输入送，不在命令行上。那边已有别的内容时，没有说换就不动。
_COPY_SETTINGS = f"""
new={SETTINGS_FILE}.new
install -d -m 0755 {SETTINGS_FILE.parent}
umask 077
cat >"$new"
if cmp -s "$new" {SETTINGS_FILE}; then
  rm -f "$new"
elif [ -e {SETTINGS_FILE} ] && [ "$REPLACE" != yes ]; then
  rm -f "$new"
  exit {_DIFFERENT}
else
  mv "$new" {SETTINGS_FILE}
fi
"""
_SET_UP = f"""
command -v scns >/dev/null || exit {_NOT_INSTALLED}
SCNS_LANG=$LANGUAGE scns setup worker --quiet """
_INSTALL = """
file=$(mktemp --suffix=.deb)
trap 'rm -f "$file"' EXIT
cat >"$file"
chmod 0644 "$file"
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$file" 2>&1
"""


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """ssh 是命令连同选项；package 是要装的 .deb，None 表示那边已经装好；replace 是可以换掉那边不一样的设置。"""

    ssh: tuple[str, ...] = ("ssh",)
    package: Path | None = None
    replace: bool = False
    dry_run: bool = False


def check_here() -> None:
    """这里的设置给得了别的机器：有，而且不是只给本机的；不行抛 SetupFailed。"""
    settings = read_settings()
    missing = sorted({"database_url", "redis_url", "api_url"} - settings.keys())
    if missing:
        raise SetupFailed(f"{SETTINGS_FILE} 里没有 {'、'.join(missing)}；请先在这台机器上 scns setup api")
    own = [name for name in ("database_url", "redis_url", "api_url") if _is_loopback(str(settings[name]))]
    if own:
        raise SetupFailed(
            f"{SETTINGS_FILE} 的 {'、'.join(own)} 是本机的回环地址，别的机器连不上；"
            "请改成这台机器的名字，再 scns setup api --address 名字 --allow 网段"
        )


def set_up_nodes(hosts: Iterable[str], wanted: NodeSetup, tell: Callable[[str], object]) -> list[str]:
    """依次说出每台的结果（已经是使用者的语言），返回没有做成的。"""
    names = list(dict.fromkeys(hosts))
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, (lines, good) in zip(names, pool.map(lambda each: _one(each, wanted), names), strict=True):
            for line in lines:
                tell(f"{name}: {line}")
            if not good:
                failed.append(name)
    return failed


def _one(host: str, wanted: NodeSetup) -> tuple[list[str], bool]:
    """一台：要告诉人的各行，做成了没有。"""
    set_up = f"LANGUAGE={own_language()}\n{_SET_UP}"
    try:
        if wanted.dry_run:
            return _ask(host, wanted, f"{set_up} --dry-run"), True
        _ask(host, wanted, f"REPLACE={'yes' if wanted.replace else 'no'}\n{_COPY_SETTINGS}", SETTINGS_FILE.read_bytes())
        if wanted.package is not None:
            _ask(host, wanted, _INSTALL, wanted.package.read_bytes())
        return _ask(host, wanted, set_up), True
    except SetupFailed as error:
        return [told(f"没有做成。{error}")], False


def _ask(host: str, wanted: NodeSetup, script: str, stdin: bytes = b"") -> list[str]:
    """在那台机器上以 root 执行一段 sh，返回它说的各行；不是 root 登录的用 sudo。"""
    inner = shlex.quote(f"set -e\n{script}")
    command = f'if [ "$(id -u)" = 0 ]; then exec sh -c {inner}; else exec sudo -n sh -c {inner}; fi'
    words = (*wanted.ssh, *_OPTIONS, "--", host, command)
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=COMMAND_WAIT_S, check=False)
    except FileNotFoundError as error:
        raise SetupFailed(f"没有 {wanted.ssh[0]} 这个程序；请 apt install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise SetupFailed(f"{COMMAND_WAIT_S} 秒没有做完") from error
    said = done.stdout.decode(errors="replace").splitlines()
    complaints = [line for line in [*said, *done.stderr.decode(errors="replace").splitlines()] if line.strip()]
    last = complaints[-1] if complaints else f"退出码 {done.returncode}"
    match done.returncode:
        case 0:
            return said
        case code if code == _DIFFERENT:
            raise SetupFailed(f"那边已有内容不同的 {SETTINGS_FILE}；要换掉它用 --replace-settings")
        case code if code == _NOT_INSTALLED:
            raise SetupFailed("那边还没有装 scns；用 --package 给出软件包")
        case code if code == _SSH_FAILED:
            raise SetupFailed(f"ssh 连不上：{last}；root 要能用密钥登录，或登录之后 sudo 不问口令")
        case _:
            raise SetupFailed(last)


def _is_loopback(url: str) -> bool:
    # 几台主机（主机:端口,主机:端口）时 hostname 读得出第一台，port 才会抛错。
    with suppress(ValueError):
        return urlsplit(url).hostname in _LOOPBACK
    return False
