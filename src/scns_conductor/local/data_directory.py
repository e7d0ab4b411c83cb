"""数据目录：布局、权限（0700）、一处一个实例的锁、套接字目录。"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import stat
import struct
import tempfile
from pathlib import Path

from scns_conductor.core.errors import SettingsError

# struct sockaddr_un 的 sun_path 是 108 字节，含结尾的 NUL（unix(7)）。
SOCKET_PATH_LIMIT = 107
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
# struct flock：l_type, l_whence, l_start, l_len, l_pid（64 位 Linux，x86-64 与 aarch64 相同）。
_FLOCK = "hhqqi4x"


class AlreadyRunning(Exception):
    """这个数据目录上已有一个实例；pid 是它的进程号。"""

    def __init__(self, directory: Path, pid: int) -> None:
        super().__init__(
            f"{directory} 上已有一个实例在运行（进程号 {pid}）；先停掉它（scns down），或换一个 --data-dir"
        )
        self.pid = pid


class DataDirectory:
    """一个数据目录。构造不碰磁盘；prepare 建立它，lock 独占它。"""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.postgres = self.path / "postgres"
        self.logs = self.path / "logs"
        self.scripts = self.path / "scripts"
        self.lock_file = self.path / "up.lock"
        self.client_file = self.path / "client.json"
        # curl -H @它：令牌不必出现在命令行（ps 看得到）里。
        self.header_file = self.path / "authorization"
        self.environment_file = self.path / "environment"
        self._lock: int | None = None

    def prepare(self) -> None:
        """建立目录（0700）；已有的目录须归启动者所有，权限收紧到 0700。"""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
            if found.st_uid != os.geteuid():
                raise SettingsError(f"{self.path} 属于 uid {found.st_uid}，不是启动者；请换一个 --data-dir")
            if stat.S_IMODE(found.st_mode) != 0o700:
                self.path.chmod(0o700)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"不能使用数据目录 {self.path}：{error.strerror}；请换一个 --data-dir") from error

    def lock(self) -> None:
        """独占；进程结束时内核自动放开。已被占用时抛 AlreadyRunning。"""
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise AlreadyRunning(self.path, self.running_pid() or 0) from None
        self._lock = descriptor

    def deleted(self) -> bool:
        """正独占着的目录被人删掉了（或整个换掉了）：锁着的文件已经没有名字。"""
        return self._lock is not None and os.fstat(self._lock).st_nlink == 0

    def running_pid(self) -> int | None:
        """正在独占这个目录的进程号，没有则为 None。问的是内核，不靠可能过时的 pid 文件。"""
        if self._lock is not None:
            # POSIX 锁在进程关闭该文件的任何一个描述符时就放开，所以持锁者自己不能再打开它。
            return os.getpid()
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, request))
        finally:
            os.close(descriptor)
        return None if answer[0] == fcntl.F_UNLCK else int(answer[4])

    def unlock(self) -> None:
        """放开独占。"""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def socket_directory(self) -> Path:
        """放套接字的目录：数据目录下的 run；路径太长或文件系统不支持套接字时，用 /run 或 /tmp 下的私有目录（0700）。"""
        inside = self.path / "run"
        if len(os.fsencode(inside / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_LIMIT and _holds_sockets(self.path):
            return inside
        tag = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
        outside = base / f"scns-{os.geteuid()}-{tag}"
        # 上层目录人人可写，名字可能被别人抢先占用：必须是自己建的目录，不是链接。
        with contextlib.suppress(FileExistsError):
            outside.mkdir(mode=0o700)
        found = outside.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise SettingsError(f"{outside} 已被别人占用，不能放套接字；请用短一些的 --data-dir")
        outside.chmod(0o700)
        return outside / "run"


def read_web_url(directory: DataDirectory) -> str | None:
    """正在运行的系统的看板的地址；没有在运行、没有装看板是 None。"""
    try:
        return str(json.loads(directory.client_file.read_text())["web"])
    except (OSError, ValueError, KeyError):
        return None


def _holds_sockets(directory: Path) -> bool:
    """这个文件系统能不能放套接字（有的网络或共享文件系统不能）；试一次便知。"""
    probe = directory / f".probe{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(probe))
        except OSError:
            return False
    probe.unlink()
    return True


def write_private(path: Path, text: str) -> None:
    """原子地写一个 0600 的文件：先写临时文件再改名，读者看不到半个文件。"""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
