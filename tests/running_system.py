"""启动一个完整的 scns up，并能问它话；只用标准库的 HTTP。"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

import warm_processes
from engine_template import copy_template
from polling import pause
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import issue_token

START_WAIT_S = 120.0
STOP_WAIT_S = 90.0
TERMINAL = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE"}


def wait_until(condition: Callable[[], Any], wait_s: float = 60.0, what: str = "") -> Any:
    """等到 condition 为真并返回它的值；到时没有则测试失败。"""
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > began + wait_s:
            raise AssertionError(f"{wait_s:g} 秒内没有等到：{what or condition}；最后的值是 {value!r}")
        pause(began)


def alive(pid: int) -> bool:
    """进程还在运行；僵尸不算。"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """此刻空着的一个端口。"""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class RunningSystem:
    """一个正在运行的 scns up。"""

    data_dir: Path
    process: warm_processes.Process
    url: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """客户端命令要用的环境变量。"""
        return {**os.environ, "SCNS_URL": self.url, "SCNS_TOKEN": self.token, "SCNS_DATA_DIR": str(self.data_dir)}

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """发一个请求，返回（状态码，JSON 或文本）；HTTP 错误不抛。"""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, data = error.code, error.read()
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data.decode(errors="replace")

    def submit(self, script: str, **job: Any) -> str:
        """提交一份脚本，返回作业号。"""
        job.setdefault("current_working_directory", str(self.data_dir))
        status, answer = self.call("POST", "/jobs/submit", {"job": job, "script": script})
        assert status in (200, 201), answer
        job_id: str = answer["job_id"]
        return job_id

    def query(self, job_id: str) -> dict[str, Any]:
        """固定的查询接口。"""
        status, answer = self.call("GET", f"/jobs/query/{job_id}")
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    def wait_state(self, job_id: str, *states: str, wait_s: float = 60.0) -> dict[str, Any]:
        """等到作业处于其中一个状态；不给则等到任何终态。"""
        wanted = set(states) or TERMINAL
        answer: dict[str, Any] = {}

        def reached() -> bool:
            answer.update(self.query(job_id))
            return answer["state"] in wanted

        try:
            wait_until(reached, wait_s)
        except AssertionError:
            # 到了别的终态的，说明里有为什么。
            raise AssertionError(f"{wait_s:g} 秒内没有等到：作业 {job_id} 到 {wanted}，现在 {answer}") from None
        return answer

    def services(self, module: str) -> list[int]:
        """监督者手下运行这个模块（scns_conductor 之下）的进程号。"""
        found = []
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"scns_conductor.{module}".encode() in words and parent == self.process.pid:
                found.append(int(path.name))
        return found

    def kill(self, module: str) -> None:
        """杀死运行这个模块的；监督者会再起。"""
        for pid in self.services(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def background(self) -> int | None:
        """后台进程的号；没有在跑是 None。"""
        return next(iter(self.services("worker.background.process")), None)

    def cancel_everything(self) -> None:
        """取消全部还没有结束的作业，等到一个也不剩。"""

        def left() -> list[str]:
            status, answer = self.call("GET", "/jobs?state=PENDING,RUNNING,SUSPENDED&limit=1000&fields=job_id")
            assert status == 200, answer
            return [job["job_id"] for job in answer["jobs"]]

        while job_ids := left():
            self.call("POST", "/jobs/control", {"action": "cancel", "job_ids": job_ids})
            if len(job_ids) < 1000:
                break
        wait_until(lambda: not left(), what="作业全部取消")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """发信号停它，返回退出码。"""
        self.process.send_signal(number)
        return self.process.wait(STOP_WAIT_S)


def as_user(system: RunningSystem, user: str) -> RunningSystem:
    """同一个系统，换一个普通用户的令牌。"""
    return replace(system, token=issue_token(Settings(data_dir=system.data_dir), user))


@contextlib.contextmanager
def start_system(
    data_dir: Path, *options: str, environment: dict[str, str] | None = None, from_start: bool = False
) -> Iterator[RunningSystem]:
    """启动 scns up，等到就绪；离开时停掉（测试自己停过、杀过的不再管）。from_start：不由载入好了的进程 fork。"""
    ready_file = data_dir.with_name(f"{data_dir.name}.ready.json")
    ready_file.unlink(missing_ok=True)
    copy_template(data_dir)
    command = ["scns_conductor.local", "up", "--data-dir", str(data_dir)]
    if "--web" not in options:
        # 多数测试用不着看板；它有自己的测试（tests/web）。
        command.append("--no-web")
    log_path = data_dir.with_name(f"{data_dir.name}.log")
    with open(log_path, "ab") as log:
        process = warm_processes.start(
            *command, "--port", "0", "--ready-file", str(ready_file), *options,
            env={**os.environ, **(environment or {})}, stdout=log, stderr=log, from_start=from_start,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_WAIT_S
        while not ready_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"scns up 没有就绪（退出码 {process.poll()}）：\n{log_path.read_text()[-4000:]}")
            time.sleep(0.02)
        ready = json.loads(ready_file.read_text())
        assert ready["pid"] == process.pid
        yield RunningSystem(data_dir, process, ready["url"], ready["token"])
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def server_environment(system: RunningSystem) -> dict[str, str]:
    """碰数据库的命令、别的服务进程要的环境变量。"""
    words = shlex.split((system.data_dir / "environment").read_text())
    return dict(word.partition("=")[::2] for word in words if "=" in word)


def database_url(system: RunningSystem) -> str:
    """它的数据库；给 psycopg。"""
    return server_environment(system)["SCNS_DATABASE_URL"]


def forget_jobs(system: RunningSystem) -> None:
    """取消还没有结束的，然后连同历史全部删掉：以后按名字、按状态找的，找不到这里的。"""
    system.cancel_everything()
    with psycopg.connect(database_url(system), autocommit=True) as connection:
        connection.execute("DELETE FROM jobs")
        connection.execute("DELETE FROM history.jobs")


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """停着这些进程：连得上，没有人答话。"""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def second_api(system: RunningSystem, environment: dict[str, str] | None = None) -> Iterator[RunningSystem]:
    """同一套系统，经另一个 API 进程（process 就是它）：只要改 API 的设置时，不必整套另起。"""
    port = free_port()
    # scns up 自己给它的服务定的：单用户。
    single = {"SCNS_SINGLE_USER": "true", "SCNS_ALLOW_ROOT_JOBS": "true"}
    variables = {
        **os.environ,
        **server_environment(system),
        **single,
        **(environment or {}),
        "SCNS_API_PORT": str(port),
    }
    with open(system.data_dir.with_name(f"api-{port}.log"), "wb") as log:
        process = warm_processes.start("scns_conductor.api", "--port", str(port), env=variables, stderr=log)
    try:

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, START_WAIT_S, "第二个 API")
        yield replace(system, url=f"http://127.0.0.1:{port}", process=process)
    finally:
        process.terminate()
        process.wait(60)
