"""scns up 的一生：占住数据目录 → 启动 → 写就绪文件 → 看着 → 停下。scns down 请它停下。"""

import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scns_conductor.core.errors import ConductorError, SettingsError
from scns_conductor.core.settings import current_user_name, load_settings
from scns_conductor.language import told
from scns_conductor.local.data_directory import AlreadyRunning, DataDirectory, read_web_url, write_private
from scns_conductor.local.postgres import EngineError
from scns_conductor.local.supervisor import StopRequested, Supervisor
from scns_conductor.local.system import LocalSystem, StartFailed, UpOptions

# 多久看一次数据目录还在不在。
LOOK_S = 2.0
DETACHED_WAIT_S = 180.0
DOWN_WAIT_S = 120.0

logger = logging.getLogger(__name__)


def say(text: str) -> None:
    """给人看的一行。"""
    print(told(text), flush=True)


def run_up(
    options: UpOptions,
    ready_file: Path | None = None,
    progress: Callable[[str], None] = say,
    *,
    in_background: bool = False,
) -> int:
    """运行整个系统，直到收到停机信号；返回退出码：0 正常停下，1 没能起来。

    in_background：是 run_detached 起的，怎样用由它说。
    """
    directory = DataDirectory(options.data_dir)
    try:
        directory.prepare()
        directory.lock()
    except (AlreadyRunning, SettingsError) as error:
        print(told(str(error)), file=sys.stderr)
        return 1
    if os.geteuid() == 0:
        print(told("警告：以 root 启动，单用户模式下作业也以 root 身份运行"), file=sys.stderr)
    supervisor = Supervisor()
    system: LocalSystem | None = None
    written: list[Path] = []
    code = 0
    try:
        system = LocalSystem(directory, options, supervisor)
        wanted = load_settings().api_port
        if options.port is None and system.port != wanted:
            progress(f"端口 {wanted} 已被占用，改用 {system.port}")
        write_private(directory.environment_file, _shell_lines(system.connection_environment()))
        written.append(directory.environment_file)
        system.start(progress)
        ready: dict[str, str | int] = {"url": system.url, "token": _issue_token(system), "pid": os.getpid()}
        if system.web_url is not None:
            ready["web"] = system.web_url
        texts = {directory.header_file: f"Authorization: Bearer {ready['token']}\n"}
        texts |= {path: json.dumps(ready) + "\n" for path in (directory.client_file, ready_file) if path is not None}
        for path, text in texts.items():
            try:
                write_private(path, text)
            except OSError as error:
                raise StartFailed(f"写不了 {path}：{error.strerror}") from error
            written.append(path)
        if not in_background:
            _say_usage(directory, system.url, progress, stop="Ctrl-C，或 ")
        supervisor.wait_until(directory.deleted, math.inf, LOOK_S)
        print(told(f"数据目录 {directory.path} 被删掉了：没有它什么也留不下，停下"), file=sys.stderr)
        code = 1
    except StopRequested:
        pass
    except (ConductorError, EngineError, StartFailed) as error:
        print(told(f"启动失败：{error}"), file=sys.stderr)
        code = 1
    finally:
        for path in written:
            path.unlink(missing_ok=True)
        if system is not None:
            system.stop(progress)
        supervisor.close()
        directory.unlock()
    progress("已停止")
    return code


def run_detached(
    arguments: Sequence[str], data_dir: Path, ready_file: Path | None = None, progress: Callable[[str], None] = say
) -> int:
    """在后台启动 scns up（arguments 是它的选项），等到就绪后返回；起不来返回它的退出码。

    已经在运行就只说它在哪里；要写 ready_file 的除外：那是别人在等的另一个系统。
    """
    directory = DataDirectory(data_dir)
    directory.prepare()
    running = directory.running_pid()
    if running is not None and ready_file is None and _ready_pid(directory.client_file) == running:
        progress(f"已经在运行（进程 {running}），这次的选项没有用上；要换先停下它")
        _say_usage(directory, _ready_url(directory), progress)
        return 0
    log_path = directory.logs / "up.log"
    log_path.unlink(missing_ok=True)
    with open(log_path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scns_conductor.local", "up", "--in-background", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    shown = 0
    deadline = time.monotonic() + DETACHED_WAIT_S
    try:
        while True:
            finished = process.poll() is not None
            ready = _ready_pid(directory.client_file) == process.pid
            text = log_path.read_text(errors="replace")
            if len(text) > shown:
                progress(text[shown:].rstrip("\n"))
                shown = len(text)
            if finished:
                return process.returncode or 1
            if ready:
                # 登录的链接只给终端：日志里不留。
                _say_usage(directory, _ready_url(directory), progress)
                return 0
            if time.monotonic() > deadline:
                process.terminate()
                return process.wait() or 1
            time.sleep(0.05)
    except KeyboardInterrupt:
        process.terminate()
        return process.wait() or 130


def run_down(data_dir: Path, progress: Callable[[str], None] = say) -> int:
    """请占着这个数据目录的 scns up 停下，等它停完；没有在运行也算成功。"""
    directory = DataDirectory(data_dir)
    pid = directory.running_pid()
    if pid is None:
        progress(f"{directory.path} 上没有在运行的实例")
        return 0
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        progress("已停止")
        return 0
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except PermissionError:
        print(told(f"进程 {pid} 属于别的用户，不能停它"), file=sys.stderr)
        return 1
    finally:
        os.close(handle)
    deadline = time.monotonic() + DOWN_WAIT_S
    while directory.running_pid() == pid:
        if time.monotonic() > deadline:
            print(told(f"进程 {pid} 在 {DOWN_WAIT_S:g} 秒内没有停下；日志在 {directory.logs}"), file=sys.stderr)
            return 1
        time.sleep(0.05)
    progress(f"已停止（进程 {pid}）")
    return 0


def _ready_pid(client_file: Path) -> int | None:
    try:
        return int(json.loads(client_file.read_text())["pid"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _ready_url(directory: DataDirectory) -> str:
    return str(json.loads(directory.client_file.read_text())["url"])


def _shell_lines(environment: dict[str, str]) -> str:
    """可以被 shell 用 . 读入的变量。"""
    return "".join(f"{name}={_single_quoted(value)}\n" for name, value in environment.items())


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _issue_token(system: LocalSystem) -> str:
    """给启动者的管理员令牌。"""
    from scns_conductor.core.tokens import issue_token

    # 它在数据目录里（0600），每次启动换新的；要比不停机的时间长。
    return issue_token(system.settings, current_user_name(), admin=True, lifetime_s=365 * 86400)


def _say_usage(directory: DataDirectory, url: str, progress: Callable[[str], None], *, stop: str = "") -> None:
    """怎样用它；stop 是 scns down 之外怎样停下。"""
    progress(_banner(directory, url, stop))
    _say_web(directory, progress)


def _say_web(directory: DataDirectory, progress: Callable[[str], None]) -> None:
    """看板的地址；在终端上是一个一次性的登录链接，别处只说怎样要一个。令牌从不打印。"""
    from scns_conductor.web.login_links import create_login_link

    url = read_web_url(directory)
    if url is None:
        return
    if sys.stdout.isatty():
        ready = json.loads(directory.client_file.read_text())
        link = create_login_link(directory.path, url, str(ready["token"]))
        progress(f"  看板      {link}\n            （一小时内可用一次）\n")
    else:
        scns = Path(sys.executable).with_name("scns")
        progress(
            f"  看板      {url}\n"
            f"            登录的链接：SCNS_DATA_DIR={_single_quoted(str(directory.path))} {scns} web --link\n"
        )


def _banner(directory: DataDirectory, url: str, stop: str) -> str:
    scns = Path(sys.executable).with_name("scns")
    place = _single_quoted(str(directory.path))
    script = f"#!/bin/bash\\necho {told('你好，我在')} $(hostname)\\n"
    return f"""
SCNS-Conductor 已就绪
  接口文档  {url}/docs
  认证      请求头 Authorization: Bearer <令牌>；令牌在 {directory.client_file}（仅你可读），scns 命令会自己找到它
  用 curl   curl -s -H @{_single_quoted(str(directory.header_file))} -H 'Content-Type: application/json' \\
              -d '{{"job": {{"name": "hello"}}, "script": "{script}"}}' {url}/jobs/submit
  用 scns   printf '{script}' | SCNS_DATA_DIR={place} {scns} submit --wait -
  停止      {stop}{scns} down --data-dir {place}
  日志      {directory.logs}
"""
