"""代理开工之前：目录、独占锁、作业环境里属于节点的值。"""

import contextlib
import fcntl
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scns_conductor.core.errors import SettingsError
from scns_conductor.worker.agent.devices import NodeInventory
from scns_conductor.worker.agent.gpus.cards import Cards
from scns_conductor.worker.agent.job_environment import NodeContext
from scns_conductor.worker.host.thread_owner import within

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# 作业里的客户端命令靠它们找到 API；多用户时只带地址，令牌各人自备。
PASSED_ON_ALWAYS = ("SCNS_URL",)
# OMPI_MCA_btl 是 scns up --nodes 写的：几个节点在一台机器上（见 local/system.py）。
PASSED_ON_SINGLE_USER = ("SCNS_DATA_DIR", "SCNS_TOKEN_FILE", "OMPI_MCA_btl")
SCRIPT_FOLDER_WAIT_S = 5.0

logger = logging.getLogger(__name__)


def node_context(settings: "Settings", inventory: NodeInventory, cards: Cards) -> NodeContext:
    """作业环境里属于节点的值。"""
    programs = os.path.dirname(sys.executable)
    base = os.environ.get("PATH", SYSTEM_PATH) if settings.single_user else SYSTEM_PATH
    search_path = base if programs in base.split(":") else f"{base}:{programs}"
    names = PASSED_ON_ALWAYS + (PASSED_ON_SINGLE_USER if settings.single_user else ())
    passed_on = {name: os.environ[name] for name in names if name in os.environ}
    if settings.api_url is not None:
        passed_on.setdefault("SCNS_URL", settings.api_url)
    if settings.single_user:
        passed_on.setdefault("SCNS_DATA_DIR", str(settings.data_dir))
    return NodeContext(
        cluster_name=settings.cluster_name,
        node_name=settings.node_name,
        node_address=settings.node_address or settings.node_name,
        search_path=search_path,
        language=os.environ.get("LANG", "C.UTF-8"),
        passed_on=passed_on,
        topology=settings.node_topology or "",
        cpu_threads=inventory.cpu_threads,
        cards=cards,
        share_counts={index: count for index, (_, count) in inventory.shares.items()},
    )


def prepare_directories(settings: "Settings") -> None:
    """建立工作目录（0700）与脚本目录：多用户时脚本目录 0711，用户走得进去、看不见别人的、改不了任何东西。

    脚本目录不答话的不等：运行着的作业还要有人管，它由看盘的说（own_disks.py）。建不了的抛 SettingsError。
    """
    _prepare_spool(settings.spool_path)
    scripts = settings.script_path
    try:
        if not within(SCRIPT_FOLDER_WAIT_S, lambda: _prepare_scripts(scripts, settings.single_user)):
            logger.warning("script_folder_silent", extra={"folder": str(scripts)})
    except OSError as error:
        raise SettingsError(f"不能使用脚本目录 {scripts}：{error.strerror}；请改 SCNS_SCRIPT_DIR") from error


def _prepare_spool(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"不能使用工作目录 {folder}：{error.strerror}；请改 SCNS_SPOOL_DIR") from error


def _prepare_scripts(folder: Path, single_user: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700 if single_user else 0o711)


def token_secret(settings: "Settings") -> bytes | None:
    """算作业令牌的密钥：本节点自己的，0600，代理重启后不变；单用户模式没有。"""
    if settings.single_user:
        return None
    _prepare_spool(settings.spool_path)
    path = settings.spool_path / "job-token.key"
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(fd)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise SettingsError(f"{path} 的长度不对；请删除它，代理会重新生成（运行中的作业要重启才有新令牌）")
    return secret


def lock_spool(settings: "Settings") -> int:
    """一个工作目录只许一个代理；已有一个时抛 SettingsError。"""
    fd = os.open(settings.spool_path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise SettingsError(
            f"节点 {settings.node_name} 已有一个代理在运行（进程 {holder}，目录 {settings.spool_path}）；"
            "同一台机器上再开一个节点请另给 SCNS_NODE_NAME"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
