"""起一套真的 Slurm（Debian 的包）：munged、MariaDB、slurmdbd、slurmctld、slurmd，全在一个临时目录与回环地址上。

slurm_compare.py 用它；只用标准库，要 root。单独执行时起好之后打印 SLURM_CONF，等到按回车（或标准输入到头）再停。
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CORE = ("sbatch", "squeue", "scontrol", "slurmctld", "slurmd", "munged")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")
ACCOUNTING_WAIT_S = 60.0

CONFIGURATION = """ClusterName=compare
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} \\
  CPUs={cpus} RealMemory={memory_mb}{gres} State=UNKNOWN
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=node1 MaxTime=10 State=UP
"""
WITH_ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={folder}/munge.socket
"""
SLURMDBD = """AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting_port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
"""


def missing(names: tuple[str, ...]) -> list[str]:
    """哪些程序没有装。"""
    return [name for name in names if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]


class RealSlurm:
    """一套真的 Slurm；start 之后 stop。有 slurmdbd 与 MariaDB 就带上记账（accounting 为假则不带）。

    extra 是附加的 slurm.conf 的行。
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        cpus: int = 4,
        memory_mb: int = 8192,
        gpus: int = 0,
        accounting: bool = True,
        extra: str = "",
    ) -> None:
        self.folder = folder
        self.port = port
        self.cpus = cpus
        self.memory_mb = memory_mb
        self.gpus = gpus
        self.extra = extra
        self.accounting = accounting and not missing(ACCOUNTING)
        self.configuration = folder / "slurm.conf"
        self._pids: list[Path] = []
        self._database: subprocess.Popen[bytes] | None = None

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """命令要的环境。"""
        return base | {"SLURM_CONF": str(self.configuration)}

    def start(self) -> None:
        """依次起各个进程；起不来抛 CalledProcessError 或 RuntimeError。"""
        folder = self.folder
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        values = {
            "host": os.uname().nodename, "folder": folder, "port": self.port, "node_port": self.port + 1,
            "accounting_port": self.port + 2, "database_port": self.port + 3,
            "cpus": self.cpus, "memory_mb": self.memory_mb, "gres": f" Gres=gpu:{self.gpus}" if self.gpus else "",
        }  # fmt: skip
        text = CONFIGURATION + (WITH_ACCOUNTING if self.accounting else "")
        if self.gpus:
            text = "GresTypes=gpu\nAccountingStorageTRES=gres/gpu\n" + text
            # 假的卡：与 /dev/null 一样的设备，slurmd 只看它在不在。
            for index in range(self.gpus):
                os.mknod(folder / f"gpu{index}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{self.gpus - 1}]\n")
        self.configuration.write_text(text.format(**values) + self.extra)
        self._start_munge()
        if self.accounting:
            self._start_accounting(SLURMDBD.format(**values))
        for name in ("slurmctld", "slurmd"):
            self._run(f"/usr/sbin/{name}", "-f", str(self.configuration))
            self._pids.insert(0, folder / f"{name}.pid")

    def _run(self, *words: str) -> None:
        environment = dict(os.environ, PATH=f"{os.environ['PATH']}:/usr/sbin", SLURM_CONF=str(self.configuration))
        subprocess.run(words, check=True, capture_output=True, timeout=60, env=environment)

    def _start_munge(self) -> None:
        secret = self.folder / "munge"
        secret.mkdir(mode=0o700)
        (secret / "key").write_bytes(os.urandom(1024))
        (secret / "key").chmod(0o600)
        munge = [f"--{key}={secret / name}" for key, name in (("key-file", "key"), ("seed-file", "seed"))]
        munge += [f"--socket={self.folder}/munge.socket", f"--pid-file={secret}/pid", f"--log-file={secret}/log"]
        self._run("munged", *munge, "--force")
        self._pids.append(secret / "pid")

    def _start_accounting(self, configuration: str) -> None:
        folder, data = self.folder, self.folder / "mariadb"
        self._run(
            "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip
        setup = folder / "setup.sql"
        setup.write_text(
            "CREATE DATABASE slurm_acct;\nCREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';\n"
        )
        with (folder / "mariadb.log").open("wb") as log:
            self._database = subprocess.Popen(
                ["/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={data}",
                 f"--socket={folder}/mariadb.socket", "--bind-address=127.0.0.1", f"--port={self.port + 3}",
                 f"--init-file={setup}", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF",
                 "--skip-name-resolve"],
                stdout=log, stderr=log,
            )  # fmt: skip
        if not wait(lambda: (folder / "mariadb.socket").exists(), ACCOUNTING_WAIT_S):
            raise RuntimeError(f"MariaDB 没有起来，见 {folder / 'mariadb.log'}")
        # slurmdbd 只认 SLURM_CONF 旁边的 slurmdbd.conf，而且要求 0600。
        (folder / "slurmdbd.conf").write_text(configuration)
        (folder / "slurmdbd.conf").chmod(0o600)
        self._run("/usr/sbin/slurmdbd")
        self._pids.insert(0, folder / "slurmdbd.pid")
        self._run_until("sacctmgr", "-i", "add", "cluster", "compare")
        self._run_until("sacctmgr", "-i", "add", "account", "root_jobs", "cluster=compare")

    def _run_until(self, *words: str) -> None:
        """slurmdbd 建表要几秒：试到成功为止。"""

        def done() -> bool:
            try:
                self._run(*words)
            except subprocess.CalledProcessError as error:
                return b"already" in error.stdout + error.stderr or b"Nothing new" in error.stdout
            return True

        if not wait(done, ACCOUNTING_WAIT_S):
            raise RuntimeError(f"slurmdbd 没有应答 {' '.join(words)}，见 {self.folder / 'slurmdbd.log'}")

    def stop(self) -> None:
        """按进程号停掉起过的进程。"""
        for file in self._pids:
            if file.exists():
                pid = int(file.read_text())
                os.kill(pid, signal.SIGTERM)
                wait(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 20.0)
        if self._database is not None:
            self._database.terminate()
            self._database.wait(30)


def wait(condition: Callable[[], object], wait_s: float) -> bool:
    """等 condition；到时没有就返回假。"""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main() -> int:
    """起好，等标准输入，停掉。"""
    absent = missing(CORE)
    if absent:
        print(f"没有装 Slurm：缺 {' '.join(absent)}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="slurm-real-"))
    folder.chmod(0o755)
    slurm = RealSlurm(folder / "slurm", int(sys.argv[1]) if len(sys.argv) > 1 else 16917)
    try:
        slurm.start()
        print(f"export SLURM_CONF={slurm.configuration}", flush=True)
        sys.stdin.read()
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
