"""被量的系统：一个专为这次起的 scns up；问它话的长连接；直接数数据库里跑完了几个。"""

import contextlib
import http.client
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from scns_conductor.core.database import direct_connection
from scns_conductor.core.settings import Settings

SLOTS = 64
START_WAIT_S = 180.0
STOP_WAIT_S = 120.0
RUN_WAIT_S = 600.0
# 问得太密，问本身就占去 CPU；这么大的误差只会说得慢些。
POLL_S = 0.03


class Failed(Exception):
    """这一项量不下去；说明写进报告，别的项照量。"""


class Wire:
    """一条长连接上的 HTTP：请求的字节自己拼，读法最简，量的是服务器而不是 Python 的 http.client。"""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """发一个请求，返回正文；状态码 400 以上抛 Failed。"""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        length = next(
            int(line.split(b":")[1]) for line in data[:end].split(b"\r\n") if line[:15].lower() == b"content-length:"
        )
        parts, have = [data[end + 4 :]], len(data) - end - 4
        while have < length:
            parts.append(self._more())
            have += len(parts[-1])
        answer = b"".join(parts)
        if int(data[9:12]) >= 400:
            raise Failed(f"{method} {path}：{answer[:500].decode(errors='replace')}")
        return answer

    def _more(self) -> bytes:
        found = self._socket.recv(1 << 20)
        if not found:
            raise Failed("API 断开了连接")
        return found

    def close(self) -> None:
        """断开。"""
        self._socket.close()


class System:
    """一个 scns up；stop 之前一直在。nodes 为 None 是一个节点。"""

    def __init__(self, scratch: Path, *, cpus: int = SLOTS, nodes: int | None = None, settings: Mapping[str, str] = {}):
        self.scratch = scratch
        self.data = scratch / "data"
        ready, log = scratch / "ready.json", scratch / "up.log"
        command = [sys.executable, "-m", "scns_conductor.local", "up", "--data-dir", str(self.data), "--port", "0"]
        command += ["--ready-file", str(ready), "--cpus", str(cpus), "--memory", "64G"]
        if nodes is not None:
            command += ["--nodes", str(nodes)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SCNS_", "SLURM_"))}
        with open(log, "wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**inherited, **settings})
        deadline = time.monotonic() + START_WAIT_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failed(f"scns up 没有起来：{log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.05)
        found = json.loads(ready.read_text())
        self.url, self.token = found["url"], found["token"]
        host, _, port = self.url.removeprefix("http://").partition(":")
        self.host, self.port = host, int(port)
        words = shlex.split((self.data / "environment").read_text())
        self.connections = dict(word.partition("=")[::2] for word in words if "=" in word)
        self.database = direct_connection(
            Settings(database_url=SecretStr(self.connections["SCNS_DATABASE_URL"])), "bench"
        )
        self.job: dict[str, Any] = {"current_working_directory": str(scratch), "standard_output": "/dev/null"}
        self._main = http.client.HTTPConnection(self.host, self.port)

    @property
    def environment(self) -> dict[str, str]:
        """客户端命令要的环境变量。"""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SCNS_", "SLURM_"))}
        return {**clean, "SCNS_URL": self.url, "SCNS_TOKEN": self.token, "SCNS_DATA_DIR": str(self.data)}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """不计时的一次请求；失败抛 Failed。"""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            try:
                self._main.request(method, path, text, headers)
                answer = self._main.getresponse()
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                # 隔得久了，服务器关掉了闲着的连接：请求没有被看到，换一条再发。
                self._main.close()
                self._main.request(method, path, text, headers)
                answer = self._main.getresponse()
            status, data = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._main.close()
            raise Failed(f"{method} {path}：{error}") from error
        if status >= 400:
            raise Failed(f"{method} {path}：{data[:500].decode(errors='replace')}")
        return json.loads(data)

    def wire(self) -> Wire:
        """一条新的长连接。"""
        return Wire(self.host, self.port, self.token)

    def value(self, statement: str, *values: Any) -> Any:
        """一个值。"""
        row = self.database.execute(statement, values).fetchone()
        return None if row is None else row[0]

    def last_job(self) -> int:
        """到现在为止最大的作业号。"""
        return int(self.value("SELECT coalesce(max(job_id), 0) FROM jobs"))

    def completed_after(self, job_id: int) -> int:
        """号比它大的作业跑完了几个。"""
        return int(self.value("SELECT count(*) FROM jobs WHERE state = 'COMPLETED' AND job_id > %s", job_id))

    def wait_completed(self, after: int, count: int, wait_s: float = RUN_WAIT_S) -> None:
        """等到号比 after 大的作业跑完 count 个；有失败的或到时抛 Failed。"""
        deadline = time.monotonic() + wait_s
        while (done := self.completed_after(after)) < count:
            if time.monotonic() > deadline:
                states = self.database.execute(
                    "SELECT state, count(*) FROM jobs WHERE job_id > %s GROUP BY state", [after]
                ).fetchall()
                raise Failed(f"{wait_s:g} 秒里 {count} 个只跑完 {done} 个：{states}")
            time.sleep(POLL_S)

    def wait_until(self, what: str, statement: str, *values: Any, wait_s: float = RUN_WAIT_S) -> None:
        """等到这条语句给出真。"""
        deadline = time.monotonic() + wait_s
        while not self.value(statement, *values):
            if time.monotonic() > deadline:
                raise Failed(f"{wait_s:g} 秒里没有等到：{what}")
            time.sleep(POLL_S)

    def wait_quiet(self, quiet_s: float = 3.0) -> None:
        """等它静下来：没有在跑的作业，收件箱空着，过了一会儿还是。"""
        busy = (
            "SELECT NOT EXISTS (SELECT FROM jobs WHERE state IN ('RUNNING', 'SUSPENDED')) "
            "AND NOT EXISTS (SELECT FROM scheduler_inbox)"
        )
        self.wait_until("静下来", busy)
        time.sleep(quiet_s)
        self.wait_until("静下来", busy)

    def stop(self) -> None:
        """停下；停不下来就杀掉它自己。"""
        if hasattr(self, "database"):
            self.database.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running_system(scratch: Path, name: str, **options: Any) -> Iterator[System]:
    """scratch 下一个名为 name 的系统；离开时停掉。"""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=scratch))
    folder.chmod(0o755)
    system = System(folder, **options)
    try:
        yield system
    finally:
        system.stop()
